//! Addresses in running text.

use std::borrow::Cow;

use crate::Pseudonyms;

/// Whether a search is worth it: an `@`, or one that is written as `%40` (`%2540`…) or `\u0040`.
pub(crate) fn may_hold_address(text: &[u8]) -> bool {
    text.contains(&b'@') || text.windows(2).any(|pair| pair == b"40")
}

/// The text with every address's local part replaced. Domains, and whatever stands around, keep
/// their bytes.
pub(crate) fn rewrite<'t>(pseudonyms: &Pseudonyms, text: &'t [u8]) -> Cow<'t, [u8]> {
    if !may_hold_address(text) {
        return Cow::Borrowed(text);
    }
    let view = View::of(text);
    let mut rewritten = Vec::new();
    let mut copied = 0;
    for found in addresses(&view.bytes) {
        let (start, at) = (view.place(found.start), view.place(found.at));
        rewritten.extend_from_slice(&text[copied..start]);
        let address = &view.bytes[found.start..found.end];
        rewritten.extend_from_slice(pseudonyms.digits(address).as_bytes());
        copied = at;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    rewritten.extend_from_slice(&text[copied..]);
    Cow::Owned(rewritten)
}

/// A text as it reads with its escapes undone, and where each byte of that comes from.
struct View<'t> {
    bytes: Cow<'t, [u8]>,
    /// For each byte where it starts in the text; empty where that is the same place.
    places: Vec<usize>,
}

impl<'t> View<'t> {
    fn of(text: &'t [u8]) -> Self {
        if !text.iter().any(|byte| matches!(byte, b'%' | b'\\')) {
            return Self { bytes: Cow::Borrowed(text), places: Vec::new() };
        }
        let (mut bytes, mut places) = (Vec::with_capacity(text.len()), Vec::new());
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            let (read, length) = match rest[0] {
                b'%' => percent(rest),
                b'\\' => backslash(rest),
                byte => (Read::from(byte), 1),
            };
            bytes.extend_from_slice(read.bytes());
            places.resize(bytes.len(), at);
            at += length;
        }
        Self { bytes: Cow::Owned(bytes), places }
    }

    /// Where a byte of the view starts in the text.
    fn place(&self, at: usize) -> usize {
        self.places.get(at).copied().unwrap_or(at)
    }
}

/// What an escape stands for: a byte, or a character's UTF-8 form.
struct Read {
    bytes: [u8; 4],
    length: usize,
}

impl Read {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl From<u8> for Read {
    fn from(byte: u8) -> Self {
        Self { bytes: [byte, 0, 0, 0], length: 1 }
    }
}

impl From<char> for Read {
    fn from(character: char) -> Self {
        let mut bytes = [0; 4];
        let length = character.encode_utf8(&mut bytes).len();
        Self { bytes, length }
    }
}

/// `%40`, and what was encoded again and again: `%2540`, `%252540`. A `%` without two digits
/// stands for itself. With it, its length.
fn percent(text: &[u8]) -> (Read, usize) {
    let (mut byte, mut length) = (b'%', 1);
    while byte == b'%' {
        let Some(&[high, low]) = text.get(length..length + 2) else { break };
        let (Some(high), Some(low)) = (digit(high), digit(low)) else { break };
        byte = (high << 4 | low) as u8;
        length += 2;
    }
    (Read::from(byte), length)
}

/// JSON's escapes (RFC 8259 §7) behind any number of backslashes, as there are where JSON was put
/// into JSON. Other backslashes stand for themselves. With it, its length.
fn backslash(text: &[u8]) -> (Read, usize) {
    let slashes = text.iter().take_while(|&&byte| byte == b'\\').count();
    match text.get(slashes) {
        Some(b'u') => unicode(text, slashes).unwrap_or((Read::from(b'\\'), slashes)),
        Some(b'b' | b'f' | b'n' | b'r' | b't') => (Read::from(b'\n'), slashes + 1),
        Some(&byte @ (b'"' | b'/')) => (Read::from(byte), slashes + 1),
        _ => (Read::from(b'\\'), slashes),
    }
}

/// `\u0040`, or a pair of surrogates; half a pair is some character.
fn unicode(text: &[u8], slashes: usize) -> Option<(Read, usize)> {
    let length = slashes + 5;
    let first = unit(text, slashes)?;
    if let Some(character) = char::from_u32(first) {
        return Some((Read::from(character), length));
    }
    let second = text.get(length..).and_then(|rest| unit(rest, slashes)).unwrap_or_default();
    let units = [first, second].map(|unit| u16::try_from(unit).unwrap_or_default());
    match char::decode_utf16(units).next() {
        Some(Ok(character)) => Some((Read::from(character), 2 * length)),
        _ => Some((Read::from(char::REPLACEMENT_CHARACTER), length)),
    }
}

/// The number of a `\uXXXX` behind so many backslashes.
fn unit(text: &[u8], slashes: usize) -> Option<u32> {
    let (head, digits) = text.get(..slashes + 5)?.split_at(slashes + 1);
    let is_escape = head.ends_with(b"u") && head[..slashes].iter().all(|&byte| byte == b'\\');
    let value = |value, &byte: &u8| Some(value << 4 | digit(byte)?);
    is_escape.then(|| digits.iter().try_fold(0, value)).flatten()
}

fn digit(byte: u8) -> Option<u32> {
    char::from(byte).to_digit(16)
}

/// An address in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    start: usize,
    /// Of the `@`.
    at: usize,
    end: usize,
}

