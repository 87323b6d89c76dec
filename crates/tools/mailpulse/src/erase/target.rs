//! What is erased, as patterns of ClickHouse's SQL.

use privacy::{Digest, ErasureKey};

use crate::database::literal;

/// One address to erase, in lower case, and what takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) pseudonym: String,
    pub(crate) digest: Digest,
}

impl Target {
    /// Returns `None` if the text is no address.
    pub(crate) fn new(key: &ErasureKey, address: &str) -> Option<Self> {
        let address = event::recipient_key(address).into_owned();
        let (pseudonym, digest) = (key.pseudonym(&address)?, key.digest(&address));
        Some(Self { address, pseudonym, digest })
    }
}

/// Addresses that are erased together.
///
/// The SQL finds an address in any case, JSON-escaped, and percent-encoded any number of times. In front of it may be
/// everything but a character that would make it another address.
pub(crate) struct Targets<'t>(pub(crate) &'t [Target]);

impl Targets<'_> {
    /// Returns the definitions that the other expressions use, for `WITH`.
    pub(crate) fn definitions(&self) -> String {
        let whole = self.0.iter().enumerate().map(|(number, target)| {
            let (local, domain) = target.address.rsplit_once('@').unwrap_or((&target.address, ""));
            let domain = pattern(&format!("@{domain}"));
            let pattern = format!("(?i)({BEFORE}){}({domain})({AFTER})", pattern(local));
            format!("{} AS erased_{number}", literal(&pattern))
        });
        let each: Vec<String> = self.0.iter().map(|target| pattern(&target.address)).collect();
        let any = format!("(?i)(?:{BEFORE})(?:{})(?:{AFTER})", each.join("|"));
        whole.chain([format!("{} AS erased_any", literal(&any))]).collect::<Vec<_>>().join(", ")
    }

    /// Returns whether a text names one of the addresses.
    pub(crate) fn is_named_in(&self, text: &str) -> String {
        format!("match({text}, erased_any)")
    }

    /// Returns a text with the local parts of the addresses replaced.
    pub(crate) fn removed_from(&self, text: &str) -> String {
        let mut expression = text.to_owned();
        for (number, target) in self.0.iter().enumerate() {
            let local = target.pseudonym.split('@').next().unwrap_or_default();
            // Of two addresses side by side, one pass finds every other one.
            for _ in 0..2 {
                expression = format!(
                    "replaceRegexpAll({expression}, erased_{number}, '\\\\1{local}\\\\2\\\\3')"
                );
            }
        }
        expression
    }

    /// Returns whether a column is one of the addresses.
    pub(crate) fn is(&self, column: &str) -> String {
        format!("{column} IN ({})", list(self.0.iter().map(|target| &*target.address)))
    }

    /// Returns a column with each of the addresses replaced by its pseudonym.
    pub(crate) fn pseudonym_of(&self, column: &str) -> String {
        format!(
            "transform({column}, [{}], [{}], {column})",
            list(self.0.iter().map(|target| &*target.address)),
            list(self.0.iter().map(|target| &*target.pseudonym)),
        )
    }
}

fn list<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    texts.map(literal).collect::<Vec<_>>().join(", ")
}

/// What may be in front of an address: nothing, a character that no local part has or few have, or an escape.
const BEFORE: &str =
    r"^|[^a-z0-9._+\-\x{80}-\x{10ffff}]|%(?:25)*[0-9a-f]{2}|\\+u[0-9a-f]{4}|\\+[bfnrt]";
/// What may be behind it. A full stop is the end of a sentence, or the address goes on.
const AFTER: &str = r"$|[^a-z0-9._\-\x{80}-\x{10ffff}]|\.(?:$|[^a-z0-9])";

/// Returns a regular expression for a text in every encoding of each of its characters.
fn pattern(text: &str) -> String {
    text.chars().map(character).collect()
}

fn character(c: char) -> String {
    let mut forms = vec![escaped(c)];
    let cases: Vec<char> = if c.is_ascii_alphabetic() {
        vec![c.to_ascii_lowercase(), c.to_ascii_uppercase()]
    } else {
        vec![c]
    };
    for c in cases {
        let (mut bytes, mut units) = ([0; 4], [0; 2]);
        let bytes = c.encode_utf8(&mut bytes).bytes();
        forms.push(bytes.map(|byte| format!("%(?:25)*{byte:02x}")).collect());
        let units = c.encode_utf16(&mut units).iter();
        forms.push(units.map(|unit| format!(r"\\+u{unit:04x}")).collect());
    }
    format!("(?:{})", forms.join("|"))
}

/// Returns a character as a regular expression that matches only it.
fn escaped(c: char) -> String {
    if c.is_ascii_alphanumeric() || !c.is_ascii() { c.to_string() } else { format!("\\{c}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_has_all_its_encodings() {
        assert_eq!(character('a'), r"(?:a|%(?:25)*61|\\+u0061|%(?:25)*41|\\+u0041)");
        assert_eq!(character('.'), r"(?:\.|%(?:25)*2e|\\+u002e)");
        assert_eq!(character('é'), r"(?:é|%(?:25)*c3%(?:25)*a9|\\+u00e9)");
    }

    #[test]
    fn a_target_is_an_address_in_any_spelling() {
        let key = ErasureKey::new(b"a key of the tests alone").unwrap();
        let target = Target::new(&key, " Ada <Ada@Example.com>").unwrap();
        assert_eq!(target.address, "ada@example.com");
        assert!(target.pseudonym.ends_with("@example.com"));
        assert_eq!(Target::new(&key, "ada"), None);
    }
}
