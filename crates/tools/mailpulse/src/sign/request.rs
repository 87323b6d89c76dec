//! Writes a signed body as an HTTP request or as a curl command.

use testkit::signers::SignedBody;

use crate::InputError;
use crate::args::Sign;

/// The default address of the ingress.
const INGRESS: &str = "http://127.0.0.1:8080";

pub(super) struct Destination {
    url: String,
    host: String,
    target: String,
}

impl Destination {
    /// Returns `--url`, or the source's path at an ingress on this machine.
    pub(super) fn new(args: &Sign) -> Self {
        let default = || format!("{INGRESS}/webhooks/{}/{}", args.provider, args.source);
        let url = args.scheme.url.clone().unwrap_or_else(default);
        let rest = url.split_once("://").map_or(&*url, |(_, rest)| rest);
        let (authority, target) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        // Credentials in the URL do not belong in the Host header.
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        Self { host: host.to_owned(), target: target.to_owned(), url }
    }
}

/// Returns an HTTP/1.1 request.
pub(super) fn http(destination: &Destination, signed_body: &SignedBody) -> Vec<u8> {
    let mut head =
        format!("POST {} HTTP/1.1\r\nhost: {}\r\n", destination.target, destination.host);
    for (name, value) in &signed_body.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n", signed_body.body.len());
    [head.as_bytes(), &signed_body.body].concat()
}

/// Returns a command for any POSIX shell.
pub(super) fn curl(
    destination: &Destination,
    signed_body: &SignedBody,
) -> Result<Vec<u8>, InputError> {
    if signed_body.body.contains(&0) {
        let text = "the body has a zero byte, which a command line cannot contain: omit --curl";
        return Err(InputError(text.to_owned()));
    }
    let mut command = b"curl --request POST ".to_vec();
    command.extend(quote(destination.url.as_bytes()));
    for (name, value) in &signed_body.headers {
        command.extend_from_slice(b" \\\n  --header ");
        command.extend(quote(format!("{name}: {value}").as_bytes()));
    }
    command.extend_from_slice(b" \\\n  --data-raw ");
    command.extend(quote(&signed_body.body));
    command.push(b'\n');
    Ok(command)
}

/// Quotes a word for the shell. Between single quotes, only the single quote is special.
fn quote(bytes: &[u8]) -> Vec<u8> {
    let mut word = vec![b'\''];
    for &byte in bytes {
        match byte {
            b'\'' => word.extend_from_slice(br"'\''"),
            other => word.push(other),
        }
    }
    word.push(b'\'');
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(body: &'static [u8]) -> SignedBody {
        SignedBody { headers: vec![("x-a".into(), "it's".into())], body: body.into() }
    }

    #[test]
    fn requests_and_commands_contain_every_byte() {
        let destination = Destination {
            url: "https://a.test/x".into(),
            host: "a.test".into(),
            target: "/x".into(),
        };
        assert_eq!(
            http(&destination, &signed(b"\xff\r\n")),
            b"POST /x HTTP/1.1\r\nhost: a.test\r\nx-a: it's\r\ncontent-length: 3\r\n\r\n\xff\r\n"
        );
        assert_eq!(
            curl(&destination, &signed(b"@'\n")).unwrap(),
            b"curl --request POST 'https://a.test/x' \\\n  --header 'x-a: it'\\''s' \\\n  \
              --data-raw '@'\\''\n'\n"
        );
        assert!(curl(&destination, &signed(b"\0")).is_err());
    }
}
