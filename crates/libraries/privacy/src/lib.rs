//! Pseudonyms for mailbox addresses, so that nobody's address need be published.
//!
//! The local part of an address becomes a keyed digest, the domain stays:
//! `ada@example.com` → `3b0c…9f@example.com`. The same address and key always give the same
//! pseudonym, so events still belong together, repeats are still recognised and tables can be
//! joined; without the key nobody can try out whose it is.
//!
//! [`Pseudonyms::body`] does it to a webhook's body, whatever the provider: JSON (also JSON within
//! a JSON string, as Amazon SNS has it), forms, and anything else as text. Addresses are found as
//! they are, in any case, JSON-escaped, and percent-encoded any number of times. Fields that hold
//! message ids look like addresses and are left alone.
//!
//! Not found: what is encoded otherwise, such as base64 or quoted-printable text within a mail
//! that a bounce quotes. Names, IP addresses and user agents are no addresses and stay.
//!
//! Pure: no I/O, no clock, no state.

mod form;
mod ids;
mod json;
mod settings;
mod text;

use std::borrow::Cow;

use event::recipient_key;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

pub use settings::configured;

/// The least length of a key in bytes: as much as a pseudonym tells.
pub const LEAST_KEY_BYTES: usize = 16;

/// Of the digest as it stands for a local part: 128 bits in hexadecimal.
const DIGITS: usize = 32;

/// Makes pseudonyms with one key.
#[derive(Clone)]
pub struct Pseudonyms {
    keyed: Hmac<Sha256>,
}

/// The key is too short to keep anybody from trying out addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key of {bytes} bytes is too short: use at least {LEAST_KEY_BYTES} random ones")]
pub struct KeyTooShort {
    /// How long it is.
    pub bytes: usize,
}

impl Pseudonyms {
    /// With a key of [`LEAST_KEY_BYTES`] or more.
    ///
    /// # Errors
    /// When it is shorter.
    pub fn new(key: &[u8]) -> Result<Self, KeyTooShort> {
        let too_short = KeyTooShort { bytes: key.len() };
        if key.len() < LEAST_KEY_BYTES {
            return Err(too_short);
        }
        // HMAC itself takes a key of any length.
        let keyed = Hmac::new_from_slice(key).map_err(|_| too_short)?;
        Ok(Self { keyed })
    }

    /// The pseudonym of an address, lower-cased as the keys of records are: what an operator looks
    /// somebody's events up by. `None` for what is no address.
    pub fn of(&self, address: &str) -> Option<String> {
        let address = recipient_key(address);
        let (local, domain) = address.rsplit_once('@')?;
        let is_whole = !local.is_empty() && !domain.is_empty();
        is_whole.then(|| format!("{}@{domain}", self.digits(address.as_bytes())))
    }

    /// A body in which every address has become its pseudonym. Borrowed when there was none.
    ///
    /// What is no address keeps its bytes, but that a string in which something was replaced is
    /// escaped anew, and so is the value of a form's field.
    pub fn body<'b>(&self, body: &'b [u8]) -> Cow<'b, [u8]> {
        if !text::may_hold_address(body) {
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

    /// A text that is a document of its own, or just text.
    fn value<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if !text::may_hold_address(text.as_bytes()) {
            return Cow::Borrowed(text);
        }
        if json::is_document(text) {
            return json::rewrite(self, text);
        }
        match text::rewrite(self, text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            // Only ASCII was put in, in place of whole characters.
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// What stands for the local part of an address: the first 128 bits of HMAC-SHA256 over the
    /// whole address in lower case (RFC 2104 §5 on truncation).
    fn digits(&self, address: &[u8]) -> String {
        let mut mac = self.keyed.clone();
        mac.update(&address.to_ascii_lowercase());
        let mut digits = hex::encode(mac.finalize().into_bytes());
        digits.truncate(DIGITS);
        digits
    }
}

/// Hides the key.
impl std::fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pseudonyms(..)")
    }
}

#[cfg(test)]
pub(crate) fn with_test_key() -> Pseudonyms {
    Pseudonyms::new(b"a key of the tests alone").unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with another implementation of HMAC-SHA256.
    const ADA: &str = "fad32a0144f8518642ba63cc43595bba";

    #[test]
    fn a_pseudonym_is_the_same_for_every_spelling_and_keeps_the_domain() {
        let pseudonyms = with_test_key();
        let ada = format!("{ADA}@example.com");
        for spelling in ["ada@example.com", "Ada@Example.COM", " <ada@example.com> "] {
            assert_eq!(pseudonyms.of(spelling).as_deref(), Some(ada.as_str()), "{spelling}");
        }
        assert_ne!(pseudonyms.of("ada@example.org").unwrap().split_once('@').unwrap().0, ADA);
        for nothing in ["", "ada", "@example.com", "ada@"] {
            assert_eq!(pseudonyms.of(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn another_key_gives_other_pseudonyms_and_a_short_one_is_refused() {
        let other = Pseudonyms::new(b"another key of the tests").unwrap();
        assert_ne!(other.of("ada@example.com"), with_test_key().of("ada@example.com"));
        assert_eq!(Pseudonyms::new(b"short").unwrap_err(), KeyTooShort { bytes: 5 });
    }

    #[test]
    fn a_body_of_any_form_is_rewritten_as_what_it_is() {
        let rewritten = |body: &str| {
            let bytes = with_test_key().body(body.as_bytes()).into_owned();
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
        let not_text = with_test_key().body(b"\xff ada@example.com \x00").into_owned();
        assert_eq!(not_text, [b"\xff ", ADA.as_bytes(), b"@example.com \x00"].concat());
    }
}
