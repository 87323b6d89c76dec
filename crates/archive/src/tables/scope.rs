use std::fmt;

use event::{Provider, Text};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// What a rate or an alert is about: the fields both values have in common.
#[derive(Debug, Deserialize)]
pub(super) struct Scope<'a> {
    pub(super) scope: ScopeKind,
    pub(super) provider: Provider,
    #[serde(borrow)]
    pub(super) source: Text<'a>,
    #[serde(borrow, default)]
    pub(super) mailbox_provider: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) campaign: Option<Text<'a>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ScopeKind {
    Source,
    MailboxProvider,
    Campaign,
}

impl ScopeKind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::MailboxProvider => "mailbox_provider",
            Self::Campaign => "campaign",
        }
    }
}

/// A window's width in seconds: as a number, or as `5m`, the form rules are written in.
pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    struct Width;

    impl Visitor<'_> for Width {
        type Value = u32;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a width: seconds, or minutes as in `5m`")
        }

        fn visit_u64<E: Error>(self, seconds: u64) -> Result<u32, E> {
            u32::try_from(seconds).map_err(E::custom)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u32, E> {
            text.strip_suffix('m')
                .and_then(|minutes| minutes.parse().ok())
                .and_then(|minutes: u32| minutes.checked_mul(60))
                .ok_or_else(|| E::custom(format!("`{text}` is not a width")))
        }
    }

    deserializer.deserialize_any(Width)
}
