//! Replaces addresses in JSON: in every string and key, and in JSON inside a string.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use crate::{Rewriter, text};

/// The white space of JSON (RFC 8259 §2).
const WHITESPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// Returns true if a text is a complete JSON object or array.
pub(crate) fn is_document(text: &str) -> bool {
    text.trim_start_matches(WHITESPACE).starts_with(['{', '['])
        && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Returns a document with its addresses replaced. Strings without an address keep their bytes.
///
/// This visits one string literal after the other. It needs the structure of the document only to
/// recognize the values of message id fields.
pub(crate) fn rewrite<'t>(rewriter: &Rewriter<'_>, document: &'t str) -> Cow<'t, str> {
    let mut rewritten = String::new();
    let mut copied = 0;
    let mut preceding = PrecedingLiterals::default();
    let mut rest = 0;
    while let Some(literal) = Literal::next(document, rest) {
        rest = literal.end;
        if !preceding.name_kept_field(rewriter, &literal)
            && let Some(replaced) = literal.rewrite(rewriter)
        {
            rewritten.push_str(&document[copied..literal.start]);
            rewritten.push_str(&replaced);
            copied = literal.end;
        }
        preceding.push(literal);
    }
    if copied == 0 {
        return Cow::Borrowed(document);
    }
    rewritten.push_str(&document[copied..]);
    Cow::Owned(rewritten)
}

/// A string literal of the document; `start` and `end` include its quotation marks.
#[derive(Clone, Copy)]
struct Literal<'t> {
    document: &'t str,
    start: usize,
    end: usize,
}

impl<'t> Literal<'t> {
    /// Returns the first literal at or after byte `from`.
    fn next(document: &'t str, from: usize) -> Option<Self> {
        let start = from + document[from..].find('"')?;
        let mut end = start + 1;
        loop {
            end += document[end..].find(['"', '\\'])?;
            if document.as_bytes()[end] == b'"' {
                return Some(Self { document, start, end: end + 1 });
            }
            end += 2; // a backslash is always followed by an ASCII character
        }
    }

    fn inner(&self) -> &'t str {
        &self.document[self.start + 1..self.end - 1]
    }

    fn is_key(&self) -> bool {
        self.document[self.end..].trim_start_matches(WHITESPACE).starts_with(':')
    }

    /// Returns the literal with its addresses replaced, or `None` if it contains none.
    fn rewrite(&self, rewriter: &Rewriter<'_>) -> Option<String> {
        let inner = self.inner();
        if !text::may_contain_address(inner.as_bytes()) {
            return None;
        }
        let value = match serde_json::from_str::<String>(&self.document[self.start..self.end]) {
            Ok(value) => value,
            // The literal contains an unpaired surrogate, so it has no value as text. The text
            // rewriter finds addresses in spite of the escapes.
            Err(_) => {
                let bytes = text::rewrite(rewriter, inner.as_bytes());
                return Some(format!("\"{}\"", String::from_utf8_lossy(&bytes)));
            }
        };
        match rewriter.rewrite_value(&value) {
            Cow::Borrowed(_) => None,
            Cow::Owned(value) => serde_json::to_string(&value).ok(),
        }
    }
}

/// The last two literals before the current one.
#[derive(Default)]
struct PrecedingLiterals<'t>([Option<Literal<'t>>; 2]);

impl<'t> PrecedingLiterals<'t> {
    fn push(&mut self, literal: Literal<'t>) {
        self.0 = [self.0[1], Some(literal)];
    }

    /// Returns true if the text before a literal shows that it stays, because it is a message id:
    /// `"Message-Id": "…"`, or the two forms in which providers list mail headers,
    /// `{"name": "Message-ID", "value": "…"}` and `["Message-Id", "<…>"]`.
    fn name_kept_field(&self, rewriter: &Rewriter<'_>, literal: &Literal<'t>) -> bool {
        let Some(last) = self.0[1].filter(|_| !literal.is_key()) else { return false };
        let between = &literal.document[last.end..literal.start];
        let between = between.trim_matches(WHITESPACE);
        match (between, self.0[0]) {
            (":", Some(name)) if last.inner() == "value" => rewriter.keeps_field(name.inner()),
            (":", _) => rewriter.keeps_field(last.inner()),
            (",", _) => literal.inner().starts_with('<') && rewriter.keeps_field(last.inner()),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::with_test_key;

    /// Returns the document with `~` in place of Ada's pseudonym.
    fn rewritten(document: &str) -> String {
        assert!(is_document(document), "{document}");
        let pseudonymizer = with_test_key();
        let ada = pseudonymizer.pseudonym("ada@example.com").unwrap();
        let ada = ada.strip_suffix("@example.com").unwrap();
        rewrite(&Rewriter::new(&pseudonymizer), document).replace(ada, "~")
    }

    #[test]
    fn addresses_in_every_string_and_key_are_replaced() {
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
    fn addresses_in_json_inside_a_string_are_replaced() {
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
    fn only_message_ids_stay_unchanged() {
        for same in [
            r#"{"smtp-id":"<1@mx.test>"}"#,
            r#"{"headers":{"message-id" : "1@mx.test"}}"#,
            r#"[{"name":"Message-ID","value":"<1@mx.test>"}]"#,
            r#"[["Message-Id","<1@mx.test>"]]"#,
        ] {
            assert!(
                matches!(rewrite(&Rewriter::new(&with_test_key()), same), Cow::Borrowed(_)),
                "{same}"
            );
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
