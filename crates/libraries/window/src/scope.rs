use std::fmt;

use event::Provider;
use serde::{Deserialize, Serialize};

/// What a rate is a rate *of*. Every rule is evaluated for each scope, since a large tenant hides
/// a small one.
///
/// In JSON the kind of scope is the field `scope`, with the parts beside it:
/// `{"scope":"campaign","provider":"ses","source":"acme","campaign":"spring"}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "scope", rename_all = "snake_case")]
pub enum Scope {
    /// All mail of one source (tenant, account).
    Source {
        /// Who told us.
        provider: Provider,
        /// The configured source under that provider.
        source: String,
    },
    /// A source's mail to one mailbox provider.
    MailboxProvider {
        /// Who told us.
        provider: Provider,
        /// The configured source under that provider.
        source: String,
        /// Who runs the recipients' mailboxes (`gmail`, `outlook`, …).
        mailbox_provider: String,
    },
    /// One campaign of a source.
    Campaign {
        /// Who told us.
        provider: Provider,
        /// The configured source under that provider.
        source: String,
        /// The campaign's name or number, in the sender's own words.
        campaign: String,
    },
}

/// The text is not the key of a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the key of a scope")]
pub struct ScopeError(pub String);

impl Scope {
    /// The text form, used as the Kafka key: `source/sendgrid/acme`,
    /// `mailbox/sendgrid/acme/gmail`, `campaign/sendgrid/acme/spring%20sale`.
    ///
    /// Every byte outside RFC 3986's unreserved set is percent-encoded, so each scope has exactly
    /// one key and no two share one.
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
        encode(source, &mut key);
        if let Some(last) = last {
            key.push('/');
            encode(last, &mut key);
        }
        key
    }

    /// Reads a [`key`](Self::key).
    ///
    /// # Errors
    /// On anything that `key` would not have written, so `parse` and `key` are inverse.
    pub fn parse(key: &str) -> Result<Self, ScopeError> {
        Self::from_parts(key)
            .filter(|scope| scope.key() == key)
            .ok_or_else(|| ScopeError(key.to_owned()))
    }

    /// Reads a key without asking whether it is written the one right way.
    fn from_parts(key: &str) -> Option<Self> {
        let mut parts = key.split('/');
        let kind = parts.next()?;
        let provider = parts.next()?.parse().ok()?;
        let source = decode(parts.next()?)?;
        let last = parts.next().map(decode);
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

fn encode(part: &str, key: &mut String) {
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            key.push(char::from(byte));
        } else {
            key.extend(['%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

fn decode(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
            bytes.push(high << 4 | low);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn digit(byte: u8) -> Option<u8> {
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
        fn different_scopes_have_different_keys(a in scopes(), b in scopes()) {
            prop_assert_eq!(a == b, a.key() == b.key());
        }

        #[test]
        fn any_text_is_refused_or_read_as_the_one_scope_it_is_the_key_of(
            key in "(source|mailbox|campaign|x)/(ses|sendgrid|y)(/[a%/0-9A-Fa-f ]{0,6}){0,3}",
        ) {
            if let Ok(scope) = Scope::parse(&key) {
                prop_assert_eq!(scope.key(), key);
            }
        }
    }

    #[test]
    fn keys_read_as_documented() {
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
            "source/nobody/acme",
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
