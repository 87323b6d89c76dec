use std::fmt;

use event::{Provider, Text};
use serde::{Deserialize, Serialize};

/// The set of events that a rate is computed from. Every rule is evaluated for each scope, because
/// in a rate over all sources a large source would hide a small one.
///
/// In JSON the field `scope` is the kind of the scope, next to the other fields:
/// `{"scope":"campaign","provider":"ses","source":"acme","campaign":"spring"}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "scope", rename_all = "snake_case")]
pub enum Scope {
    /// All events of one source.
    Source {
        /// The email service provider.
        provider: Provider,
        /// The name of the configured source under that provider.
        source: String,
    },
    /// The events of a source for the recipients at one mailbox provider.
    MailboxProvider {
        /// The email service provider.
        provider: Provider,
        /// The name of the configured source under that provider.
        source: String,
        /// The operator of the recipients' mailboxes, such as `gmail` or `outlook`.
        mailbox_provider: String,
    },
    /// The events of one campaign of a source.
    Campaign {
        /// The email service provider.
        provider: Provider,
        /// The name of the configured source under that provider.
        source: String,
        /// The name or number of the campaign, as the sender wrote it.
        campaign: String,
    },
}

/// The kind of a [`Scope`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScopeKind {
    /// The kind of [`Scope::Source`].
    Source,
    /// The kind of [`Scope::MailboxProvider`].
    MailboxProvider,
    /// The kind of [`Scope::Campaign`].
    Campaign,
}

impl ScopeKind {
    /// Returns the stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::MailboxProvider => "mailbox_provider",
            Self::Campaign => "campaign",
        }
    }
}

/// The fields of a [`Scope`] in the JSON of a [`ScopeRate`](crate::ScopeRate) or an
/// [`Alert`](crate::Alert). They borrow from the JSON, whereas [`Scope`] copies every text.
#[derive(Debug, Deserialize)]
pub struct ScopeFields<'a> {
    #[serde(rename = "scope")]
    pub kind: ScopeKind,
    /// The email service provider.
    pub provider: Provider,
    /// The name of the configured source under that provider.
    #[serde(borrow)]
    pub source: Text<'a>,
    /// Present in the kind [`ScopeKind::MailboxProvider`].
    #[serde(borrow, default)]
    pub mailbox_provider: Option<Text<'a>>,
    /// Present in the kind [`ScopeKind::Campaign`].
    #[serde(borrow, default)]
    pub campaign: Option<Text<'a>>,
}

/// The text is not the key of a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the key of a scope")]
pub struct ScopeError(pub String);

impl Scope {
    /// The name of the mailbox provider or campaign of [`Self::other`].
    pub const OTHER: &str = "(other)";

    pub const fn kind(&self) -> ScopeKind {
        match self {
            Self::Source { .. } => ScopeKind::Source,
            Self::MailboxProvider { .. } => ScopeKind::MailboxProvider,
            Self::Campaign { .. } => ScopeKind::Campaign,
        }
    }

    /// Returns the email service provider.
    pub const fn provider(&self) -> Provider {
        match self {
            Self::Source { provider, .. }
            | Self::MailboxProvider { provider, .. }
            | Self::Campaign { provider, .. } => *provider,
        }
    }

    /// Returns the name of the source.
    pub fn source(&self) -> &str {
        match self {
            Self::Source { source, .. }
            | Self::MailboxProvider { source, .. }
            | Self::Campaign { source, .. } => source,
        }
    }

    /// Returns the mailbox provider of a [`Scope::MailboxProvider`].
    pub fn mailbox_provider(&self) -> Option<&str> {
        match self {
            Self::MailboxProvider { mailbox_provider, .. } => Some(mailbox_provider),
            Self::Source { .. } | Self::Campaign { .. } => None,
        }
    }

    /// Returns the campaign of a [`Scope::Campaign`].
    pub fn campaign(&self) -> Option<&str> {
        match self {
            Self::Campaign { campaign, .. } => Some(campaign),
            Self::Source { .. } | Self::MailboxProvider { .. } => None,
        }
    }

    /// Returns the scope that counts the events of this one if the source has too many scopes: of the
    /// same kind, with the name [`Self::OTHER`]. Returns `None` for that scope itself, and for a source.
    pub fn other(&self) -> Option<Self> {
        let other = match self.clone() {
            Self::Source { .. } => return None,
            Self::MailboxProvider { provider, source, .. } => {
                Self::MailboxProvider { provider, source, mailbox_provider: Self::OTHER.to_owned() }
            }
            Self::Campaign { provider, source, .. } => {
                Self::Campaign { provider, source, campaign: Self::OTHER.to_owned() }
            }
        };
        (other != *self).then_some(other)
    }

