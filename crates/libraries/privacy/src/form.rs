//! Replaces addresses in forms.

use std::borrow::Cow;

use crate::{Rewriter, text};

/// Returns a form with its addresses replaced, or `None` if the body is not a form.
pub(crate) fn rewrite<'b>(rewriter: &Rewriter<'_>, body: &'b [u8]) -> Option<Cow<'b, [u8]>> {
    if body.starts_with(b"--") {
        return rewrite_multipart(rewriter, body).map(Cow::Owned);
    }
    is_urlencoded(body).then(|| Cow::Owned(rewrite_urlencoded(rewriter, body)))
}

/// Returns true if a body looks like `application/x-www-form-urlencoded`: its names and values
/// contain no character that an encoder escapes.
fn is_urlencoded(body: &[u8]) -> bool {
    let body = body.trim_ascii_end();
    let plain = |&byte: &u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
    let name = body.split(|&byte| byte == b'=').next().unwrap_or_default();
    let in_name = |&byte: &u8| byte.is_ascii_alphanumeric() || b"%+-_.*[]".contains(&byte);
    body.iter().all(plain) && !name.is_empty() && name != body && name.iter().all(in_name)
}

/// Only fields that contain an address are encoded again.
fn rewrite_urlencoded(rewriter: &Rewriter<'_>, body: &[u8]) -> Vec<u8> {
    let fields = body.split(|&byte| byte == b'&');
    let fields: Vec<Cow<'_, [u8]>> = fields.map(|field| rewrite_field(rewriter, field)).collect();
    fields.join(&b'&')
}

fn rewrite_field<'b>(rewriter: &Rewriter<'_>, field: &'b [u8]) -> Cow<'b, [u8]> {
    let equals = field.iter().position(|&byte| byte == b'=');
    let Some((name, value)) = equals.map(|at| (&field[..at], &field[at + 1..])) else {
        return text::rewrite(rewriter, field);
    };
    // Bytes that are not UTF-8 are lost here if the same field contains an address.
    let decoded = form_urlencoded::parse(field).next();
    let (decoded_name, decoded_value) = decoded.unwrap_or_default();
    let value = match rewriter.keeps_field(&decoded_name) {
        true => Cow::Borrowed(value),
        false => match rewriter.rewrite_value(&decoded_value) {
            Cow::Borrowed(_) => Cow::Borrowed(value),
            Cow::Owned(replaced) => {
                let encoded: String =
                    form_urlencoded::byte_serialize(replaced.as_bytes()).collect();
                Cow::Owned(encoded.into_bytes())
            }
        },
    };
    match (text::rewrite(rewriter, name), value) {
        (Cow::Borrowed(_), Cow::Borrowed(_)) => Cow::Borrowed(field),
        (name, value) => Cow::Owned([&*name, b"=", &*value].concat()),
    }
}

/// A delimiter is `--` and at most 70 characters (RFC 2046 §5.1.1).
const MAX_DELIMITER_BYTES: usize = 72;

/// Rewrites `multipart/form-data` (RFC 7578). The first line is the delimiter. Each part is
/// rewritten separately, and the delimiters stay unchanged.
fn rewrite_multipart(rewriter: &Rewriter<'_>, body: &[u8]) -> Option<Vec<u8>> {
    let delimiter = &body[..find(&body[..body.len().min(MAX_DELIMITER_BYTES + 2)], b"\r\n")?];
    let mut rewritten = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = find(rest, delimiter) {
        rewritten.extend_from_slice(&rewrite_part(rewriter, &rest[..at]));
        rewritten.extend_from_slice(delimiter);
        rest = &rest[at + delimiter.len()..];
    }
    rewritten.extend_from_slice(&text::rewrite(rewriter, rest));
    Some(rewritten)
}

/// Rewrites the bytes between two delimiters: head, empty line, content.
fn rewrite_part<'b>(rewriter: &Rewriter<'_>, part: &'b [u8]) -> Cow<'b, [u8]> {
    const EMPTY_LINE: &[u8] = b"\r\n\r\n";
    let Some(content) = find(part, EMPTY_LINE).map(|at| at + EMPTY_LINE.len()) else {
        return text::rewrite(rewriter, part);
    };
    let (head, content) = part.split_at(content);
    if field_name(head).is_some_and(|name| rewriter.keeps_field(&name)) {
        return Cow::Borrowed(part);
    }
    let content = match std::str::from_utf8(content) {
        Ok(content) => Cow::Owned(rewriter.rewrite_value(content).into_owned().into_bytes()),
        Err(_) => text::rewrite(rewriter, content),
    };
    Cow::Owned([&*text::rewrite(rewriter, head), &*content].concat())
}

/// Returns the field name in the `Content-Disposition` of a part.
fn field_name(head: &[u8]) -> Option<Cow<'_, str>> {
    const NAME: &[u8] = b" name=\"";
    let value = &head[find(head, NAME)? + NAME.len()..];
    let end = value.iter().position(|&byte| byte == b'"')?;
    Some(String::from_utf8_lossy(&value[..end]))
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::with_test_key;

    /// Returns the form with `~` in place of Ada's pseudonym.
    fn rewritten(body: &str) -> Option<String> {
        let pseudonymizer = with_test_key();
        let ada = pseudonymizer.pseudonym("ada@example.com").unwrap();
        let ada = ada.strip_suffix("@example.com").unwrap();
        let body = rewrite(&Rewriter::new(&pseudonymizer), body.as_bytes())?.into_owned();
        Some(String::from_utf8(body).unwrap().replace(ada, "~"))
    }

    #[test]
    fn addresses_in_values_and_names_of_fields_are_replaced() {
        for (body, expected) in [
            ("a=b%20c&recipient=ada%40example.com", "a=b%20c&recipient=~%40example.com"),
            ("recipient=Ada@Example.com&x", "recipient=~%40Example.com&x"),
            ("x=1&ada%40example.com=2", "x=1&~%40example.com=2"),
            (
                "Message-Id=%3C1%40mx.test%3E&to=ada%40example.com",
                "Message-Id=%3C1%40mx.test%3E&to=~%40example.com",
            ),
            (
                "mandrill_events=%5B%7B%22email%22%3A%22ada%40example.com%22%2C%22smtp-id%22%3A%221%40mx.test%22%7D%5D",
                "mandrill_events=%5B%7B%22email%22%3A%22~%40example.com%22%2C%22smtp-id%22%3A%221%40mx.test%22%7D%5D",
            ),
        ] {
            assert_eq!(rewritten(body).as_deref(), Some(expected));
        }
        for body in ["ada@example.com", "to: x=ada@example.com", "{\"a\"=1}", "=ada@example.com"] {
            assert_eq!(rewritten(body), None, "{body}");
        }
    }

    #[test]
    fn addresses_in_parts_of_a_multipart_form_are_replaced() {
        let part = |name: &str, content: &str| {
            format!("--b0\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
        };
        let form = |ada: &str| {
            part("recipient", &format!("{ada}@example.com"))
                + &part("Message-Id", "<1@mx.test>")
                + &part("message-headers", &format!("[[\"To\",\"{ada}@example.com\"]]"))
                + "--b0--\r\n"
        };
        assert_eq!(rewritten(&form("ada")).unwrap(), form("~"));
    }
}
