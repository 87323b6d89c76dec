//! A captured HTTP request: request line, headers, an empty line, and the bytes of the body.
//!
//! Captures come from proxies, logs and editors, so the head is read generously: its lines may end
//! with CRLF or LF, empty lines and `#` comments may precede it. The body is taken to the byte.

mod body;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

/// A request as it was captured.
#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) method: Method,
    /// As it stands in the request line: a path, or a whole address.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    /// What the signature is about: chunks joined, `gzip` undone.
    pub(crate) body: Vec<u8>,
    /// What is odd about the capture, a sentence each.
    pub(crate) notes: Vec<String>,
}

/// The bytes are not an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotARequest {
    #[error("there is nothing in it")]
    Empty,
    #[error(
        "it does not begin with a request line such as `POST /webhooks/mailgun/shop HTTP/1.1`; \
         it begins with {0:?}"
    )]
    RequestLine(String),
    #[error("line {line} is no header such as `Name: value`: {text:?}")]
    Header { line: usize, text: String },
    #[error("there is no empty line behind its headers: it was cut short")]
    Unfinished,
    #[error("the body cannot be read: {0}")]
    Body(&'static str),
}

impl Captured {
    /// Reads a capture.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, NotARequest> {
        let mut lines = Lines::new(bytes);
        let (method, target) = request_line(&mut lines)?;
        let headers = headers(&mut lines)?;
        let mut notes = Vec::new();
        let body = body::read(&headers, lines.rest, &mut notes)?;
        Ok(Self { method, target, headers, body, notes })
    }

    /// Where the request went, as far as its own words tell. Not what was signed: whoever sits in
    /// front of us may have changed either.
    pub(crate) fn apparent_url(&self) -> Option<String> {
        if self.target.starts_with("http") {
            return Some(self.target.clone());
        }
        let host = self.headers.get(http::header::HOST)?.to_str().ok()?;
        Some(format!("https://{host}{}", self.target))
    }
}

/// Lines of the head, and after its end what follows.
struct Lines<'b> {
    rest: &'b [u8],
    number: usize,
}

impl<'b> Lines<'b> {
    fn new(bytes: &'b [u8]) -> Self {
        // Editors on Windows begin a file with a byte order mark.
        Self { rest: bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes), number: 0 }
    }

    /// The next line without its end; `None` after the last.
    fn next(&mut self) -> Option<&'b [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        self.number += 1;
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let (line, rest) = match end {
            Some(at) => (&self.rest[..at], &self.rest[at + 1..]),
            None => (self.rest, &[][..]),
        };
        self.rest = rest;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

fn request_line(lines: &mut Lines<'_>) -> Result<(Method, String), NotARequest> {
    let is_before = |line: &[u8]| line.trim_ascii().is_empty() || line.starts_with(b"#");
    let line = loop {
        match lines.next() {
            Some(line) if is_before(line) => {}
            Some(line) => break line,
            None => return Err(NotARequest::Empty),
        }
    };
    let not_one = || NotARequest::RequestLine(crate::text::cut(line, 60));
    let text = std::str::from_utf8(line).map_err(|_| not_one())?;
    let mut words = text.split_ascii_whitespace();
    let (method, target) = (words.next().ok_or_else(not_one)?, words.next().ok_or_else(not_one)?);
    let is_version = words.next().is_none_or(|version| version.starts_with("HTTP/"));
    let is_target = target.starts_with('/') || target.starts_with("http");
    let is_method = method.bytes().all(|byte| byte.is_ascii_uppercase());
    if !is_version || words.next().is_some() || !is_target || !is_method {
        return Err(not_one());
    }
    target.parse::<Uri>().map_err(|_| not_one())?;
    Ok((method.parse().map_err(|_| not_one())?, target.to_owned()))
}

fn headers(lines: &mut Lines<'_>) -> Result<HeaderMap, NotARequest> {
    let mut all: Vec<(HeaderName, Vec<u8>, usize, &[u8])> = Vec::new();
    loop {
        let line = lines.next().ok_or(NotARequest::Unfinished)?;
        if line.is_empty() {
            break;
        }
        let not_one =
            || NotARequest::Header { line: lines.number, text: crate::text::cut(line, 60) };
        // The next line of a folded header (RFC 9112 §5.2) begins with white space.
        if let (b' ' | b'\t', Some((_, value, ..))) = (line[0], all.last_mut()) {
            value.push(b' ');
            value.extend_from_slice(line.trim_ascii());
            continue;
        }
        let colon = line.iter().position(|&byte| byte == b':').ok_or_else(not_one)?;
        let name = HeaderName::from_bytes(line[..colon].trim_ascii()).map_err(|_| not_one())?;
        all.push((name, line[colon + 1..].trim_ascii().to_vec(), lines.number, line));
    }
    let mut headers = HeaderMap::with_capacity(all.len());
    for (name, value, line, text) in all {
        let value = HeaderValue::from_bytes(&value)
            .map_err(|_| NotARequest::Header { line, text: crate::text::cut(text, 60) })?;
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;
