//! Makes JSON readable that the reader rejects although it says what happened: a text that was cut in
//! the middle of an emoji, a name that occurs twice, a number beyond every double, bytes that are not
//! UTF-8. Every replacement has the length of what it replaces, so positions stay the same, and the
//! received bytes can be published unchanged.

use std::collections::HashMap;
use std::ops::Range;

/// Deeper JSON is not repaired: no provider's event is as deep.
const MAX_DEPTH: usize = 64;

/// Returns the JSON of the same length in which
///
/// - half a surrogate pair in a text is U+FFFD (RFC 8259 §8.2 permits such a text),
/// - only the last member of a name is left in each object (RFC 8259 §4),
/// - a number that is too large is `null`,
/// - each byte that is not UTF-8 is `?`.
///
/// Returns `None` if there is nothing to replace, or if the text is no object and no array.
pub(crate) fn repair(json: &[u8]) -> Option<Vec<u8>> {
    if !matches!(json.trim_ascii_start().first(), Some(b'{' | b'[')) {
        return None;
    }
    let mut repaired = json.to_vec();
    let mut is_changed = replace_bytes(json, &mut repaired);
    let mut objects: Vec<Option<Members<'_>>> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        match byte {
            b'"' => {
                let end = end_of_text(json, at);
                let text = &json[at..end];
                is_changed |= replace_surrogates(text, &mut repaired[at..end]);
                let members = objects.last_mut().and_then(Option::as_mut);
                if let Some(earlier) = members.and_then(|members| members.text(text, at)) {
                    repaired[earlier].fill(b' ');
                    is_changed = true;
                }
                at = end;
                continue;
            }
            b'-' | b'0'..=b'9' => {
                let end = end_of_number(json, at);
                is_changed |= replace_number(&mut repaired[at..end]);
                at = end;
                continue;
            }
            b'{' | b'[' if objects.len() >= MAX_DEPTH => return None,
            b'{' => objects.push(Some(Members::default())),
            b'[' => objects.push(None),
            b'}' | b']' => drop(objects.pop()),
            b',' => {
                if let Some(Some(members)) = objects.last_mut() {
                    members.end(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
    is_changed.then_some(repaired)
}

/// The members of an object that has not ended yet.
#[derive(Default)]
struct Members<'t> {
    /// The members that are complete, each with the comma after it, by name as written.
    complete: HashMap<&'t [u8], Range<usize>>,
    /// The name and the start of the member that is being read.
    open: Option<(&'t [u8], usize)>,
}

impl<'t> Members<'t> {
    /// Notes a text, which is a name unless it is the value of the open member. Returns the earlier
    /// member of the same name.
    fn text(&mut self, text: &'t [u8], at: usize) -> Option<Range<usize>> {
        if self.open.is_some() {
            return None;
        }
        self.open = Some((text, at));
        self.complete.remove(text)
    }

    /// Notes that the open member and the comma after it end.
    fn end(&mut self, end: usize) {
        if let Some((name, start)) = self.open.take() {
            self.complete.insert(name, start..end);
        }
    }
}

fn end_of_text(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    loop {
        match json.get(at) {
            None => return json.len(),
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
        if at >= json.len() {
            return json.len();
        }
    }
}

fn end_of_number(json: &[u8], start: usize) -> usize {
    let is_part = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
    json[start..].iter().position(|byte| !is_part(byte)).map_or(json.len(), |length| start + length)
}

fn replace_number(number: &mut [u8]) -> bool {
    let value = std::str::from_utf8(number).ok().and_then(|text| text.parse::<f64>().ok());
    let is_too_large = value.is_some_and(f64::is_infinite);
    if is_too_large {
        number.fill(b' ');
        // The shortest is `1e309`.
        number[..4].copy_from_slice(b"null");
    }
    is_too_large
}

/// Writes U+FFFD in place of each half of a pair that stands alone. `to` is a copy of `text`.
fn replace_surrogates(text: &[u8], to: &mut [u8]) -> bool {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let (mut at, mut is_changed) = (0, false);
    while at < text.len() {
        if text[at] != b'\\' {
            at += 1;
            continue;
        }
        at += match (unit(at), unit(at + 6)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                to[at..at + 6].copy_from_slice(b"\\ufffd");
                is_changed = true;
                6
            }
            (Some(_), _) => 6,
            (None, _) => 2,
        };
    }
    is_changed
}

/// Writes `?` in place of each byte that is not UTF-8. `to` is a copy of `json`.
fn replace_bytes(json: &[u8], to: &mut [u8]) -> bool {
    let mut at = 0;
    let mut is_changed = false;
    for chunk in json.utf8_chunks() {
        at += chunk.valid().len();
        let end = at + chunk.invalid().len();
        to[at..end].fill(b'?');
        is_changed |= end > at;
        at = end;
    }
    is_changed
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(json: &str) -> Value {
        let repaired = repair(json.as_bytes()).unwrap_or_else(|| panic!("{json} is not changed"));
        assert_eq!(repaired.len(), json.len());
        serde_json::from_slice(&repaired).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    #[test]
    fn half_a_pair_becomes_a_replacement_character() {
        assert_eq!(read(r#"{"a":"tides \ud83c"}"#), json!({"a": "tides \u{fffd}"}));
        assert_eq!(
            read(r#"{"a":"\udf0a\ud83c\udf0a\ud83c\n"}"#),
            json!({"a": "\u{fffd}🌊\u{fffd}\n"})
        );
        assert_eq!(
            read(r#"[{"\ud83c":["\uD83C\uD83C\udf0a"]}]"#),
            json!([{"\u{fffd}": ["\u{fffd}🌊"]}])
        );
        assert_eq!(repair(br#"{"a":"\ud83c\udf0a \\ud83c \u00e9"}"#), None);
    }

    #[test]
    fn the_last_member_of_a_name_is_left() {
        assert_eq!(read(r#"{"a":1,"b":{"a":2},"a":3}"#), json!({"a": 3, "b": {"a": 2}}));
        assert_eq!(read(r#"{"a":"a","a":"b","a":[{"a":{}}]}"#), json!({"a": [{"a": {}}]}));
        assert_eq!(read(r#"[{"x":{"a":",","a":"}"}}]"#), json!([{"x": {"a": "}"}}]));
        assert_eq!(repair(br#"{"a":{"a":1},"b":["a","a"],"c":"a"}"#), None);
    }

    #[test]
    fn a_number_beyond_every_double_is_null() {
        assert_eq!(
            read(r#"{"a":1e309,"b":-1e99999,"c":2}"#),
            json!({"a": null, "b": null, "c": 2})
        );
        assert_eq!(repair(br#"{"a":1e308,"b":99999999999999999999}"#), None);
    }

    #[test]
    fn bytes_that_are_not_utf8_become_question_marks() {
        let repaired = repair(b"[{\"a\":\"\xed\xa0\xbc\"}]").unwrap();
        assert_eq!(repaired, b"[{\"a\":\"???\"}]");
    }

    #[test]
    fn what_is_no_json_object_or_array_is_left_alone() {
        for text in ["", "event=x&event=y", "\"\\ud83c\"", "1e999"] {
            assert_eq!(repair(text.as_bytes()), None, "{text}");
        }
        // Broken JSON ends without a panic.
        for text in ["{\"a", "{\"a\\", "[1,{\"\\ud83", "{{{{]]]]", "[\"\\ud83c"] {
            let _ = repair(text.as_bytes());
        }
        assert_eq!(repair("[".repeat(100).as_bytes()), None);
    }
}
