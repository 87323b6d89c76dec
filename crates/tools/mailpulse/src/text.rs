//! Formats untrusted bytes for a terminal, so that they cannot control it.

use std::fmt::Write;

use serde::de::IgnoredAny;

/// Returns one line: control characters and invalid UTF-8 are escaped.
pub(crate) fn escape_line(bytes: &[u8]) -> String {
    escape(bytes, |_| false)
}

/// Returns one line of at most this number of characters. `…` replaces the rest.
pub(crate) fn truncate_line(bytes: &[u8], characters: usize) -> String {
    // A character has at most four bytes, and escaping only makes the text longer.
    let beginning = &bytes[..bytes.len().min(characters * 4 + 4)];
    let whole = escape_line(beginning);
    if beginning.len() == bytes.len() && whole.chars().count() <= characters {
        return whole;
    }
    whole.chars().take(characters.saturating_sub(1)).chain(['…']).collect()
}

/// Indents JSON and leaves other text unchanged. Control characters and invalid UTF-8 are escaped.
pub(crate) fn format_value(bytes: &[u8]) -> String {
    let is_json = serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
    match std::str::from_utf8(bytes) {
        Ok(text) if is_json => escape(indent(text).as_bytes(), |c| c == '\n'),
        _ => escape(bytes, |c| c == '\n'),
    }
}

fn escape(bytes: &[u8], keep: impl Fn(char) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_safe(c) || keep(c) {
                text.push(c);
            } else {
                text.extend(c.escape_default());
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Whether this is neither a control character nor one that changes the direction of text (Unicode
/// bidirectional embeddings, overrides and isolates).
fn is_safe(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes JSON with one member per line. It changes only white space between tokens, so numbers,
/// escapes and the order of keys stay as the provider wrote them.
fn indent(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth: usize = 0;
    let mut characters = json.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' => {
                out.push('"');
                let mut is_escape = false;
                for c in characters.by_ref() {
                    out.push(c);
                    if c == '"' && !is_escape {
                        break;
                    }
                    is_escape = c == '\\' && !is_escape;
                }
            }
            '{' | '[' => {
                out.push(c);
                while characters.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                match characters.next_if(|c| matches!(c, '}' | ']')) {
                    Some(end) => out.push(end),
                    None => {
                        depth += 1;
                        new_line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(escape_line("\u{1b}[2Jada\n\u{202e}x".as_bytes()), "\\u{1b}[2Jada\\n\\u{202e}x");
        assert_eq!(escape_line(b"a\xff\xfeb"), "a\\xff\\xfeb");
        assert_eq!(escape_line("ädä".as_bytes()), "ädä");
    }

    #[test]
    fn long_lines_are_truncated_by_characters() {
        assert_eq!(truncate_line("ääää".as_bytes(), 4), "ääää");
        assert_eq!(truncate_line("äääää".as_bytes(), 4), "äää…");
        assert_eq!(truncate_line(&[b'x'; 100], 4), "xxx…");
        assert_eq!(truncate_line(&[0xff; 100], 5), "\\xff…");
        assert_eq!(truncate_line(b"", 4), "");
    }

    #[test]
    fn json_is_indented_and_otherwise_unchanged() {
        let json = r#"{"b":1.0e400,"a":["x,\"{", {} ,[ ]],"c":12345678901234567890123}"#;
        let expected = "{\n  \"b\": 1.0e400,\n  \"a\": [\n    \"x,\\\"{\",\n    {},\n    []\n  ],\n  \
                        \"c\": 12345678901234567890123\n}";
        assert_eq!(format_value(json.as_bytes()), expected);
        assert_eq!(format_value(b"{\"a\":"), "{\"a\":", "not JSON: unchanged");
        assert_eq!(format_value(b"two\nlines\x07\xff"), "two\nlines\\u{7}\\xff");
    }
}
