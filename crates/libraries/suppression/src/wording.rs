//! The answer of a server without what it says about the recipient.

use event::recipient_key;
use privacy::is_pseudonym;

/// The longest wording, in bytes.
const MAX_BYTES: usize = 200;
/// They stand for what was removed. The text has no control characters otherwise.
const ADDRESS: char = '\u{1}';
const LOCAL: char = '\u{2}';

/// Returns the beginning of a diagnostic in which every address is `<address>`, and the local part of the recipient
/// alone is `<local>`: `550 5.1.1 <ada@example.com>: ada unknown` becomes `550 5.1.1 <address>: <local> unknown`.
///
/// If the recipient is a pseudonym, nobody knows which words name the person. Then only the codes are left: `550 5.1.1`.
/// If the text is about several recipients, `recipient` is empty, and only addresses are removed.
pub fn without_addresses(diagnostic: &str, recipient: &str) -> String {
    let recipient = recipient_key(recipient);
    let local = recipient.rsplit_once('@').map_or("", |(local, _)| local);
    if is_pseudonym(local) {
        return codes(diagnostic);
    }
    let printable = diagnostic.chars().filter_map(|c| match c {
        c if c.is_whitespace() => Some(' '),
        c => (!c.is_control()).then_some(c),
    });
    // Before the text is split, because a local part may have separators: `o'brien`.
    let text = replace(&printable.collect::<String>(), &recipient, ADDRESS);
    let text = replace(&text, local.trim_matches('"'), LOCAL);
    let is_separator = |c: char| c.is_whitespace() || "<>()[]{},;:\"'=".contains(c);
    let mut out = String::new();
    let mut rest = text.as_str();
    while !rest.is_empty() && out.len() < MAX_BYTES {
        let end = rest.find(is_separator).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        push_word(&mut out, word);
        // A word and one separator, which may have several bytes.
        let mut separators = after.chars();
        match separators.next() {
            Some('<' | '>') | None => {}
            Some(c) => out.push(c),
        }
        rest = separators.as_str();
    }
    out.truncate(out.floor_char_boundary(MAX_BYTES));
    out
}

fn push_word(out: &mut String, word: &str) {
    if word.contains(['@', ADDRESS]) || word.contains("%40") {
        out.push_str("<address>");
    } else if word.contains(LOCAL) {
        out.push_str("<local>");
    } else {
        out.push_str(word);
    }
}

/// Replaces a text in any case.
fn replace(text: &str, wanted: &str, mark: char) -> String {
    if wanted.is_empty() {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    loop {
        if let Some(after) = strip_prefix(rest.as_str(), wanted) {
            out.push(mark);
            rest = after.chars();
        } else if let Some(c) = rest.next() {
            out.push(c);
        } else {
            return out;
        }
    }
}

fn strip_prefix<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let mut chars = text.chars();
    let is_next =
        |wanted: char| chars.next().is_some_and(|c| c.to_lowercase().eq(wanted.to_lowercase()));
    prefix.chars().all(is_next).then_some(chars.as_str())
}

/// Returns the first code of a reply (RFC 5321) and the first enhanced status code (RFC 3463).
fn codes(diagnostic: &str) -> String {
    let is_digits = |part: &str, most: usize| {
        (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_code =
        |part: &&str| part.len() == 3 && is_digits(part, 3) && part.starts_with(['2', '4', '5']);
    let is_status = |part: &&str| {
        let parts: Vec<&str> = part.split('.').collect();
        matches!(parts[..], [class, subject, detail]
            if matches!(class, "2" | "4" | "5") && is_digits(subject, 3) && is_digits(detail, 3))
    };
    let parts = || diagnostic.split(|c: char| !c.is_ascii_digit() && c != '.');
    // A code may end a sentence.
    let parts = || parts().map(|part| part.trim_matches('.'));
    let found = [parts().find(is_code), parts().find(is_status)];
    found.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_the_local_part_are_removed() {
        for (diagnostic, expected) in [
            ("550 5.1.1 <ada@example.com>: ada unknown", "550 5.1.1 <address>: <local> unknown"),
            ("550 Ada... User unknown", "550 <local> User unknown"),
            ("rfc822;ADA@example.com\r\nno", "rfc822;<address>  no"),
            ("smtp; 550 mailbox full", "smtp; 550 mailbox full"),
            ("550 a\u{7}da: \u{1}\u{1b}[2Jeve%40x.com", "550 <local>: [<address>"),
            ("", ""),
        ] {
            assert_eq!(without_addresses(diagnostic, "ada@example.com"), expected);
        }
        assert_eq!(without_addresses("550 ada", "Ada <ADA@example.com>"), "550 <local>");
    }

    #[test]
    fn a_local_part_may_have_separators() {
        for (diagnostic, recipient, expected) in [
            (
                "550 <O'Brien@x.com>: no o'brien here",
                "o'brien@x.com",
                "550 <address>: no <local> here",
            ),
            ("550 ADA=acme: ada=acme@x.com", "ada=acme@x.com", "550 <local>: <address>"),
            ("550 \"ada b\"@x.com; ada b", "\"ada b\"@x.com", "550 <address>; <local>"),
            ("550 MÜLLER=X", "müller=x@x.com", "550 <local>"),
        ] {
            assert_eq!(without_addresses(diagnostic, recipient), expected, "{recipient}");
        }
    }

    #[test]
    fn of_a_pseudonym_only_the_codes_are_left() {
        let pseudonym = "fad32a0144f8518642ba63cc43595bba@example.com";
        for (diagnostic, expected) in [
            ("smtp; 550-5.1.1 <ada@example.com>: Ada Lovelace is unknown", "550 5.1.1"),
            ("5.7.26 unauthenticated", "5.7.26"),
            ("552 full, from 10.2.3.4 at 12.30.2026", "552"),
            ("ada is unknown", ""),
            ("User unknown, code 5.1.1. See RFC 3463.", "5.1.1"),
            ("550. 5.1.1.: gone", "550 5.1.1"),
        ] {
            assert_eq!(without_addresses(diagnostic, pseudonym), expected);
        }
    }

    #[test]
    fn it_is_short() {
        let long = without_addresses(&"ü ".repeat(1000), "ada@example.com");
        assert!(long.len() <= MAX_BYTES && long.len() > MAX_BYTES - 4, "{}", long.len());
    }
}
