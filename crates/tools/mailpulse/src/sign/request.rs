//! A signed body on its way: as the bytes of an HTTP request, or as a command that sends them.

use testkit::seal::Sealed;

use crate::Unusable;
use crate::args::Sign;

/// Where requests go without `--url`: the ingress as it listens by default.
const INGRESS: &str = "http://127.0.0.1:8080";

/// Where a request goes.
pub(super) struct Place {
    url: String,
    host: String,
    target: String,
}

impl Place {
    /// `--url`, or the source's path on this machine's ingress.
    pub(super) fn new(how: &Sign) -> Self {
        let default = || format!("{INGRESS}/webhooks/{}/{}", how.provider, how.source);
        let url = how.scheme.url.clone().unwrap_or_else(default);
        let rest = url.split_once("://").map_or(&*url, |(_, rest)| rest);
        let (authority, target) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        // Credentials in the address are for the client, not for the Host header.
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        Self { host: host.to_owned(), target: target.to_owned(), url }
    }
}

/// An HTTP/1.1 request.
pub(super) fn http(place: &Place, sealed: &Sealed) -> Vec<u8> {
    let mut head = format!("POST {} HTTP/1.1\r\nhost: {}\r\n", place.target, place.host);
    for (name, value) in &sealed.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n", sealed.body.len());
    [head.as_bytes(), &sealed.body].concat()
}

/// A command for any POSIX shell.
pub(super) fn curl(place: &Place, sealed: &Sealed) -> Result<Vec<u8>, Unusable> {
    if sealed.body.contains(&0) {
        let text = "the body has a zero byte, which no command line can hold: leave --curl out";
        return Err(Unusable(text.to_owned()));
    }
    let mut command = b"curl --request POST ".to_vec();
    command.extend(quoted(place.url.as_bytes()));
    for (name, value) in &sealed.headers {
        command.extend_from_slice(b" \\\n  --header ");
        command.extend(quoted(format!("{name}: {value}").as_bytes()));
    }
    command.extend_from_slice(b" \\\n  --data-raw ");
    command.extend(quoted(&sealed.body));
    command.push(b'\n');
    Ok(command)
}

/// One word for the shell, byte for byte: nothing is special between single quotes but their end.
fn quoted(bytes: &[u8]) -> Vec<u8> {
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

    fn sealed(body: &'static [u8]) -> Sealed {
        Sealed { headers: vec![("x-a".into(), "it's".into())], body: body.into() }
    }

    #[test]
    fn requests_and_commands_hold_every_byte() {
        let place =
            Place { url: "https://a.test/x".into(), host: "a.test".into(), target: "/x".into() };
        assert_eq!(
            http(&place, &sealed(b"\xff\r\n")),
            b"POST /x HTTP/1.1\r\nhost: a.test\r\nx-a: it's\r\ncontent-length: 3\r\n\r\n\xff\r\n"
        );
        assert_eq!(
            curl(&place, &sealed(b"@'\n")).unwrap(),
            b"curl --request POST 'https://a.test/x' \\\n  --header 'x-a: it'\\''s' \\\n  \
              --data-raw '@'\\''\n'\n"
        );
        assert!(curl(&place, &sealed(b"\0")).is_err());
    }
}
