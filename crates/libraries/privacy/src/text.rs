//! Replaces addresses in plain text.

use std::borrow::Cow;
use std::collections::VecDeque;

use crate::{Replacement, Rewriter};

/// Returns true if a text contains `@` or its escape `%40` (`%2540`…) or `\u0040`. Only then is a
/// search for addresses necessary.
pub(crate) fn may_contain_address(text: &[u8]) -> bool {
    text.contains(&b'@') || text.windows(2).any(|pair| pair == b"40")
}

/// How many addresses one quoted local part may contain. RFC 5321 allows it 64 characters.
const MAX_QUOTED: usize = 32;

/// Returns the text with the local part of every address replaced. All other bytes, domains
/// included, stay unchanged.
pub(crate) fn rewrite<'t>(rewriter: &Rewriter<'_>, text: &'t [u8]) -> Cow<'t, [u8]> {
    if !may_contain_address(text) {
        return Cow::Borrowed(text);
    }
    let decoded = Decoded::from(text);
    let mut rewritten = Vec::new();
    let mut copied = 0;
    // For each of the last replacements: its start, and `rewritten.len()` and `copied` before it.
    let mut last: VecDeque<(usize, usize, usize)> = VecDeque::new();
    for found in addresses(&decoded.bytes) {
        let address = &decoded.bytes[found.start..found.end];
        let Some(Replacement { kept, text: replacement }) = rewriter.replacement(address) else {
            continue;
        };
        let (start, at) = (decoded.position(found.start + kept), decoded.position(found.at));
        // A quoted local part may contain addresses, `"a@b"@c`. They are parts of this one.
        while let Some((_, length, copied_before)) =
            last.pop_back_if(|(inner_start, ..)| start <= *inner_start)
        {
            rewritten.truncate(length);
            copied = copied_before;
        }
        // It may also begin inside of the previous address: `a"@b"@c`.
        let start = start.max(copied);
        last.push_back((start, rewritten.len(), copied));
        if last.len() > MAX_QUOTED {
            last.pop_front();
        }
        rewritten.extend_from_slice(&text[copied..start]);
        rewritten.extend_from_slice(replacement.as_bytes());
        copied = at;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    rewritten.extend_from_slice(&text[copied..]);
    Cow::Owned(rewritten)
}

/// A text without escapes, and the position of each byte in the original text.
struct Decoded<'t> {
    bytes: Cow<'t, [u8]>,
    /// The position in the original of each byte; empty if the text contains no escapes.
    positions: Vec<usize>,
}

impl<'t> Decoded<'t> {
    fn from(text: &'t [u8]) -> Self {
        if !text.iter().any(|byte| matches!(byte, b'%' | b'\\')) {
            return Self { bytes: Cow::Borrowed(text), positions: Vec::new() };
        }
        let (mut bytes, mut positions) = (Vec::with_capacity(text.len()), Vec::new());
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            let (character, length) = match rest[0] {
                b'%' => decode_percent(rest),
                b'\\' => decode_backslash(rest),
                byte => (Character::from(byte), 1),
            };
            bytes.extend_from_slice(character.bytes());
            positions.resize(bytes.len(), at);
            at += length;
        }
        Self { bytes: Cow::Owned(bytes), positions }
    }

    /// Returns the position in the original text of the decoded byte `at`.
    fn position(&self, at: usize) -> usize {
        self.positions.get(at).copied().unwrap_or(at)
    }
}

/// A decoded escape: one byte, or the UTF-8 bytes of a character.
struct Character {
    bytes: [u8; 4],
    length: usize,
}

