//! Replaces mailbox addresses by pseudonyms before anything is published.
//!
//! The local part of an address becomes a keyed digest and the domain stays:
//! `ada@example.com` → `3b0c…9f@example.com`. The same address and key always give the same
//! pseudonym, so events of a recipient stay together, duplicates are recognized and tables can be
//! joined. Without the key, an address cannot be tested against a pseudonym.
//!
//! [`Pseudonymizer::rewrite_body`] rewrites a webhook body of any provider: JSON (also JSON inside
//! a JSON string, as Amazon SNS sends it), forms, and anything else as text. It finds addresses in
//! plain text, in any case, JSON-escaped, and percent-encoded any number of times. It skips fields
//! that contain message ids, which look like addresses.
//!
//! It does not find addresses in other encodings, such as base64 or quoted-printable text inside a
//! mail that a bounce quotes. Names, IP addresses and user agents stay unchanged.
//!
//! Pure: no I/O, no clock, no state.

mod erasure;
mod form;
mod json;
mod message_id_fields;
mod settings;
mod text;

use std::borrow::Cow;
use std::cell::Cell;

use event::recipient_key;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

pub use erasure::{Digest, ErasedSet, Eraser, ErasureKey, InvalidDigest};

/// The shortest allowed key in bytes: as long as the digest in a pseudonym.
pub const MIN_KEY_BYTES: usize = 16;

/// The number of addresses of one body that get a pseudonym. It is ten times what the largest number of
/// events needs. Beyond it, the local part becomes [`BEYOND_MAX`]: a body that is full of addresses
/// would become 16 times as long, and need millions of digests.
const MAX_PSEUDONYMS: usize = 200_000;
const BEYOND_MAX: &str = "x";

/// The length of the digest in a pseudonym: 128 bits in hexadecimal.
const DIGEST_CHARS: usize = 32;

/// Returns whether a local part is a pseudonym: `privacy.pseudonym_key` and an erasure write 32 hexadecimal digits.
pub fn is_pseudonym(local_part: &str) -> bool {
    local_part.len() == DIGEST_CHARS && local_part.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Computes pseudonyms with one key.
#[derive(Clone)]
pub struct Pseudonymizer {
    keyed: Hmac<Sha256>,
}

/// The key is so short that it could be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key has {bytes} bytes; use at least {MIN_KEY_BYTES} random bytes")]
pub struct KeyTooShort {
    /// The length of the key.
    pub bytes: usize,
}

impl Pseudonymizer {
    /// Creates a pseudonymizer.
    ///
    /// # Errors
    /// Returns an error if the key is shorter than [`MIN_KEY_BYTES`].
    pub fn new(key: &[u8]) -> Result<Self, KeyTooShort> {
        let too_short = KeyTooShort { bytes: key.len() };
        if key.len() < MIN_KEY_BYTES {
            return Err(too_short);
        }
        // HMAC itself accepts keys of any length.
        let keyed = Hmac::new_from_slice(key).map_err(|_| too_short)?;
        Ok(Self { keyed })
    }

    /// Returns the pseudonym of an address in lower case, like the keys of records. Operators use
    /// it to find the events of a recipient. Returns `None` if `address` is not an address.
    pub fn pseudonym(&self, address: &str) -> Option<String> {
        let address = recipient_key(address);
        let (local, domain) = address.rsplit_once('@')?;
        let is_complete = !local.is_empty() && !domain.is_empty();
        is_complete.then(|| format!("{}@{domain}", self.digest(address.as_bytes())))
    }

    /// Returns the body with every address replaced, or borrows it if it contains none.
    ///
    /// All other bytes stay unchanged, except that a JSON string and a form value in which an
    /// address was replaced are encoded again. The result has at most 6.4 MB more than the body.
    pub fn rewrite_body<'b>(&self, body: &'b [u8]) -> Cow<'b, [u8]> {
        Rewriter::new(self).rewrite_body(body)
    }

    /// Returns the replacement for the local part of an address: the first 128 bits of HMAC-SHA256
    /// over the whole address in lower case (RFC 2104 §5 on truncation).
    fn digest(&self, address: &[u8]) -> String {
        let mut digest = hex::encode(self.mac(address));
        digest.truncate(DIGEST_CHARS);
        digest
    }

    /// Returns HMAC-SHA256 over an address in lower case.
    fn mac(&self, address: &[u8]) -> [u8; 32] {
        let mut mac = self.keyed.clone();
        mac.update(&address.to_ascii_lowercase());
        mac.finalize().into_bytes().into()
    }
}

/// Rewrites one body.
struct Rewriter<'p> {
    pseudonymizer: &'p Pseudonymizer,
    /// How many more addresses get a pseudonym.
    left: Cell<usize>,
    /// The addresses to replace. `None`: all.
    only: Option<&'p ErasedSet>,
}

