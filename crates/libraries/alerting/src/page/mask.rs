//! Texts without complete addresses.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::mask_address;

/// The shortest local part that is looked for in a text without its domain, in characters. Shorter ones are part of
/// many words.
const MIN_LOCAL_PART: usize = 3;

/// Masks every address. Everything between the last boundary and the sign counts as local part, because it can contain
/// another address: `bounce+ada=example.com@acme.example`.
pub fn mask_addresses(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(sign) = next_sign(rest) {
        let (before, after) = rest.split_at(sign.start);
        let begin = local_part_begin(before);
        let end = after.find(is_boundary).map_or(rest.len(), |end| sign.start + end);
        let word = &rest[begin..end.max(sign.end)];
        masked.push_str(&rest[..begin]);
        masked.push_str(&mask_word(word));
        rest = &rest[begin + word.len()..];
    }
    masked.push_str(rest);
    masked
}

/// Masks the address in a word with at least one sign. The last one is before the domain.
fn mask_word(word: &str) -> String {
    let (mut local_end, mut domain_begin) = (0, 0);
    while let Some(sign) = next_sign(&word[domain_begin..]) {
        (local_end, domain_begin) = (domain_begin + sign.start, domain_begin + sign.end);
    }
    let (local_part, domain) = (&word[..local_end], &word[domain_begin..]);
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    let domain_end = domain.find(|c| !is_part(c)).unwrap_or(domain.len());
    let (domain, behind) = domain.split_at(domain_end);
    mask_address(&format!("{local_part}@{domain}")) + behind
}

/// Returns where the local part begins that ends with the text.
fn local_part_begin(before: &str) -> usize {
    // "ada lovelace"@example.com
    if let Some(begin) = before.strip_suffix('"').and_then(|quoted| quoted.rfind('"')) {
        return begin;
    }
    let boundary = before.char_indices().rfind(|(_, c)| is_boundary(*c));
    let begin = boundary.map_or(0, |(index, c)| index + c.len_utf8());
    let local_part = &before[begin..];
    begin + local_part.len() - local_part.trim_start_matches('\'').len()
}

/// Returns where the first sign is that separates local part and domain: `@`, percent-encoded any number of times, or
/// escaped as in JSON.
fn next_sign(text: &str) -> Option<std::ops::Range<usize>> {
    text.match_indices(['@', '%', '\\']).find_map(|(start, _)| {
        let rest = &text[start..];
        let behind = match rest.strip_prefix('%') {
            Some(encoded) => encoded.trim_start_matches("25").strip_prefix("40"),
            None => rest.strip_prefix('@').or_else(|| rest.strip_prefix("\\u0040")),
        }?;
        Some(start..text.len() - behind.len())
    })
}

/// Returns whether the character ends a word in which an address is looked for. A local part can contain `=` and `'`.
fn is_boundary(c: char) -> bool {
    c.is_whitespace() || "<>()[]{}\",;:/&?".contains(c)
}

/// Masks every address in a text about a recipient, and the recipient's local part wherever it occurs: as it is,
/// percent-encoded, and without what follows `+`. Servers often name it alone, as in `550 ada.lovelace: unknown`. One of
/// less than three characters is not looked for.
pub fn mask_text_about(text: &str, recipient: &str) -> String {
    mask_local_part(&mask_addresses(text), recipient)
}

fn mask_local_part(text: &str, recipient: &str) -> String {
    let Some((local_part, _)) = recipient.rsplit_once('@') else { return text.to_owned() };
    let encoded = utf8_percent_encode(local_part, NON_ALPHANUMERIC).to_string();
    let plain = encoded.replace("%2D", "-").replace("%2E", ".").replace("%5F", "_");
    let base = local_part.split('+').next().unwrap_or_default();
    let masks = (mask_address(local_part), mask_address(base));
    let forms = [
        (encoded.as_str(), &masks.0),
        (plain.as_str(), &masks.0),
        (local_part, &masks.0),
        (base, &masks.1),
    ];
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let found = forms.iter().find(|(form, _)| {
            let beginning = rest.get(..form.len());
            form.chars().count() >= MIN_LOCAL_PART
                && beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(form))
        });
        let length = match found {
            Some((form, mask)) => {
                masked.push_str(mask);
                form.len()
            }
            None => {
                masked.push(c);
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    masked
}