impl Character {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl From<u8> for Character {
    fn from(byte: u8) -> Self {
        Self { bytes: [byte, 0, 0, 0], length: 1 }
    }
}

impl From<char> for Character {
    fn from(character: char) -> Self {
        let mut bytes = [0; 4];
        let length = character.encode_utf8(&mut bytes).len();
        Self { bytes, length }
    }
}

/// Decodes `%40`, also if it was encoded several times: `%2540`, `%252540`. A `%` without two digits
/// is a percent sign. Returns the character and the length of its escape.
fn decode_percent(text: &[u8]) -> (Character, usize) {
    let (mut byte, mut length) = (b'%', 1);
    while byte == b'%' {
        let Some(&[high, low]) = text.get(length..length + 2) else { break };
        let (Some(high), Some(low)) = (hex_digit(high), hex_digit(low)) else { break };
        byte = (high << 4 | low) as u8;
        length += 2;
    }
    (Character::from(byte), length)
}

/// Decodes a JSON escape (RFC 8259 §7) after any number of backslashes, because JSON inside JSON has
/// several. Backslashes before another character are one backslash. Returns the character and the
/// length of its escape.
fn decode_backslash(text: &[u8]) -> (Character, usize) {
    let slashes = text.iter().take_while(|&&byte| byte == b'\\').count();
    match text.get(slashes) {
        Some(b'u') => decode_unicode(text, slashes).unwrap_or((Character::from(b'\\'), slashes)),
        Some(b'b' | b'f' | b'n' | b'r' | b't') => (Character::from(b'\n'), slashes + 1),
        Some(&byte @ (b'"' | b'/')) => (Character::from(byte), slashes + 1),
        _ => (Character::from(b'\\'), slashes),
    }
}

/// Decodes `\u0040`, or a surrogate pair. An unpaired surrogate becomes U+FFFD.
fn decode_unicode(text: &[u8], slashes: usize) -> Option<(Character, usize)> {
    let length = slashes + 5;
    let first = code_unit(text, slashes)?;
    if let Some(character) = char::from_u32(first) {
        return Some((Character::from(character), length));
    }
    let second = text.get(length..).and_then(|rest| code_unit(rest, slashes)).unwrap_or_default();
    let units = [first, second].map(|unit| u16::try_from(unit).unwrap_or_default());
    match char::decode_utf16(units).next() {
        Some(Ok(character)) => Some((Character::from(character), 2 * length)),
        _ => Some((Character::from(char::REPLACEMENT_CHARACTER), length)),
    }
}

/// Returns the UTF-16 code unit of `uXXXX` after exactly `slashes` backslashes.
fn code_unit(text: &[u8], slashes: usize) -> Option<u32> {
    let (head, digits) = text.get(..slashes + 5)?.split_at(slashes + 1);
    let is_escape = head.ends_with(b"u") && head[..slashes].iter().all(|&byte| byte == b'\\');
    let value = |value, &byte: &u8| Some(value << 4 | hex_digit(byte)?);
    is_escape.then(|| digits.iter().try_fold(0, value)).flatten()
}

fn hex_digit(byte: u8) -> Option<u32> {
    char::from(byte).to_digit(16)
}

/// The byte range of an address in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AddressSpan {
    start: usize,
    /// The position of the `@`.
    at: usize,
    end: usize,
}

/// Returns all addresses of a text in a single pass.
fn addresses(text: &[u8]) -> impl Iterator<Item = AddressSpan> + '_ {
    let mut scanner = LocalPartScanner::default();
    text.iter().enumerate().filter_map(move |(at, &byte)| {
        let found = (byte == b'@').then(|| {
            let end = at + 1 + domain_length(&text[at + 1..]);
            AddressSpan { start: scanner.local_part_start(at), at, end }
        });
        scanner.advance(text, at, byte);
        found.filter(|found| found.start < at && at + 1 < found.end)
    })
}

/// Reads a text byte by byte and remembers where a local part that ends at the current byte starts.
#[derive(Default)]
struct LocalPartScanner {
    /// The start of the current sequence of characters that are allowed in a local part.
    atom_start: usize,
    /// The last two quotation marks of the line, because a local part may be a quoted string.
    quotes: [Option<usize>; 2],
    /// True inside a URL.
    in_url: bool,
    /// The start of the current path segment or parameter of the URL.
    part_start: usize,
    /// True inside the name of a URL parameter, before its `=`.
    in_parameter_name: bool,
}

