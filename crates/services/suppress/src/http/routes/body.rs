//! The bodies of requests.

use std::fmt;

use event::Text;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use suppression::standing::Question;
use suppression::{Purpose, Reason};

use super::MAX_ADDRESSES;

/// The body of `POST /suppressions/check`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check<'a> {
    #[serde(borrow)]
    pub(super) addresses: Addresses<'a>,
    #[serde(borrow, default)]
    list: Option<Text<'a>>,
    #[serde(default)]
    purpose: Option<Purpose>,
    #[serde(borrow, default)]
    scope: Option<Text<'a>>,
    /// Whether the answer has the digest of every recipient, for the delta feed.
    #[serde(default)]
    pub(super) recipients: bool,
}

impl Check<'_> {
    pub(super) fn question(&self, now: i64) -> Question<'_> {
        Question {
            list: self.list.as_deref(),
            purpose: self.purpose.unwrap_or(Purpose::Marketing),
            scope: self.scope.as_deref(),
            now,
        }
    }
}

/// At most [`MAX_ADDRESSES`] addresses. Further ones take no memory.
#[derive(Debug, Default)]
pub(super) struct Addresses<'a> {
    pub(super) list: Vec<Text<'a>>,
    pub(super) is_beyond_limit: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for Addresses<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;

        impl<'de> Visitor<'de> for Reading {
            type Value = Addresses<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of addresses")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut addresses = Addresses::default();
                while addresses.list.len() < MAX_ADDRESSES {
                    let Some(address) = seq.next_element()? else { return Ok(addresses) };
                    addresses.list.push(address);
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    addresses.is_beyond_limit = true;
                }
                Ok(addresses)
            }
        }

        deserializer.deserialize_seq(Reading)
    }
}

/// The body of `PUT /suppressions/{address}`. It may be empty.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Addition {
    pub(super) reason: Option<Reason>,
    pub(super) scope: Option<String>,
    pub(super) purpose: Option<Purpose>,
    /// Seconds since 1970.
    pub(super) expires_at: Option<i64>,
    pub(super) note: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_has_a_limit() {
        let read = |count: usize| {
            let addresses = vec!["\"a@x.com\""; count].join(",");
            let body = format!(r#"{{"addresses":[{addresses}],"purpose":"transactional"}}"#);
            let check: Check<'_> = serde_json::from_str(&body).unwrap();
            assert_eq!(check.question(0).purpose, Purpose::Transactional);
            (check.addresses.list.len(), check.addresses.is_beyond_limit)
        };
        assert_eq!(read(0), (0, false));
        assert_eq!(read(MAX_ADDRESSES), (MAX_ADDRESSES, false));
        assert_eq!(read(MAX_ADDRESSES + 1), (MAX_ADDRESSES, true));
        assert!(serde_json::from_str::<Check<'_>>(r#"{"addresses":[],"lists":"x"}"#).is_err());
    }
}