/// What takes the place of a local part.
struct Replacement {
    /// How many bytes at the beginning of the local part stay, because they are not part of the address.
    kept: usize,
    text: Cow<'static, str>,
}

impl<'p> Rewriter<'p> {
    fn new(pseudonymizer: &'p Pseudonymizer) -> Self {
        Self { pseudonymizer, left: Cell::new(MAX_PSEUDONYMS), only: None }
    }

    /// Replaces only the addresses with these digests.
    fn only(pseudonymizer: &'p Pseudonymizer, digests: &'p ErasedSet) -> Self {
        Self { only: Some(digests), ..Self::new(pseudonymizer) }
    }

    fn rewrite_body<'b>(&self, body: &'b [u8]) -> Cow<'b, [u8]> {
        if !text::may_contain_address(body) {
            return Cow::Borrowed(body);
        }
        let as_text = std::str::from_utf8(body).ok();
        if let Some(json) = as_text.filter(|text| json::is_document(text)) {
            return match json::rewrite(self, json) {
                Cow::Borrowed(_) => Cow::Borrowed(body),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            };
        }
        form::rewrite(self, body).unwrap_or_else(|| text::rewrite(self, body))
    }

    /// Rewrites the value of a field: a JSON document, or plain text.
    fn rewrite_value<'t>(&self, value: &'t str) -> Cow<'t, str> {
        if !text::may_contain_address(value.as_bytes()) {
            return Cow::Borrowed(value);
        }
        if json::is_document(value) {
            return json::rewrite(self, value);
        }
        match text::rewrite(self, value.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(value),
            // This loses nothing: whole characters were replaced by ASCII.
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// Returns true if a field of this name stays as it is. A message id has the form of an address. What equals the
    /// address of an erased recipient is one, whatever the name of its field.
    fn keeps_field(&self, name: &str) -> bool {
        self.only.is_none() && message_id_fields::holds_message_id(name)
    }

    /// Returns the replacement for the local part of an address. `None`: the address stays.
    fn replacement(&self, address: &[u8]) -> Option<Replacement> {
        if let Some(digests) = self.only {
            return erasure::replacement(self.pseudonymizer, digests, address);
        }
        let text = match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Cow::Owned(self.pseudonymizer.digest(address))
            }
            None => Cow::Borrowed(BEYOND_MAX),
        };
        Some(Replacement { kept: 0, text })
    }
}

/// Hides the key.
impl std::fmt::Debug for Pseudonymizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pseudonymizer(..)")
    }
}

#[cfg(test)]
pub(crate) fn with_test_key() -> Pseudonymizer {
    Pseudonymizer::new(b"a key of the tests alone").unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This digest was computed with another implementation of HMAC-SHA256.
    const ADA: &str = "fad32a0144f8518642ba63cc43595bba";

    #[test]
    fn every_spelling_of_an_address_has_one_pseudonym_with_its_domain() {
        let pseudonymizer = with_test_key();
        let ada = format!("{ADA}@example.com");
        for spelling in ["ada@example.com", "Ada@Example.COM", " <ada@example.com> "] {
            assert_eq!(
                pseudonymizer.pseudonym(spelling).as_deref(),
                Some(ada.as_str()),
                "{spelling}"
            );
        }
        assert_ne!(
            pseudonymizer.pseudonym("ada@example.org").unwrap().split_once('@').unwrap().0,
            ADA
        );
        for text in ["", "ada", "@example.com", "ada@"] {
            assert_eq!(pseudonymizer.pseudonym(text), None, "{text}");
        }
    }

    #[test]
    fn pseudonyms_depend_on_the_key_and_a_short_key_is_an_error() {
        let other = Pseudonymizer::new(b"another key of the tests").unwrap();
        assert_ne!(
            other.pseudonym("ada@example.com"),
            with_test_key().pseudonym("ada@example.com")
        );
        assert_eq!(Pseudonymizer::new(b"short").unwrap_err(), KeyTooShort { bytes: 5 });
    }

    #[test]
    fn json_forms_and_other_bodies_are_rewritten_in_their_format() {
        let rewritten = |body: &str| {
            let bytes = with_test_key().rewrite_body(body.as_bytes()).into_owned();
            String::from_utf8(bytes).unwrap().replace(ADA, "~")
        };
        for (body, expected) in [
            (r#"[{"email":"ada@example.com"}]"#, r#"[{"email":"~@example.com"}]"#),
            ("recipient=ada%40example.com&event=opened", "recipient=~%40example.com&event=opened"),
            (r#"{"email":"ada@example.com"#, r#"{"email":"~@example.com"#),
            ("delivery to ada@example.com failed", "delivery to ~@example.com failed"),
            ("no address", "no address"),
        ] {
            assert_eq!(rewritten(body), expected);
        }
        let not_text = with_test_key().rewrite_body(b"\xff ada@example.com \x00").into_owned();
        assert_eq!(not_text, [b"\xff ", ADA.as_bytes(), b"@example.com \x00"].concat());
    }
}