impl LocalPartScanner {
    /// Returns the start of the local part before the `@` at position `at`.
    ///
    /// A local part may contain `/?&=#` (RFC 5322 §3.2.3), and addresses of forwarded mail often do.
    /// Only inside a URL do these characters separate it from the text before.
    fn local_part_start(&self, at: usize) -> usize {
        match self.quotes {
            [Some(open), Some(close)] if close + 1 == at => open,
            _ => self.atom_start.max(self.part_start),
        }
    }

    fn advance(&mut self, text: &[u8], at: usize, byte: u8) {
        if !is_atom(byte) {
            self.atom_start = at + 1;
        }
        match byte {
            b'"' => self.quotes = [self.quotes[1], Some(at)],
            b'\n' | b'\r' => self.quotes = [None; 2],
            _ => {}
        }
        match byte {
            _ if byte <= b' ' || b"\"<>".contains(&byte) => {
                (self.in_url, self.in_parameter_name, self.part_start) = (false, false, 0);
            }
            b'/' if text[..at].ends_with(b":/") => {
                (self.in_url, self.in_parameter_name, self.part_start) = (true, false, at + 1);
            }
            b'/' | b'?' | b'&' | b'#' | b';' if self.in_url => {
                (self.in_parameter_name, self.part_start) = (byte != b'/', at + 1);
            }
            b'=' if self.in_parameter_name => {
                (self.in_parameter_name, self.part_start) = (false, at + 1);
            }
            _ => {}
        }
    }
}

