//! Addresses in JSON: in every string, be it a key, and in JSON within a string.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use crate::ids::holds_message_id;
use crate::{Pseudonyms, text};

/// JSON's white space (RFC 8259 §2).
const WHITE: [char; 4] = [' ', '\t', '\r', '\n'];

/// Whether a text is a whole JSON object or array.
pub(crate) fn is_document(text: &str) -> bool {
    text.trim_start_matches(WHITE).starts_with(['{', '['])
        && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// A document with its addresses replaced; what has none keeps its bytes.
///
/// It is walked string by string. Of its structure only this matters: whether a string is the
/// value of a message id's field.
pub(crate) fn rewrite<'t>(pseudonyms: &Pseudonyms, document: &'t str) -> Cow<'t, str> {
    let mut rewritten = String::new();
    let mut copied = 0;
    let mut before = Before::default();
    let mut rest = 0;
    while let Some(literal) = Literal::next(document, rest) {
        rest = literal.end;
        if !before.names_message_id(&literal)
            && let Some(replaced) = literal.replaced(pseudonyms)
        {
            rewritten.push_str(&document[copied..literal.start]);
            rewritten.push_str(&replaced);
            copied = literal.end;
        }
        before.pass(literal);
    }
    if copied == 0 {
        return Cow::Borrowed(document);
    }
    rewritten.push_str(&document[copied..]);
    Cow::Owned(rewritten)
}

/// A string of the document, with its quotation marks.
#[derive(Clone, Copy)]
struct Literal<'t> {
    document: &'t str,
    start: usize,
    end: usize,
}

impl<'t> Literal<'t> {
    /// The first one from this place on.
    fn next(document: &'t str, from: usize) -> Option<Self> {
        let start = from + document[from..].find('"')?;
        let mut end = start + 1;
        loop {
            end += document[end..].find(['"', '\\'])?;
            if document.as_bytes()[end] == b'"' {
                return Some(Self { document, start, end: end + 1 });
            }
            end += 2; // in a document, an ASCII character follows a backslash
        }
    }

    fn inner(&self) -> &'t str {
        &self.document[self.start + 1..self.end - 1]
    }

    fn is_key(&self) -> bool {
        self.document[self.end..].trim_start_matches(WHITE).starts_with(':')
    }

    /// The literal with its addresses replaced, if it has any.
    fn replaced(&self, pseudonyms: &Pseudonyms) -> Option<String> {
        let inner = self.inner();
        if !text::may_hold_address(inner.as_bytes()) {
            return None;
        }
        let read = match serde_json::from_str::<String>(&self.document[self.start..self.end]) {
            Ok(read) => read,
            // Half a pair of surrogates: no text, but its escapes can be seen through as they are.
            Err(_) => {
                let bytes = text::rewrite(pseudonyms, inner.as_bytes());
                return Some(format!("\"{}\"", String::from_utf8_lossy(&bytes)));
            }
        };
        match pseudonyms.value(&read) {
            Cow::Borrowed(_) => None,
            Cow::Owned(value) => serde_json::to_string(&value).ok(),
        }
    }
}

/// The last two strings before some place.
#[derive(Default)]
struct Before<'t>([Option<Literal<'t>>; 2]);

impl<'t> Before<'t> {
    fn pass(&mut self, literal: Literal<'t>) {
        self.0 = [self.0[1], Some(literal)];
    }

    /// Whether a string is a message id, by what stands before it: `"Message-Id": "…"`, or as
    /// headers of a mail are given, `{"name": "Message-ID", "value": "…"}` and
    /// `["Message-Id", "<…>"]`.
    fn names_message_id(&self, literal: &Literal<'t>) -> bool {
        let Some(last) = self.0[1].filter(|_| !literal.is_key()) else { return false };
        let between = &literal.document[last.end..literal.start];
        let between = between.trim_matches(WHITE);
        match (between, self.0[0]) {
            (":", Some(name)) if last.inner() == "value" => holds_message_id(name.inner()),
            (":", _) => holds_message_id(last.inner()),
            (",", _) => literal.inner().starts_with('<') && holds_message_id(last.inner()),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::with_test_key;

    /// The document with `~` for Ada's pseudonym.
    fn rewritten(document: &str) -> String {
        assert!(is_document(document), "{document}");
        let pseudonyms = with_test_key();
        let ada = pseudonyms.of("ada@example.com").unwrap();
        let ada = ada.strip_suffix("@example.com").unwrap();
        rewrite(&pseudonyms, document).replace(ada, "~")
    }

    #[test]
    fn every_string_is_looked_at() {
        for (document, expected) in [
            (r#"{"email":"ada@example.com","n":40}"#, r#"{"email":"~@example.com","n":40}"#),
            (r#"{"to":["Ada@example.com","x"]}"#, r#"{"to":["~@example.com","x"]}"#),
            (r#"{"ada@example.com" : 1}"#, r#"{"~@example.com" : 1}"#),
            (r#"{"a":"\u0061da\u0040example.com"}"#, r#"{"a":"~@example.com"}"#),
            (r#"["\"\\", "ada@example.com\n"]"#, r#"["\"\\", "~@example.com\n"]"#),
            (
                r#"{"url":"https:\/\/example.com\/?e=ada%40example.com"}"#,
                r#"{"url":"https://example.com/?e=~%40example.com"}"#,
            ),
            (r#"{"x":"\ud83d ada@example.com"}"#, r#"{"x":"\ud83d ~@example.com"}"#),
        ] {
            assert_eq!(rewritten(document), expected);
        }
    }

    #[test]
    fn json_within_a_string_is_json() {
        assert_eq!(
            rewritten(
                r#"{"Message":"{\"mail\":{\"messageId\":\"<1@mx.test>\",\"destination\":[\"ada@example.com\"]}}\n"}"#
            ),
            r#"{"Message":"{\"mail\":{\"messageId\":\"<1@mx.test>\",\"destination\":[\"~@example.com\"]}}\n"}"#
        );
        assert_eq!(
            rewritten(r#"{"tag":"[\"to ada@example.com\"]"}"#),
            r#"{"tag":"[\"to ~@example.com\"]"}"#
        );
    }

    #[test]
    fn message_ids_are_left_alone_and_nothing_else_is() {
        for same in [
            r#"{"smtp-id":"<1@mx.test>"}"#,
            r#"{"headers":{"message-id" : "1@mx.test"}}"#,
            r#"[{"name":"Message-ID","value":"<1@mx.test>"}]"#,
            r#"[["Message-Id","<1@mx.test>"]]"#,
        ] {
            assert!(matches!(rewrite(&with_test_key(), same), Cow::Borrowed(_)), "{same}");
        }
        for (document, expected) in [
            (
                r#"{"message-id":null,"ada@example.com":1}"#,
                r#"{"message-id":null,"~@example.com":1}"#,
            ),
            (r#"["message-id","ada@example.com"]"#, r#"["message-id","~@example.com"]"#),
            (
                r#"{"name":"To","value":"ada@example.com"}"#,
                r#"{"name":"To","value":"~@example.com"}"#,
            ),
            (
                r#"{"message-id":"<1@mx.test>","to":"ada@example.com"}"#,
                r#"{"message-id":"<1@mx.test>","to":"~@example.com"}"#,
            ),
        ] {
            assert_eq!(rewritten(document), expected);
        }
    }
}
