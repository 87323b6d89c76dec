use std::borrow::Cow;

use super::Field;

/// Returns the fields of a `multipart/form-data` body (RFC 7578) in order, without files. `None` if
/// the body is of another type, or has more than `limit` parts.
///
/// The body starts with the boundary, so the header that repeats it is not needed.
pub(crate) fn multipart(body: &[u8], limit: usize) -> Option<Vec<Field<'_>>> {
    let (delimiter, mut rest) = line(body)?;
    // RFC 2046 §5.1.1: two hyphens and up to 70 characters.
    if !(3..=72).contains(&delimiter.len()) || !delimiter.starts_with(b"--") {
        return None;
    }
    let mut fields = Vec::new();
    for _ in 0..limit {
        let (part, after) = until_delimiter(rest, delimiter)?;
        fields.extend(field(part)?);
        if after.starts_with(b"--") {
            return Some(fields);
        }
        rest = line(after)?.1;
    }
    None
}

/// Returns the first line without trailing white space, and what follows it.
fn line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (line, rest) = split_once(text, b"\r\n")?;
    Some((line.trim_ascii_end(), rest))
}

/// Returns what precedes the next `\r\n` and delimiter, and what follows them.
fn until_delimiter<'a>(text: &'a [u8], delimiter: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    split_once(text, &[b"\r\n", delimiter].concat())
}

/// Reads the name and the value of one part. Returns `Some(None)` for a file, and `None` if it is
/// not a part of a form.
fn field(part: &[u8]) -> Option<Option<Field<'_>>> {
    let (head, value) = split_once(part, b"\r\n\r\n")?;
    let head = std::str::from_utf8(head).ok()?;
    let disposition = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    if parameter(disposition, "filename").is_some() {
        return Some(None);
    }
    let name = parameter(disposition, "name")?;
    Some(Some((Cow::Borrowed(name.as_bytes()), Cow::Borrowed(value))))
}

/// Returns the value of a quoted parameter. Quotation marks inside it are encoded as `%22`.
fn parameter<'a>(disposition: &'a str, name: &str) -> Option<&'a str> {
    disposition.split(';').find_map(|parameter| {
        let (key, value) = parameter.trim().split_once('=')?;
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

fn split_once<'a>(text: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let start = text.windows(at.len()).position(|window| window == at)?;
    Some((&text[..start], &text[start + at.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Option<Vec<(String, String)>> {
        let text = |bytes: Cow<'_, [u8]>| String::from_utf8(bytes.into_owned()).unwrap();
        let fields = multipart(body.as_bytes(), 3)?.into_iter();
        Some(fields.map(|(name, value)| (text(name), text(value))).collect())
    }

    #[test]
    fn fields_are_read_and_files_left_out() {
        let body = "--xYz \r\nContent-Disposition: form-data; name=\"event\"\r\n\r\nopened\r\n\
            --xYz\r\nX: y\r\ncontent-disposition: form-data; name=\"a\"; filename=\"a.txt\"\r\n\r\n\
            file\r\n--xYz\r\nContent-Disposition: form-data; name=\"two\"\r\n\r\nl1\r\nl2\r\n\
            --xYz--\r\n";
        let pairs = [("event", "opened"), ("two", "l1\r\nl2")];
        assert_eq!(read(body), Some(pairs.map(|(n, v)| (n.into(), v.into())).to_vec()));
    }

    #[test]
    fn other_bodies_are_not_read() {
        let part = "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n";
        assert!(read(&format!("{part}--x--")).is_some());
        let parts = |count| format!("{}--x--", part.repeat(count));
        assert!(read(&parts(3)).is_some() && read(&parts(4)).is_none(), "too many parts");
        for body in [
            "",
            "--",
            "--\r\n",
            "a=b",
            part,
            &part.replace("\r\n", "\n"),
            &format!("{}--x--", part.replace("name=\"a\"", "name=a")),
            &format!("{}--x--", part.replace("\r\n\r\n", "\r\n")),
        ] {
            assert_eq!(read(body), None, "{body:?}");
        }
    }
}