/// Returns true if an unquoted local part may contain the byte: `atext` of RFC 5322, the full stop,
/// and every byte that is not ASCII (RFC 6531).
fn is_atom(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || !byte.is_ascii() || b".!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

/// Returns the length of the domain or address literal at the start of a text.
fn domain_length(text: &[u8]) -> usize {
    if text.first() == Some(&b'[') {
        let closing = text.iter().take(64).position(|&byte| byte == b']');
        return closing.map_or(0, |at| at + 1);
    }
    let may_be =
        |byte: &&u8| byte.is_ascii_alphanumeric() || !byte.is_ascii() || b".-_".contains(*byte);
    let name = &text[..text.iter().take_while(may_be).count()];
    // In "… to ada@example.com." the last full stop ends the sentence.
    name.len() - name.iter().rev().take_while(|byte| b".-_".contains(byte)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::with_test_key;

    /// Returns the text with `~` in place of each pseudonym.
    fn rewritten(text: &str) -> String {
        let pseudonymizer = with_test_key();
        let mut rewritten = String::from_utf8(
            rewrite(&Rewriter::new(&pseudonymizer), text.as_bytes()).into_owned(),
        )
        .unwrap();
        let decoded = Decoded::from(text.as_bytes());
        for found in addresses(&decoded.bytes) {
            let digest = pseudonymizer.digest(&decoded.bytes[found.start..found.end]);
            rewritten = rewritten.replace(&digest, "~");
        }
        rewritten
    }

    #[test]
    fn addresses_in_text_are_replaced() {
        for (text, expected) in [
            ("ada@example.com", "~@example.com"),
            ("<Ada+List@Example.COM>: 550 5.1.1 unknown", "<~@Example.COM>: 550 5.1.1 unknown"),
            ("to ada@example.com, bob@example.org.", "to ~@example.com, ~@example.org."),
            ("rfc822;ada@example.com", "rfc822;~@example.com"),
            ("mailto:ada@example.com?subject=hi", "mailto:~@example.com?subject=hi"),
            ("bounce+ada=example.com@esp.test", "~@esp.test"),
            ("/G=Ada/S=L/@x400.test", "~@x400.test"),
            (r#""Ada L"@example.com"#, "~@example.com"),
            ("\"Ada\" <ada@example.com>", "\"Ada\" <~@example.com>"),
            ("jörg@exämple.test", "~@exämple.test"),
            ("root@[192.0.2.1]", "~@[192.0.2.1]"),
            ("root@localhost", "~@localhost"),
            ("ada@bob@example.com", "~@~@example.com"),
            (r#""ada@bob"@example.com"#, "~@example.com"),
            (r#"550 "x@y and u@v"@z refused"#, "550 ~@z refused"),
            (r#"a"b@c"@example.com d@e"#, "a~@example.com ~@e"),
        ] {
            assert_eq!(rewritten(text), expected);
        }
    }

    #[test]
    fn addresses_in_urls_are_replaced_without_the_text_before_them() {
        for (text, expected) in [
            (
                "https://example.com/u?email=ada@example.com&x=1",
                "https://example.com/u?email=~@example.com&x=1",
            ),
            (
                "https://example.com/u?a=1&to=b+ada=example.com@esp.test",
                "https://example.com/u?a=1&to=~@esp.test",
            ),
            ("https://example.com/ada@example.com/x", "https://example.com/~@example.com/x"),
            (
                "https://example.com/u?email=ada%40example.com#top",
                "https://example.com/u?email=~%40example.com#top",
            ),
            (
                "see https://example.com/ or a/b@example.com",
                "see https://example.com/ or ~@example.com",
            ),
            (
                "https://r.example.com/?to=https%3A%2F%2Fexample.com%2F%3Fe%3Dada%2540example.com",
                "https://r.example.com/?to=https%3A%2F%2Fexample.com%2F%3Fe%3D~%2540example.com",
            ),
            ("https://example.com/@handle", "https://example.com/@handle"),
        ] {
            assert_eq!(rewritten(text), expected);
        }
    }

    #[test]
    fn escaped_addresses_are_replaced() {
        for (text, expected) in [
            ("ada%40example.com", "~%40example.com"),
            ("%61da%2540example.com", "~%2540example.com"),
            (r"ada\u0040example.com", r"~\u0040example.com"),
            (r"\\u0061da\\u0040example.com", r"~\\u0040example.com"),
            (r"\ud83d\ude00@example.com", "~@example.com"),
            (r#"\"ada\"@example.com"#, "~@example.com"),
            (r#"{\"email\":\"ada@example.com"#, r#"{\"email\":\"~@example.com"#),
            (r"first\nada@example.com", r"first\n~@example.com"),
            (r"\ud83d@example.com 100%", r"~@example.com 100%"),
        ] {
            assert_eq!(rewritten(text), expected);
        }
    }

    #[test]
    fn text_without_an_address_stays_unchanged() {
        for text in
            ["", "@", "@example.com", "ada@", "ada@ example", "@media print", "a \"@\" b", "404"]
        {
            assert!(
                matches!(
                    rewrite(&Rewriter::new(&with_test_key()), text.as_bytes()),
                    Cow::Borrowed(_)
                ),
                "{text}"
            );
        }
    }

    #[test]
    fn a_quoted_local_part_may_contain_more_addresses_than_are_remembered() {
        let text = format!("\"{}\"@example.com", "a@b ".repeat(2 * MAX_QUOTED));
        let published = rewrite(&Rewriter::new(&with_test_key()), text.as_bytes()).into_owned();
        let published = String::from_utf8(published).unwrap();
        assert!(published.ends_with("@example.com") && !published.contains("a@"), "{published}");
    }

    #[test]
    fn many_addresses_are_replaced_in_one_pass() {
        let text = "a@".repeat(1 << 15) + "a";
        let pseudonymizer = with_test_key();
        let rewriter = Rewriter::new(&pseudonymizer);
        assert_eq!(rewrite(&rewriter, text.as_bytes()).len(), (1 << 15) * 33 + 1);
        rewriter.left.set(2);
        assert_eq!(rewrite(&rewriter, b"a@b c@d e@f g@h").len(), 2 * 34 + 2 * 3 + 3);
    }
}
