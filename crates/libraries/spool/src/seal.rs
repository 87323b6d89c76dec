//! Encrypts what is on the disk.
//!
//! A sealed payload is `0xFFFFFFFF`, the version 1, the id of the key (4 bytes), a nonce (12 bytes), and the
//! ciphertext with its tag (AES-256-GCM-SIV, RFC 8452). The first 21 bytes are authenticated too. No plain payload
//! begins with `0xFFFFFFFF`, because this is the length of its headers. So plain payloads of earlier releases, and of the
//! time before a key was configured, can still be read.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, rand};

const MAGIC: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 1];
const ID_BYTES: usize = 4;
const PREFIX_BYTES: usize = MAGIC.len() + ID_BYTES + NONCE_LEN;
/// The shortest allowed key in bytes.
pub const MIN_KEY_BYTES: usize = 16;

/// Why a key cannot be used, or a payload cannot be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key is so short that it could be guessed.
    #[error("a key has {0} bytes; use at least {MIN_KEY_BYTES} random bytes")]
    KeyTooShort(usize),
    /// The cryptographic library failed.
    #[error("the cryptographic library does not work")]
    Cryptography,
    /// No configured key has the id of the payload.
    #[error(
        "an entry of the spool is encrypted with a key that is not in ingress.spool_keys; add that key to the end of the \
         list"
    )]
    UnknownKey,
    /// The payload was changed after it was sealed, or has been cut.
    #[error("an encrypted entry of the spool has been changed or cut")]
    Changed,
}

/// The keys of a spool. The first one seals; all of them open. Without a key, payloads stay plain.
#[derive(Clone, Default)]
pub struct SpoolKeys(Vec<Key>);

#[derive(Clone)]
struct Key {
    id: [u8; ID_BYTES],
    key: Arc<LessSafeKey>,
}

impl SpoolKeys {
    /// Derives the keys from secrets.
    ///
    /// # Errors
    /// [`SealError::KeyTooShort`].
    pub fn new<'s>(secrets: impl IntoIterator<Item = &'s str>) -> Result<Self, SealError> {
        secrets.into_iter().map(Key::new).collect::<Result<_, _>>().map(Self)
    }

    /// Returns whether payloads are sealed.
    pub fn is_sealing(&self) -> bool {
        !self.0.is_empty()
    }

    /// Returns the sealed payload, or the plain one if there is no key.
    ///
    /// # Errors
    /// [`SealError::Cryptography`].
    pub fn seal<'p>(&self, payload: &'p [u8]) -> Result<Cow<'p, [u8]>, SealError> {
        let Some(Key { id, key }) = self.0.first() else { return Ok(Cow::Borrowed(payload)) };
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| SealError::Cryptography)?;
        let prefix = [&MAGIC[..], id, &nonce].concat();
        let mut sealed = prefix.clone();
        sealed.extend_from_slice(payload);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(&prefix), &mut sealed[PREFIX_BYTES..])
            .map_err(|_| SealError::Cryptography)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(Cow::Owned(sealed))
    }

    /// Returns the plain payload.
    ///
    /// # Errors
    /// [`SealError::UnknownKey`] and [`SealError::Changed`].
    pub fn open<'p>(&self, payload: &'p [u8]) -> Result<Cow<'p, [u8]>, SealError> {
        if !is_sealed(payload) {
            return Ok(Cow::Borrowed(payload));
        }
        let (prefix, ciphertext) =
            payload.split_at_checked(PREFIX_BYTES).ok_or(SealError::Changed)?;
        let (id, nonce) = prefix[MAGIC.len()..].split_at(ID_BYTES);
        let mut keys = self.0.iter().filter(|key| key.id == id).peekable();
        if keys.peek().is_none() {
            return Err(SealError::UnknownKey);
        }
        for Key { key, .. } in keys {
            let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Changed)?;
            let mut plain = ciphertext.to_vec();
            if let Ok(opened) = key.open_in_place(nonce, Aad::from(prefix), &mut plain) {
                let length = opened.len();
                plain.truncate(length);
                return Ok(Cow::Owned(plain));
            }
        }
        Err(SealError::Changed)
    }
}

