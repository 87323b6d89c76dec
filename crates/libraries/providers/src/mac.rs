//! HMACs under several keys, any of which may have made the tag.

use std::ops::Deref;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use crate::Algorithm;

/// The length of the longest tag, SHA-512's.
const LONGEST: usize = 64;

/// Keys with their padding already hashed in, cloned for each request.
pub(crate) enum Keys {
    Sha1(Vec<Hmac<Sha1>>),
    Sha256(Vec<Hmac<Sha256>>),
    Sha512(Vec<Hmac<Sha512>>),
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

impl Keys {
    pub(crate) fn new<K: AsRef<[u8]>>(algorithm: Algorithm, keys: &[K]) -> Self {
        match algorithm {
            Algorithm::Sha1 => Self::Sha1(prepare(keys)),
            Algorithm::Sha256 => Self::Sha256(prepare(keys)),
            Algorithm::Sha512 => Self::Sha512(prepare(keys)),
        }
    }

    /// The key that makes `tag` of the parts one after the other. The comparison takes the same
    /// time whatever the difference; a tag of another length is never right.
    pub(crate) fn find(&self, parts: &[&[u8]], tag: &[u8]) -> Option<usize> {
        match self {
            Self::Sha1(keys) => keys.iter().position(|key| makes(key, parts, tag)),
            Self::Sha256(keys) => keys.iter().position(|key| makes(key, parts, tag)),
            Self::Sha512(keys) => keys.iter().position(|key| makes(key, parts, tag)),
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Sha1(keys) => keys.len(),
            Self::Sha256(keys) => keys.len(),
            Self::Sha512(keys) => keys.len(),
        }
    }
}

/// An HMAC takes keys of any length, so none is left out.
fn prepare<M: Mac + KeyInit, K: AsRef<[u8]>>(keys: &[K]) -> Vec<M> {
    keys.iter().filter_map(|key| <M as KeyInit>::new_from_slice(key.as_ref()).ok()).collect()
}

fn makes<M: Mac + Clone>(key: &M, parts: &[&[u8]], tag: &[u8]) -> bool {
    let mut mac = key.clone();
    for part in parts {
        mac.update(part);
    }
    mac.verify_slice(tag).is_ok()
}

/// A tag decoded from its text, without allocating.
pub(crate) struct Tag {
    // Base64 may need a little room to spare.
    bytes: [u8; LONGEST + 2],
    length: usize,
}

impl Tag {
    /// `None` where it is not hexadecimal, or longer than any tag.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let (mut bytes, length) = ([0; LONGEST + 2], text.len() / 2);
        hex::decode_to_slice(text, bytes.get_mut(..length)?).ok()?;
        Some(Self { bytes, length })
    }

    /// `None` where it is not standard base64, or longer than any tag.
    pub(crate) fn from_base64(text: &str) -> Option<Self> {
        let mut bytes = [0; LONGEST + 2];
        let length = STANDARD.decode_slice(text, &mut bytes).ok()?;
        Some(Self { bytes, length })
    }
}

impl Deref for Tag {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
