//! Bytes that strangers wrote, for a terminal: nothing of them is ever an instruction to it.

use std::fmt::Write;

use serde::de::IgnoredAny;

/// On one line: control characters and what is not UTF-8 are escaped.
pub(crate) fn line(bytes: &[u8]) -> String {
    escaped(bytes, |_| false)
}

/// On one line, at most so many characters; `…` stands for the rest.
pub(crate) fn cut(bytes: &[u8], characters: usize) -> String {
    // Escapes make text longer, never shorter: four bytes a character are enough to look at.
    let beginning = &bytes[..bytes.len().min(characters * 4 + 4)];
    let whole = line(beginning);
    if beginning.len() == bytes.len() && whole.chars().count() <= characters {
        return whole;
    }
    whole.chars().take(characters.saturating_sub(1)).chain(['…']).collect()
}

/// A value as people read it: indented if it is JSON, its own text otherwise, with control
/// characters and what is not UTF-8 escaped.
pub(crate) fn value(bytes: &[u8]) -> String {
    let is_json = serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
    match std::str::from_utf8(bytes) {
        Ok(text) if is_json => escaped(indented(text).as_bytes(), |c| c == '\n'),
        _ => escaped(bytes, |c| c == '\n'),
    }
}

fn escaped(bytes: &[u8], keep: impl Fn(char) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_harmless(c) || keep(c) {
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

/// Neither a control character nor one that turns the direction of the text around it (Unicode
/// bidirectional embeddings, overrides and isolates).
fn is_harmless(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// JSON with a line per member. Only white space between tokens changes: numbers, escapes and the
/// order of keys stay as the provider wrote them.
fn indented(json: &str) -> String {
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
    fn terminals_are_told_nothing() {
        assert_eq!(line("\u{1b}[2Jada\n\u{202e}x".as_bytes()), "\\u{1b}[2Jada\\n\\u{202e}x");
        assert_eq!(line(b"a\xff\xfeb"), "a\\xff\\xfeb");
        assert_eq!(line("ädä".as_bytes()), "ädä");
    }

    #[test]
    fn cut_counts_characters() {
        assert_eq!(cut("ääää".as_bytes(), 4), "ääää");
        assert_eq!(cut("äääää".as_bytes(), 4), "äää…");
        assert_eq!(cut(&[b'x'; 100], 4), "xxx…");
        assert_eq!(cut(&[0xff; 100], 5), "\\xff…");
        assert_eq!(cut(b"", 4), "");
    }

    #[test]
    fn json_is_indented_and_otherwise_as_it_was() {
        let json = r#"{"b":1.0e400,"a":["x,\"{", {} ,[ ]],"c":12345678901234567890123}"#;
        let expected = "{\n  \"b\": 1.0e400,\n  \"a\": [\n    \"x,\\\"{\",\n    {},\n    []\n  ],\n  \
                        \"c\": 12345678901234567890123\n}";
        assert_eq!(value(json.as_bytes()), expected);
        assert_eq!(value(b"{\"a\":"), "{\"a\":", "not JSON: as it is");
        assert_eq!(value(b"two\nlines\x07\xff"), "two\nlines\\u{7}\\xff");
    }
}