/// All addresses of a text, in a single pass.
fn addresses(text: &[u8]) -> impl Iterator<Item = Found> + '_ {
    let mut left = Left::default();
    text.iter().enumerate().filter_map(move |(at, &byte)| {
        let found = (byte == b'@').then(|| {
            let end = at + 1 + domain_length(&text[at + 1..]);
            Found { start: left.start_of_local(at), at, end }
        });
        left.step(text, at, byte);
        found.filter(|found| found.start < at && at + 1 < found.end)
    })
}

/// What is known of the text before some place: where a local part that ended there would start.
#[derive(Default)]
struct Left {
    /// The start of the characters in a row that a local part may consist of.
    run: usize,
    /// The last two quotation marks of the line: a local part may be a quoted string.
    quotes: [Option<usize>; 2],
    /// Whether this is within a URL, and where its part or parameter value starts.
    in_url: bool,
    part: usize,
    /// Whether `part` is the start of a parameter, whose name is still to come.
    is_parameter: bool,
}

impl Left {
    /// Where the local part before the `@` at this place starts.
    ///
    /// Local parts may contain `/?&=#` (RFC 5322 §3.2.3), and forwarded mail's often do: only
    /// within a URL do these end one.
    fn start_of_local(&self, at: usize) -> usize {
        match self.quotes {
            [Some(open), Some(close)] if close + 1 == at => open,
            _ => self.run.max(self.part),
        }
    }

    fn step(&mut self, text: &[u8], at: usize, byte: u8) {
        if !is_atom(byte) {
            self.run = at + 1;
        }
        match byte {
            b'"' => self.quotes = [self.quotes[1], Some(at)],
            b'\n' | b'\r' => self.quotes = [None; 2],
            _ => {}
        }
        match byte {
            _ if byte <= b' ' || b"\"<>".contains(&byte) => {
                (self.in_url, self.is_parameter, self.part) = (false, false, 0);
            }
            b'/' if text[..at].ends_with(b":/") => {
                (self.in_url, self.is_parameter, self.part) = (true, false, at + 1);
            }
            b'/' | b'?' | b'&' | b'#' | b';' if self.in_url => {
                (self.is_parameter, self.part) = (byte != b'/', at + 1);
            }
            b'=' if self.is_parameter => (self.is_parameter, self.part) = (false, at + 1),
            _ => {}
        }
    }
}

/// Whether a byte may stand in an unquoted local part: RFC 5322's `atext`, the full stop, and all
/// beyond ASCII (RFC 6531).
fn is_atom(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || !byte.is_ascii() || b".!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

/// The length of the domain, or address literal, that a text starts with.
fn domain_length(text: &[u8]) -> usize {
    if text.first() == Some(&b'[') {
        let closing = text.iter().take(64).position(|&byte| byte == b']');
        return closing.map_or(0, |at| at + 1);
    }
    let may_be =
        |byte: &&u8| byte.is_ascii_alphanumeric() || !byte.is_ascii() || b".-_".contains(*byte);
    let name = &text[..text.iter().take_while(may_be).count()];
    // "… to ada@example.com."
    name.len() - name.iter().rev().take_while(|byte| b".-_".contains(byte)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::with_test_key;

    /// What was found, in the text's own spelling, and the text with `~` for each pseudonym.
    fn rewritten(text: &str) -> String {
        let pseudonyms = with_test_key();
        let mut rewritten =
            String::from_utf8(rewrite(&pseudonyms, text.as_bytes()).into_owned()).unwrap();
        let view = View::of(text.as_bytes());
        for found in addresses(&view.bytes) {
            let digits = pseudonyms.digits(&view.bytes[found.start..found.end]);
            rewritten = rewritten.replace(&digits, "~");
        }
        rewritten
    }

    #[test]
    fn addresses_are_found_wherever_text_has_them() {
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
        ] {
            assert_eq!(rewritten(text), expected);
        }
    }

    #[test]
    fn within_a_url_only_the_value_goes() {
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
    fn escapes_are_seen_through() {
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
    fn what_is_no_address_stays() {
        for text in
            ["", "@", "@example.com", "ada@", "ada@ example", "@media print", "a \"@\" b", "404"]
        {
            assert!(
                matches!(rewrite(&with_test_key(), text.as_bytes()), Cow::Borrowed(_)),
                "{text}"
            );
        }
    }

    #[test]
    fn one_pass_however_many_there_are() {
        let text = "a@".repeat(1 << 15) + "a";
        assert_eq!(rewrite(&with_test_key(), text.as_bytes()).len(), (1 << 15) * 33 + 1);
    }
}
