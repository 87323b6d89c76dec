//! Names a recipient without the address.

use std::fmt;
use std::str::FromStr;

use event::recipient_key;
use privacy::{Eraser, ErasureKey, Pseudonymizer};

/// The first half of the HMAC-SHA-256 of an address under `privacy.erasure_key` (RFC 2104 §5 on truncation).
///
/// It is also the local part of the pseudonym that an erased recipient gets, so that what happens after the erasure
/// is known to concern the same recipient.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecipientDigest(pub [u8; 16]);

/// The text is not a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the digest of a recipient has 32 hexadecimal digits")]
pub struct InvalidDigest;

impl fmt::Display for RecipientDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for RecipientDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RecipientDigest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let mut digest = [0; 16];
        hex::decode_to_slice(text, &mut digest).map_err(|_| InvalidDigest)?;
        Ok(Self(digest))
    }
}

/// Computes the digests of recipients.
#[derive(Debug, Clone)]
pub struct RecipientKey {
    key: ErasureKey,
    pseudonymizer: Option<Pseudonymizer>,
}

impl RecipientKey {
    /// `pseudonymizer` replaces addresses at the ingress, if it is configured.
    pub const fn new(key: ErasureKey, pseudonymizer: Option<Pseudonymizer>) -> Self {
        Self { key, pseudonymizer }
    }

    /// Returns the digest of an address in any spelling, as people and lists write it. `None` if it is no address.
    pub fn of_address(&self, address: &str) -> Option<RecipientDigest> {
        let address = recipient_key(address);
        let (local, domain) = address.rsplit_once('@')?;
        if local.is_empty() || domain.is_empty() {
            return None;
        }
        match &self.pseudonymizer {
            None => Some(self.keyed(&address)),
            Some(pseudonymizer) => Some(self.keyed(&pseudonymizer.pseudonym(&address)?)),
        }
    }

    /// Returns the digest of the recipient of an event, whose address the ingress has replaced if it replaces
    /// addresses. `eraser` knows who was erased: the event then has a pseudonym that is made of the digest.
    pub fn of_event(&self, recipient: &str, eraser: &Eraser) -> RecipientDigest {
        match eraser.digest_of_pseudonym(recipient) {
            Some(digest) => RecipientDigest(digest),
            None => self.keyed(recipient),
        }
    }

    fn keyed(&self, address: &str) -> RecipientDigest {
        let [half @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
            self.key.digest(address).0;
        RecipientDigest(half)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn key() -> ErasureKey {
        ErasureKey::new(b"a key of the tests alone").unwrap()
    }

    #[test]
    fn every_spelling_has_one_digest_and_what_is_no_address_has_none() {
        let keys = RecipientKey::new(key(), None);
        // Computed with another implementation of HMAC-SHA-256.
        let ada = Some("fad32a0144f8518642ba63cc43595bba".parse().unwrap());
        for spelling in ["ada@example.com", "Ada <ADA@Example.com>", " ada@example.com "] {
            assert_eq!(keys.of_address(spelling), ada, "{spelling}");
        }
        for text in ["", "ada", "@example.com", "ada@"] {
            assert_eq!(keys.of_address(text), None, "{text}");
        }
    }

    #[test]
    fn an_erased_recipient_keeps_the_digest_with_and_without_pseudonyms() {
        let pseudonymizer = Pseudonymizer::new(b"another key of the tests").unwrap();
        for pseudonymizer in [None, Some(pseudonymizer)] {
            let keys = RecipientKey::new(key(), pseudonymizer.clone());
            let ada = "ada@example.com";
            let published = pseudonymizer.and_then(|it| it.pseudonym(ada));
            let published = published.unwrap_or_else(|| ada.to_owned());
            let nobody = Eraser::default();
            let digest = keys.of_event(&published, &nobody);
            assert_eq!(keys.of_address(ada), Some(digest));
            let erased = [key().digest(&published)].into_iter().collect();
            let eraser = Eraser::new(key(), Arc::new(erased));
            let pseudonym = eraser.pseudonym(&published).unwrap();
            assert_eq!(keys.of_event(&pseudonym, &eraser), digest);
            assert_ne!(keys.of_event(&pseudonym, &nobody), digest, "it could be an address");
        }
    }

    #[test]
    fn digests_round_trip() {
        let digest = RecipientDigest([7; 16]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!("07".parse::<RecipientDigest>(), Err(InvalidDigest));
    }
}