/// Returns whether a payload is sealed, with whatever key.
pub fn is_sealed(payload: &[u8]) -> bool {
    payload.starts_with(&MAGIC)
}

impl Key {
    fn new(secret: &str) -> Result<Self, SealError> {
        if secret.len() < MIN_KEY_BYTES {
            return Err(SealError::KeyTooShort(secret.len()));
        }
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"mailpulse spool");
        let derived = salt.extract(secret.as_bytes());
        let (mut id, mut key) = ([0; ID_BYTES], [0; 32]);
        fill(&derived, b"id", &mut id)?;
        fill(&derived, b"key", &mut key)?;
        let key = UnboundKey::new(&AES_256_GCM_SIV, &key).map_err(|_| SealError::Cryptography)?;
        Ok(Self { id, key: Arc::new(LessSafeKey::new(key)) })
    }
}

/// Derives bytes for a purpose.
fn fill(derived: &hkdf::Prk, purpose: &[u8], bytes: &mut [u8]) -> Result<(), SealError> {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    derived
        .expand(&[purpose], Length(bytes.len()))
        .and_then(|expanded| expanded.fill(bytes))
        .map_err(|_| SealError::Cryptography)
}

/// Hides the keys.
impl fmt::Debug for SpoolKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpoolKeys({} hidden)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OLD: &str = "the old key of the tests";
    const NEW: &str = "the new key of the tests";

    fn keys(secrets: &[&str]) -> SpoolKeys {
        SpoolKeys::new(secrets.iter().copied()).unwrap()
    }

    proptest! {
        #[test]
        fn a_sealed_payload_is_opened_and_a_changed_one_is_not(
            payload in prop::collection::vec(any::<u8>(), 0..200),
            at in any::<prop::sample::Index>(), bit in 0..8u8,
        ) {
            let keys = keys(&[NEW, OLD]);
            let sealed = keys.seal(&payload).unwrap().into_owned();
            prop_assert!(is_sealed(&sealed));
            prop_assert_eq!(keys.open(&sealed).unwrap().into_owned(), payload);
            let mut changed = sealed.clone();
            let at = MAGIC.len() + at.index(sealed.len() - MAGIC.len());
            changed[at] ^= 1 << bit;
            prop_assert!(keys.open(&changed).is_err());
            prop_assert!(keys.open(&sealed[..sealed.len() - 1]).is_err());
        }

        #[test]
        fn arbitrary_bytes_are_opened_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = keys(&[NEW]).open(&[&MAGIC[..], &bytes].concat());
        }
    }

    #[test]
    fn keys_are_rotated_by_adding_the_new_one_in_front() {
        let old = keys(&[OLD]).seal(b"request").unwrap().into_owned();
        assert_eq!(&*keys(&[NEW, OLD]).open(&old).unwrap(), b"request");
        let new = keys(&[NEW, OLD]).seal(b"request").unwrap().into_owned();
        assert_eq!(keys(&[OLD]).open(&new), Err(SealError::UnknownKey));
        assert_eq!(&*keys(&[NEW]).open(b"plain").unwrap(), b"plain");
        assert_eq!(SpoolKeys::default().open(&new), Err(SealError::UnknownKey));
        assert_eq!(&*SpoolKeys::default().seal(b"plain").unwrap(), b"plain");
    }

    #[test]
    fn equal_payloads_are_sealed_differently_and_contain_nothing_of_the_plain_one() {
        let keys = keys(&[NEW]);
        let (one, two) =
            (keys.seal(b"ada@example.com").unwrap(), keys.seal(b"ada@example.com").unwrap());
        assert_ne!(one, two);
        assert!(!one.windows(3).any(|part| part == b"ada"));
        assert_eq!(SpoolKeys::new(["short"]).unwrap_err(), SealError::KeyTooShort(5));
        assert_eq!(format!("{keys:?}"), "SpoolKeys(1 hidden)");
    }
}
