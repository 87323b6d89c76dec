//! Verifies HMACs under several keys, any of which may have made the tag.

use std::ops::Deref;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha1::Sha1;
use sha2::{Sha256, Sha512};

/// The length of the longest tag, that of SHA-512.
const MAX_TAG: usize = 64;

/// The hash of an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Only for senders that have nothing better.
    Sha1,
    #[default]
    Sha256,
    Sha512,
}

impl Algorithm {
    /// The name in settings and in the default prefix.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

/// Keys whose padding has already been hashed. They are cloned for each request.
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

    /// Returns the index of the key for which `tag` is the HMAC of the concatenated parts. The
    /// comparison takes constant time; a tag of another length never matches.
    pub(crate) fn find(&self, parts: &[&[u8]], tag: &[u8]) -> Option<usize> {
        match self {
            Self::Sha1(keys) => keys.iter().position(|key| matches(key, parts, tag)),
            Self::Sha256(keys) => keys.iter().position(|key| matches(key, parts, tag)),
            Self::Sha512(keys) => keys.iter().position(|key| matches(key, parts, tag)),
        }
    }

    /// Returns the number of keys.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Sha1(keys) => keys.len(),
            Self::Sha256(keys) => keys.len(),
            Self::Sha512(keys) => keys.len(),
        }
    }
}

/// An HMAC accepts keys of any length, so no key is filtered out.
fn prepare<M: Mac + KeyInit, K: AsRef<[u8]>>(keys: &[K]) -> Vec<M> {
    keys.iter().filter_map(|key| <M as KeyInit>::new_from_slice(key.as_ref()).ok()).collect()
}

fn matches<M: Mac + Clone>(key: &M, parts: &[&[u8]], tag: &[u8]) -> bool {
    let mut mac = key.clone();
    for part in parts {
        mac.update(part);
    }
    mac.verify_slice(tag).is_ok()
}

/// A tag decoded from text, without allocating.
pub(crate) struct Tag {
    // The base64 decoder needs up to two bytes more than it returns.
    bytes: [u8; MAX_TAG + 2],
    length: usize,
}

impl Tag {
    /// Returns `None` if the text is not hexadecimal or is longer than any tag.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let (mut bytes, length) = ([0; MAX_TAG + 2], text.len() / 2);
        hex::decode_to_slice(text, bytes.get_mut(..length)?).ok()?;
        Some(Self { bytes, length })
    }

    /// Returns `None` if the text is not standard base64 or is longer than any tag.
    pub(crate) fn from_base64(text: &str) -> Option<Self> {
        let mut bytes = [0; MAX_TAG + 2];
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
