/// The white space in JSON.
#[derive(Clone, Copy, PartialEq)]
enum Gaps {
    None,
    /// A space follows each comma and colon.
    Spaces,
    /// A line end follows each element of the outermost array.
    Lines,
}

/// How a text writes characters that JSON allows to be written in two ways.
#[derive(Clone, Copy, PartialEq)]
enum Escapes {
    AsIs,
    /// `/` as `\/`.
    Slashes,
    /// `\/` as `/`.
    NoSlashes,
    /// `<`, `>` and `&` as `\u003c`, `\u003e` and `\u0026`.
    Html,
    /// Everything that is not ASCII as `\u` and four digits.
    Ascii,
}

/// The JSON styles that providers use, and that proxies replace by another.
const STYLES: [(&str, Gaps, Escapes); 7] = [
    ("compact JSON", Gaps::None, Escapes::AsIs),
    ("JSON with spaces", Gaps::Spaces, Escapes::AsIs),
    ("compact JSON with `\\/`", Gaps::None, Escapes::Slashes),
    ("compact JSON with `/` not escaped", Gaps::None, Escapes::NoSlashes),
    ("compact JSON with `<`, `>` and `&` escaped", Gaps::None, Escapes::Html),
    ("JSON with spaces, in ASCII", Gaps::Spaces, Escapes::Ascii),
    ("an array with one event per line, `<` and `>` escaped", Gaps::Lines, Escapes::Html),
];
const ENDS: [(&str, &[u8]); 3] = [("no", b""), ("a", b"\n"), ("a CRLF as its", b"\r\n")];

/// Returns the body as it may have been before a proxy changed it, each with the explanation to
/// report if the request passes with it.
pub(super) fn variants(body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut variants = Vec::new();
    let bare = body.trim_ascii_end();
    for (name, end) in ENDS {
        let fix = format!(
            "verifies if the body has {name} trailing newline: a newline was added or removed in \
             transit"
        );
        variants.push((fix, [bare, end].concat()));
    }
    let text = String::from_utf8_lossy(body);
    let lines = text.replace("\r\n", "\n");
    let why = "line ends were changed in transit";
    variants.push((format!("verifies with LF line ends: {why}"), lines.clone().into()));
    variants
        .push((format!("verifies with CRLF line ends: {why}"), lines.replace('\n', "\r\n").into()));
    if let Some(rest) = body.strip_prefix(b"\xef\xbb\xbf") {
        variants.push(("verifies without the byte order mark".to_owned(), rest.to_vec()));
    }
    for (name, gaps, escapes) in STYLES {
        let written = rewritten(text.trim(), gaps, escapes);
        for (_, end) in ENDS {
            let fix = format!(
                "verifies against the body re-serialised as {name}: a proxy in front of the \
                 ingress rewrote it"
            );
            variants.push((fix, [written.as_bytes(), end].concat()));
        }
    }
    variants.retain(|(_, other)| other != body);
    variants
}

/// Returns JSON in another style. The values and their order stay the same.
fn rewritten(json: &str, gaps: Gaps, escapes: Escapes) -> String {
    let mut out = String::with_capacity(json.len() + json.len() / 8);
    let mut depth = 0_usize;
    let mut rest = json.chars();
    while let Some(char) = rest.next() {
        match char {
            ' ' | '\t' | '\r' | '\n' => continue,
            '"' => {
                out.push('"');
                text(&mut rest, escapes, &mut out);
                continue;
            }
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        out.push(char);
        match (gaps, char) {
            (Gaps::Spaces, ',' | ':') => out.push(' '),
            (Gaps::Lines, ',') if depth == 1 => out.push_str("\r\n"),
            _ => {}
        }
    }
    out
}

/// Writes the rest of a JSON text, from after its opening quotation mark.
fn text(rest: &mut std::str::Chars<'_>, escapes: Escapes, out: &mut String) {
    while let Some(char) = rest.next() {
        match (char, escapes) {
            ('"', _) => {
                out.push('"');
                return;
            }
            ('\\', _) => match rest.next() {
                Some('/') if escapes == Escapes::NoSlashes => out.push('/'),
                Some(escaped) => out.extend(['\\', escaped]),
                None => out.push('\\'),
            },
            ('/', Escapes::Slashes) => out.push_str("\\/"),
            ('<' | '>' | '&', Escapes::Html) => escape(char, out),
            (char, Escapes::Ascii) if !char.is_ascii() => escape(char, out),
            _ => out.push(char),
        }
    }
}

/// Writes `\u` and four digits for each UTF-16 unit.
fn escape(char: char, out: &mut String) {
    for unit in char.encode_utf16(&mut [0; 2]) {
        out.push_str(&format!("\\u{unit:04x}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_style_has_the_same_value() {
        let json = r#" [ {"a" : "x \" , :/<é>" , "b":[1, 2]},{"c":"\/"} ] "#;
        let written = |gaps, escapes| rewritten(json, gaps, escapes);
        let plain = r#"[{"a":"x \" , :/<é>","b":[1,2]},{"c":"\/"}]"#;
        assert_eq!(written(Gaps::None, Escapes::AsIs), plain);
        let spaced = r#"[{"a": "x \" , :/<\u00e9>", "b": [1, 2]}, {"c": "\/"}]"#;
        assert_eq!(written(Gaps::Spaces, Escapes::Ascii), spaced);
        assert_eq!(written(Gaps::None, Escapes::Slashes), plain.replace(":/<", ":\\/<"));
        assert_eq!(written(Gaps::None, Escapes::NoSlashes), plain.replace("\\/", "/"));
        let lines = plain.replace("},{", "},\r\n{").replace('<', "\\u003c");
        assert_eq!(written(Gaps::Lines, Escapes::Html), lines.replace('>', "\\u003e"));
    }

    #[test]
    fn no_variant_is_the_body_itself() {
        for body in [&b"{\"a\":1}\n"[..], b"", b"\xff\xfe", b"a=b\r\n"] {
            assert!(variants(body).iter().all(|(_, variant)| variant != body));
        }
    }
}
