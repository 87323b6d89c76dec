//! Addresses as providers write them: alone, in angle brackets, or with a display name.

use std::borrow::Cow;

use crate::limits::{self, cut};

/// Returns the key of a recipient's events: the bare address with ASCII letters in lower case,
/// without a display name, comments, angle brackets and surrounding white space (RFC 5322 §3.4). It
/// has at most [`limits::RECIPIENT`] bytes. Borrows if nothing changes.
///
/// RFC 5321 §2.4 makes local parts case-sensitive; in practice no server treats them so.
pub fn recipient_key(address: &str) -> Cow<'_, str> {
    let bare = cut(bare(address), limits::RECIPIENT);
    if bare.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(bare.to_ascii_lowercase())
    } else {
        Cow::Borrowed(bare)
    }
}

/// Returns the part of an address after the last `@`, or `""` if there is no `@`.
pub fn domain_of(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

/// Returns the addresses of a header such as `To`: `"Doe, Jane" <jane@example.com>, bob@example.org`
/// has two. Empty elements are left out.
pub fn addresses(header: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(header);
    let elements = std::iter::from_fn(move || {
        let text = rest?;
        let (element, after) = match find(text, |byte| byte == b',') {
            Some(comma) => (&text[..comma], Some(&text[comma + 1..])),
            None => (text, None),
        };
        rest = after;
        Some(element)
    });
    elements.filter(|element| !bare(element).is_empty())
}

/// Returns the address without display name, comments and angle brackets.
fn bare(address: &str) -> &str {
    let address = address.trim();
    // Without quotation marks around the name, the last bracket opens the address. A quotation mark
    // that is never closed is a part of the name.
    let open = find(address, |byte| byte == b'<').or_else(|| {
        let is_unclosed = address.bytes().filter(|&byte| byte == b'"').count() % 2 == 1;
        address.rfind('<').filter(|_| is_unclosed)
    });
    let inside = match open {
        Some(open) => {
            let inside = &address[open + 1..];
            let inside = inside.trim_start_matches('<');
            find(inside, |byte| byte == b'>').map_or(inside, |close| &inside[..close])
        }
        // `ada@example.com (Ada)`
        None => match address.strip_suffix(')').and_then(|_| find(address, |byte| byte == b'(')) {
            Some(comment) if comment > 0 => &address[..comment],
            _ => address.trim_end_matches('>'),
        },
    };
    inside.trim()
}

/// Returns the position of the first wanted byte that is outside of quotation marks. The wanted byte
/// is ASCII, so the position is at a character boundary.
fn find(text: &str, wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        if is_escaped {
            is_escaped = false;
            return false;
        }
        match byte {
            b'\\' => is_escaped = is_quoted,
            b'"' => is_quoted = !is_quoted,
            _ => return !is_quoted && wanted(byte),
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_normalised_to_keys() {
        assert_eq!(recipient_key(" <Ada@Example.COM> "), "ada@example.com");
        assert!(matches!(recipient_key("ada@example.com"), Cow::Borrowed(_)));
        assert_eq!(domain_of("\"a@b\"@example.org"), "example.org");
        assert_eq!(domain_of("no-domain"), "");
    }

    #[test]
    fn display_names_are_no_part_of_a_key() {
        for written in [
            "Jane <Jane@Shop.example>",
            "\"Doe, Jane\" <jane@shop.example>",
            "\"Jane <the boss>\" <jane@shop.example>",
            r#""Jane \"<j>\" Doe" <jane@shop.example> "#,
            "Doe, Jane <jane@shop.example>",
            "\"Jane <jane@shop.example>",
            "=?utf-8?q?Jane?= <jane@shop.example>",
            "jane@shop.example (Jane Doe)",
            "<<jane@shop.example>>",
            "<jane@shop.example",
            "jane@shop.example>",
        ] {
            assert_eq!(recipient_key(written), "jane@shop.example", "{written}");
        }
        for kept in
            ["\"a<b\"@shop.example", "\"a,b\"@shop.example", "\"a b\"@shop.example", "", "jane"]
        {
            assert_eq!(recipient_key(kept), kept);
        }
        assert_eq!(recipient_key("Jane <\"j > d\"@shop.example>"), "\"j > d\"@shop.example");
        assert_eq!(recipient_key("Jane <>"), "");
    }

    #[test]
    fn a_header_has_several_addresses() {
        let keys = |header| addresses(header).map(recipient_key).collect::<Vec<_>>();
        assert_eq!(
            keys("\"Doe, Jane\" <jane@shop.example>,, Bob@Shop.example , <eve@shop.example>"),
            ["jane@shop.example", "bob@shop.example", "eve@shop.example"]
        );
        assert!(keys(" , ").is_empty() && keys("").is_empty());
    }

    #[test]
    fn a_key_has_a_maximum_length() {
        let long = format!("{}@shop.example", "é".repeat(1_000));
        let key = recipient_key(&long);
        assert_eq!(key, "é".repeat(limits::RECIPIENT / 2));
    }
}