    /// Returns the text form, which is the key of Kafka records: `source/sendgrid/acme`,
    /// `mailbox/sendgrid/acme/gmail`, `campaign/sendgrid/acme/spring%20sale`.
    ///
    /// Every byte outside the unreserved set of RFC 3986 is percent-encoded, so each scope has
    /// exactly one key and different scopes have different keys.
    pub fn key(&self) -> String {
        let (kind, provider, source, last) = match self {
            Self::Source { provider, source } => ("source", provider, source, None),
            Self::MailboxProvider { provider, source, mailbox_provider } => {
                ("mailbox", provider, source, Some(mailbox_provider))
            }
            Self::Campaign { provider, source, campaign } => {
                ("campaign", provider, source, Some(campaign))
            }
        };
        let mut key = format!("{kind}/{provider}/");
        percent_encode(source, &mut key);
        if let Some(last) = last {
            key.push('/');
            percent_encode(last, &mut key);
        }
        key
    }

    /// Parses a [`key`](Self::key).
    ///
    /// # Errors
    /// Fails on every text that `key` does not return for any scope.
    pub fn parse(key: &str) -> Result<Self, ScopeError> {
        Self::parse_lenient(key)
            .filter(|scope| scope.key() == key)
            .ok_or_else(|| ScopeError(key.to_owned()))
    }

    /// Parses a key, also if it percent-encodes other bytes than `key` does.
    fn parse_lenient(key: &str) -> Option<Self> {
        let mut parts = key.split('/');
        let kind = parts.next()?;
        let provider = parts.next()?.parse().ok()?;
        let source = percent_decode(parts.next()?)?;
        let last = parts.next().map(percent_decode);
        if parts.next().is_some() {
            return None;
        }
        match (kind, last) {
            ("source", None) => Some(Self::Source { provider, source }),
            ("mailbox", Some(last)) => {
                Some(Self::MailboxProvider { provider, source, mailbox_provider: last? })
            }
            ("campaign", Some(last)) => Some(Self::Campaign { provider, source, campaign: last? }),
            _ => None,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key())
    }
}

const HEX: [char; 16] =
    ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];

fn percent_encode(part: &str, key: &mut String) {
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            key.push(char::from(byte));
        } else {
            key.extend(['%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

fn percent_decode(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let (high, low) = (hex_digit(rest.next()?)?, hex_digit(rest.next()?)?);
            bytes.push(high << 4 | low);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn scopes() -> impl Strategy<Value = Scope> {
        (0..3, select(&Provider::ALL[..]), any::<String>(), any::<String>()).prop_map(
            |(kind, provider, source, last)| match kind {
                0 => Scope::Source { provider, source },
                1 => Scope::MailboxProvider { provider, source, mailbox_provider: last },
                _ => Scope::Campaign { provider, source, campaign: last },
            },
        )
    }

    proptest! {
        #[test]
        fn keys_and_json_round_trip(scope in scopes()) {
            let key = scope.key();
            prop_assert!(key.is_ascii());
            prop_assert_eq!(Scope::parse(&key), Ok(scope.clone()));
            let json = serde_json::to_string(&scope).unwrap();
            prop_assert_eq!(serde_json::from_str::<Scope>(&json).unwrap(), scope);
        }

        #[test]
        fn borrowed_fields_are_those_of_the_scope(scope in scopes()) {
            let json = serde_json::to_string(&scope).unwrap();
            let fields: ScopeFields<'_> = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(fields.kind, scope.kind());
            let kind = serde_json::to_value(&scope).unwrap()["scope"].clone();
            prop_assert_eq!(kind, fields.kind.as_str());
            prop_assert_eq!(fields.provider, scope.provider());
            prop_assert_eq!(&*fields.source, scope.source());
            prop_assert_eq!(fields.mailbox_provider.as_deref(), scope.mailbox_provider());
            prop_assert_eq!(fields.campaign.as_deref(), scope.campaign());
        }

        #[test]
        fn different_scopes_have_different_keys(a in scopes(), b in scopes()) {
            prop_assert_eq!(a == b, a.key() == b.key());
        }

        #[test]
        fn parsed_texts_are_the_key_of_their_scope(
            key in "(source|mailbox|campaign|x)/(ses|sendgrid|y)(/[a%/0-9A-Fa-f ]{0,6}){0,3}",
        ) {
            if let Ok(scope) = Scope::parse(&key) {
                prop_assert_eq!(scope.key(), key);
            }
        }
    }

    #[test]
    fn keys_have_the_documented_form() {
        let campaign = Scope::Campaign {
            provider: Provider::SendGrid,
            source: "acme".into(),
            campaign: "50% off/é".into(),
        };
        assert_eq!(campaign.key(), "campaign/sendgrid/acme/50%25%20off%2F%C3%A9");
        for wrong in [
            "",
            "source",
            "source/sendgrid",
            "source/unknown/acme",
            "source/sendgrid/acme/gmail",
            "mailbox/sendgrid/acme",
            "campaign/sendgrid/acme/a/b",
            "source/sendgrid/%2f",
            "source/sendgrid/%61",
            "source/sendgrid/%2",
            "source/sendgrid/a b",
            "source/sendgrid/%FF",
        ] {
            assert_eq!(Scope::parse(wrong), Err(ScopeError(wrong.into())), "{wrong}");
        }
    }
}
