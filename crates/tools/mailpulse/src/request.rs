//! Reads a captured HTTP request: request line, headers, an empty line, and the bytes of the body.
//!
//! Captures come from proxies, logs and editors. Therefore lines of the head may end with CRLF or
//! LF, and empty lines and `#` comments may precede it. The bytes of the body are not changed.

mod body;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

#[derive(Debug)]
pub(crate) struct CapturedRequest {
    pub(crate) method: Method,
    /// The target of the request line: a path or a URL.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    /// The signed bytes: chunks are joined and `gzip` is unpacked.
    pub(crate) body: Vec<u8>,
    /// Remarks about the capture, such as missing bytes.
    pub(crate) notes: Vec<String>,
}

/// The bytes are not an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CaptureError {
    #[error("the input is empty")]
    Empty,
    #[error(
        "the first line is not a request line such as `POST /webhooks/mailgun/shop HTTP/1.1`, \
         but {0:?}"
    )]
    RequestLine(String),
    #[error("line {line} is not a header such as `Name: value`: {text:?}")]
    Header { line: usize, text: String },
    #[error("there is no empty line after the headers: the capture is incomplete")]
    Unfinished,
    #[error("the body cannot be read: {0}")]
    Body(&'static str),
}

impl CapturedRequest {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, CaptureError> {
        let mut lines = HeadLines::new(bytes);
        let (method, target) = request_line(&mut lines)?;
        let headers = headers(&mut lines)?;
        let mut notes = Vec::new();
        let body = body::read(&headers, lines.rest, &mut notes)?;
        Ok(Self { method, target, headers, body, notes })
    }

    /// Returns the URL of the request according to its target and its `Host` header. Proxies may
    /// have changed both, so the signed URL may differ.
    pub(crate) fn apparent_url(&self) -> Option<String> {
        if self.target.starts_with("http") {
            return Some(self.target.clone());
        }
        let host = self.headers.get(http::header::HOST)?.to_str().ok()?;
        Some(format!("https://{host}{}", self.target))
    }
}

/// Reads lines of the head. After the last one, `rest` is the body.
struct HeadLines<'b> {
    rest: &'b [u8],
    number: usize,
}

impl<'b> HeadLines<'b> {
    fn new(bytes: &'b [u8]) -> Self {
        // Some editors on Windows write a byte order mark at the beginning.
        Self { rest: bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes), number: 0 }
    }

    /// Returns the next line without its line end.
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

fn request_line(lines: &mut HeadLines<'_>) -> Result<(Method, String), CaptureError> {
    let is_skipped = |line: &[u8]| line.trim_ascii().is_empty() || line.starts_with(b"#");
    let line = loop {
        match lines.next() {
            Some(line) if is_skipped(line) => {}
            Some(line) => break line,
            None => return Err(CaptureError::Empty),
        }
    };
    let error = || CaptureError::RequestLine(crate::text::truncate_line(line, 60));
    let text = std::str::from_utf8(line).map_err(|_| error())?;
    let mut words = text.split_ascii_whitespace();
    let (method, target) = (words.next().ok_or_else(error)?, words.next().ok_or_else(error)?);
    let is_version = words.next().is_none_or(|version| version.starts_with("HTTP/"));
    let is_target = target.starts_with('/') || target.starts_with("http");
    let is_method = method.bytes().all(|byte| byte.is_ascii_uppercase());
    if !is_version || words.next().is_some() || !is_target || !is_method {
        return Err(error());
    }
    target.parse::<Uri>().map_err(|_| error())?;
    Ok((method.parse().map_err(|_| error())?, target.to_owned()))
}

fn headers(lines: &mut HeadLines<'_>) -> Result<HeaderMap, CaptureError> {
    let mut all: Vec<(HeaderName, Vec<u8>, usize, &[u8])> = Vec::new();
    loop {
        let line = lines.next().ok_or(CaptureError::Unfinished)?;
        if line.is_empty() {
            break;
        }
        let error = || CaptureError::Header {
            line: lines.number,
            text: crate::text::truncate_line(line, 60),
        };
        // The next line of a folded header (RFC 9112 §5.2) begins with white space.
        if let (b' ' | b'\t', Some((_, value, ..))) = (line[0], all.last_mut()) {
            value.push(b' ');
            value.extend_from_slice(line.trim_ascii());
            continue;
        }
        let colon = line.iter().position(|&byte| byte == b':').ok_or_else(error)?;
        let name = HeaderName::from_bytes(line[..colon].trim_ascii()).map_err(|_| error())?;
        all.push((name, line[colon + 1..].trim_ascii().to_vec(), lines.number, line));
    }
    let mut headers = HeaderMap::with_capacity(all.len());
    for (name, value, line, text) in all {
        let value = HeaderValue::from_bytes(&value).map_err(|_| CaptureError::Header {
            line,
            text: crate::text::truncate_line(text, 60),
        })?;
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;
