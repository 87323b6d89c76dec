use event::{Provider, Text};
use serde::de::Error;
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

/// A window's width in seconds, from its minutes as in `5m`.
pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let text = Text::deserialize(deserializer)?;
    text.strip_suffix('m')
        .and_then(|minutes| minutes.parse().ok())
        .and_then(|minutes: u32| minutes.checked_mul(60))
        .ok_or_else(|| D::Error::custom(format!("`{}` is not a width", &*text)))
}
