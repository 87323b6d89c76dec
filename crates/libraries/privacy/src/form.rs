//! Addresses in the fields of forms.

use std::borrow::Cow;

use crate::ids::holds_message_id;
use crate::{Pseudonyms, text};

/// A form with its addresses replaced; `None` for what is none.
pub(crate) fn rewrite<'b>(pseudonyms: &Pseudonyms, body: &'b [u8]) -> Option<Cow<'b, [u8]>> {
    if body.starts_with(b"--") {
        return multipart(pseudonyms, body).map(Cow::Owned);
    }
    is_urlencoded(body).then(|| Cow::Owned(urlencoded(pseudonyms, body)))
}

/// Whether a body looks like `application/x-www-form-urlencoded`: names and values without a
/// character that would have been encoded.
fn is_urlencoded(body: &[u8]) -> bool {
    let body = body.trim_ascii_end();
    let plain = |&byte: &u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
    let name = body.split(|&byte| byte == b'=').next().unwrap_or_default();
    let in_name = |&byte: &u8| byte.is_ascii_alphanumeric() || b"%+-_.*[]".contains(&byte);
    body.iter().all(plain) && !name.is_empty() && name != body && name.iter().all(in_name)
}

/// Fields in which something was replaced are encoded anew.
fn urlencoded(pseudonyms: &Pseudonyms, body: &[u8]) -> Vec<u8> {
    let fields = body.split(|&byte| byte == b'&');
    let fields: Vec<Cow<'_, [u8]>> = fields.map(|field| field_of(pseudonyms, field)).collect();
    fields.join(&b'&')
}

fn field_of<'b>(pseudonyms: &Pseudonyms, field: &'b [u8]) -> Cow<'b, [u8]> {
    let equals = field.iter().position(|&byte| byte == b'=');
    let Some((name, value)) = equals.map(|at| (&field[..at], &field[at + 1..])) else {
        return text::rewrite(pseudonyms, field);
    };
    // What is not UTF-8 is no address: it may become something else in a field that has one.
    let read = form_urlencoded::parse(field).next();
    let (read_name, read_value) = read.unwrap_or_default();
    let value = match holds_message_id(&read_name) {
        true => Cow::Borrowed(value),
        false => match pseudonyms.value(&read_value) {
            Cow::Borrowed(_) => Cow::Borrowed(value),
            Cow::Owned(replaced) => {
                let encoded: String =
                    form_urlencoded::byte_serialize(replaced.as_bytes()).collect();
                Cow::Owned(encoded.into_bytes())
            }
        },
    };
    match (text::rewrite(pseudonyms, name), value) {
        (Cow::Borrowed(_), Cow::Borrowed(_)) => Cow::Borrowed(field),
        (name, value) => Cow::Owned([&*name, b"=", &*value].concat()),
    }
}

/// `--` and 70 characters (RFC 2046 §5.1.1).
const LONGEST_DELIMITER: usize = 72;

/// `multipart/form-data` (RFC 7578). The delimiter is the first line; each part is replaced for
/// itself and goes back between the delimiters as they were.
fn multipart(pseudonyms: &Pseudonyms, body: &[u8]) -> Option<Vec<u8>> {
    let delimiter = &body[..find(&body[..body.len().min(LONGEST_DELIMITER + 2)], b"\r\n")?];
    let mut rewritten = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = find(rest, delimiter) {
        rewritten.extend_from_slice(&part_of(pseudonyms, &rest[..at]));
        rewritten.extend_from_slice(delimiter);
        rest = &rest[at + delimiter.len()..];
    }
    rewritten.extend_from_slice(&text::rewrite(pseudonyms, rest));
    Some(rewritten)
}

/// What stands between two delimiters: head, empty line, content.
fn part_of<'b>(pseudonyms: &Pseudonyms, part: &'b [u8]) -> Cow<'b, [u8]> {
    const EMPTY_LINE: &[u8] = b"\r\n\r\n";
    let Some(content) = find(part, EMPTY_LINE).map(|at| at + EMPTY_LINE.len()) else {
        return text::rewrite(pseudonyms, part);
    };
    let (head, content) = part.split_at(content);
    if name_of(head).is_some_and(|name| holds_message_id(&name)) {
        return Cow::Borrowed(part);
    }
    let content = match std::str::from_utf8(content) {
        Ok(content) => Cow::Owned(pseudonyms.value(content).into_owned().into_bytes()),
        Err(_) => text::rewrite(pseudonyms, content),
    };
    Cow::Owned([&*text::rewrite(pseudonyms, head), &*content].concat())
}

/// The name in a part's `Content-Disposition`.
fn name_of(head: &[u8]) -> Option<Cow<'_, str>> {
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

    /// The form with `~` for Ada's pseudonym.
    fn rewritten(body: &str) -> Option<String> {
        let pseudonyms = with_test_key();
        let ada = pseudonyms.of("ada@example.com").unwrap();
        let ada = ada.strip_suffix("@example.com").unwrap();
        let body = rewrite(&pseudonyms, body.as_bytes())?.into_owned();
        Some(String::from_utf8(body).unwrap().replace(ada, "~"))
    }

    #[test]
    fn values_and_names_of_fields() {
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
    fn parts_of_a_form() {
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
