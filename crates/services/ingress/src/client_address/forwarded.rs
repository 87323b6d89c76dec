//! The header `Forwarded` by the grammar of RFC 7239 §4.
//!
//! The header has quoted strings, so a client could open one that swallows what a proxy appends
//! behind it. A line is therefore read completely or not at all.

use std::net::IpAddr;

use super::{MAX_HOPS, parse_address};

/// Returns the `for` addresses of one header line, nearest first, with `None` for each element
/// without an address. The result of a malformed line is one `None`.
pub(super) fn hops(line: &[u8]) -> Vec<Option<IpAddr>> {
    let mut hops = elements(line).unwrap_or_else(|| vec![None]);
    hops.reverse();
    hops.truncate(MAX_HOPS);
    hops
}

/// Reads `[ element ] *( OWS "," OWS [ element ] )`; `None` if the line is malformed.
fn elements(line: &[u8]) -> Option<Vec<Option<IpAddr>>> {
    let mut rest = Rest(line);
    let mut hops = Vec::new();
    loop {
        rest.skip_white_space();
        // RFC 9110 §5.6.1.2: a recipient accepts empty elements.
        if !matches!(rest.0.first(), None | Some(b',')) {
            hops.push(rest.element()?);
            rest.skip_white_space();
        }
        if rest.0.is_empty() {
            return Some(hops);
        }
        rest.take(b',')?;
    }
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    /// Reads `[ pair ] *( ";" [ pair ] )` with at most one `for` (§4: a parameter must not occur
    /// more than once).
    ///
    /// White space around `;` is tolerated: some proxies write it, and it cannot be confused.
    fn element(&mut self) -> Option<Option<IpAddr>> {
        let mut address = None;
        loop {
            if !matches!(self.0.first(), None | Some(b';' | b',')) {
                let name = self.token()?;
                self.take(b'=')?;
                let node = parse_node(&self.value()?);
                if name.eq_ignore_ascii_case(b"for") && address.replace(node).is_some() {
                    return None;
                }
            }
            self.skip_white_space();
            if self.take(b';').is_none() {
                return Some(address.flatten());
            }
            self.skip_white_space();
        }
    }

    fn value(&mut self) -> Option<Vec<u8>> {
        if self.take(b'"').is_none() {
            return self.token().map(<[u8]>::to_vec);
        }
        let mut value = Vec::new();
        loop {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            match byte {
                b'"' => return Some(value),
                b'\\' => {
                    let (&escaped, rest) = self.0.split_first()?;
                    self.0 = rest;
                    value.push(escaped);
                }
                _ => value.push(byte),
            }
        }
    }

    /// Reads a token (RFC 9110 §5.6.2).
    fn token(&mut self) -> Option<&'a [u8]> {
        let is_token =
            |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let length = self.0.iter().position(|byte| !is_token(byte)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(length);
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[byte])?;
        Some(())
    }

    fn skip_white_space(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }
}

/// Parses a node (§6) that is an address, with or without a port.
fn parse_node(node: &[u8]) -> Option<IpAddr> {
    parse_address(std::str::from_utf8(node).ok()?)
}
