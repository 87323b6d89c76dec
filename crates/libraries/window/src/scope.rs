use std::fmt;

use event::{Dimension, Provider, Text};
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
        provider: Provider,
        source: String,
        /// The operator of the recipients' mailboxes, such as `gmail` or `outlook`.
        mailbox_provider: String,
    },
    /// The events of one campaign of a source.
    Campaign {
        provider: Provider,
        source: String,
        /// The name or number of the campaign, as the sender wrote it.
        campaign: String,
    },
    /// The events of a source for the mail from one organizational domain.
    SenderDomain {
        provider: Provider,
        source: String,
        /// The organizational domain of the sender's address.
        sender_domain: String,
    },
    /// The events of a source for the mail that one server sent.
    SendingIp {
        provider: Provider,
        source: String,
        /// The address of the server, or the stream if the provider does not tell the address.
        sending_ip: String,
    },
    /// The events of a source for the mail that one server sent to one mailbox provider.
    MailboxProviderSendingIp {
        provider: Provider,
        source: String,
        mailbox_provider: String,
        sending_ip: String,
    },
    /// The events of one tenant, of all sources.
    Tenant {
        /// The tenant, from the operator's look-up table.
        tenant: String,
    },
    /// The events of one tenant for the recipients at one mailbox provider.
    TenantMailboxProvider { tenant: String, mailbox_provider: String },
}

/// The kind of a [`Scope`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScopeKind {
    /// The kind of [`Scope::Source`].
    Source,
    /// The kind of [`Scope::MailboxProvider`].
    MailboxProvider,
    /// The kind of [`Scope::Campaign`].
    Campaign,
    /// The kind of [`Scope::SenderDomain`].
    SenderDomain,
    /// The kind of [`Scope::SendingIp`].
    SendingIp,
    /// The kind of [`Scope::MailboxProviderSendingIp`].
    MailboxProviderSendingIp,
    /// The kind of [`Scope::Tenant`].
    Tenant,
    /// The kind of [`Scope::TenantMailboxProvider`].
    TenantMailboxProvider,
}

impl ScopeKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Source,
        Self::MailboxProvider,
        Self::Campaign,
        Self::SenderDomain,
        Self::SendingIp,
        Self::MailboxProviderSendingIp,
        Self::Tenant,
        Self::TenantMailboxProvider,
    ];

    /// Returns the stable name, as in JSON and TOML.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::MailboxProvider => "mailbox_provider",
            Self::Campaign => "campaign",
            Self::SenderDomain => "sender_domain",
            Self::SendingIp => "sending_ip",
            Self::MailboxProviderSendingIp => "mailbox_provider_sending_ip",
            Self::Tenant => "tenant",
            Self::TenantMailboxProvider => "tenant_mailbox_provider",
        }
    }

    /// Returns the first part of a [`Scope::key`].
    const fn key_part(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::MailboxProvider => "mailbox",
            Self::Campaign => "campaign",
            Self::SenderDomain => "sender",
            Self::SendingIp => "ip",
            Self::MailboxProviderSendingIp => "mailbox-ip",
            Self::Tenant => "tenant",
            Self::TenantMailboxProvider => "tenant-mailbox",
        }
    }

    /// Returns the dimensions whose values the scope has, in the order of its key.
    pub const fn dimensions(self) -> &'static [Dimension] {
        use Dimension as D;
        match self {
            Self::Source => &[],
            Self::MailboxProvider => &[D::MailboxProvider],
            Self::Campaign => &[D::Campaign],
            Self::SenderDomain => &[D::SenderDomain],
            Self::SendingIp => &[D::SendingIp],
            Self::MailboxProviderSendingIp => &[D::MailboxProvider, D::SendingIp],
            Self::Tenant => &[D::Tenant],
            Self::TenantMailboxProvider => &[D::Tenant, D::MailboxProvider],
        }
    }

    /// Returns whether the scope belongs to one source.
    pub const fn has_source(self) -> bool {
        !matches!(self, Self::Tenant | Self::TenantMailboxProvider)
    }

    /// Returns whether the messages of the scope are also counted by the hour in which they were sent.
    pub const fn has_cohorts(self) -> bool {
        match self {
            Self::Source
            | Self::MailboxProvider
            | Self::Campaign
            | Self::SenderDomain
            | Self::Tenant => true,
            Self::SendingIp | Self::MailboxProviderSendingIp | Self::TenantMailboxProvider => false,
        }
    }
}

/// The fields of a [`Scope`] in the JSON of a [`ScopeRate`](crate::ScopeRate) or an
/// [`Alert`](crate::Alert). They borrow from the JSON, whereas [`Scope`] copies every text.
#[derive(Debug, Deserialize)]
pub struct ScopeFields<'a> {
    #[serde(rename = "scope")]
    pub kind: ScopeKind,
    /// The email service provider; absent for tenants.
    #[serde(default)]
    pub provider: Option<Provider>,
    /// The name of the configured source under that provider; absent for tenants.
    #[serde(borrow, default)]
    pub source: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub mailbox_provider: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub campaign: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub sender_domain: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub sending_ip: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub tenant: Option<Text<'a>>,
}

impl ScopeFields<'_> {
    /// Returns true if provider and source are there exactly if the kind has them.
    pub const fn is_complete(&self) -> bool {
        let has_source = self.kind.has_source();
        self.provider.is_some() == has_source && self.source.is_some() == has_source
    }
}

/// The text is not the key of a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the key of a scope")]
pub struct ScopeError(pub String);

impl Scope {
    /// The name that [`Self::other`] has in its dimensions.
    pub const OTHER: &str = "(other)";

    /// Returns the scope of this kind for a source and values of dimensions, or `None` if it needs a
    /// value that is missing.
    pub fn new<'v>(
        kind: ScopeKind,
        provider: Provider,
        source: &str,
        value: impl Fn(Dimension) -> Option<&'v str>,
    ) -> Option<Self> {
        let source = || source.to_owned();
        let value = |dimension| value(dimension).map(str::to_owned);
        let mailbox_provider = || value(Dimension::MailboxProvider);
        let sending_ip = || value(Dimension::SendingIp);
        let tenant = || value(Dimension::Tenant);
        Some(match kind {
            ScopeKind::Source => Self::Source { provider, source: source() },
            ScopeKind::MailboxProvider => {
                let mailbox_provider = mailbox_provider()?;
                Self::MailboxProvider { provider, source: source(), mailbox_provider }
            }
            ScopeKind::Campaign => {
                let campaign = value(Dimension::Campaign)?;
                Self::Campaign { provider, source: source(), campaign }
            }
            ScopeKind::SenderDomain => {
                let sender_domain = value(Dimension::SenderDomain)?;
                Self::SenderDomain { provider, source: source(), sender_domain }
            }
            ScopeKind::SendingIp => {
                let sending_ip = sending_ip()?;
                Self::SendingIp { provider, source: source(), sending_ip }
            }
            ScopeKind::MailboxProviderSendingIp => {
                let (mailbox_provider, sending_ip) = (mailbox_provider()?, sending_ip()?);
                let source = source();
                Self::MailboxProviderSendingIp { provider, source, mailbox_provider, sending_ip }
            }
            ScopeKind::Tenant => Self::Tenant { tenant: tenant()? },
            ScopeKind::TenantMailboxProvider => {
                let (tenant, mailbox_provider) = (tenant()?, mailbox_provider()?);
                Self::TenantMailboxProvider { tenant, mailbox_provider }
            }
        })
    }

    pub const fn kind(&self) -> ScopeKind {
        match self {
            Self::Source { .. } => ScopeKind::Source,
            Self::MailboxProvider { .. } => ScopeKind::MailboxProvider,
            Self::Campaign { .. } => ScopeKind::Campaign,
            Self::SenderDomain { .. } => ScopeKind::SenderDomain,
            Self::SendingIp { .. } => ScopeKind::SendingIp,
            Self::MailboxProviderSendingIp { .. } => ScopeKind::MailboxProviderSendingIp,
            Self::Tenant { .. } => ScopeKind::Tenant,
            Self::TenantMailboxProvider { .. } => ScopeKind::TenantMailboxProvider,
        }
    }

    /// Returns the provider and the name of the source, unless the scope spans all sources.
    pub fn of_source(&self) -> Option<(Provider, &str)> {
        match self {
            Self::Source { provider, source }
            | Self::MailboxProvider { provider, source, .. }
            | Self::Campaign { provider, source, .. }
            | Self::SenderDomain { provider, source, .. }
            | Self::SendingIp { provider, source, .. }
            | Self::MailboxProviderSendingIp { provider, source, .. } => Some((*provider, source)),
            Self::Tenant { .. } | Self::TenantMailboxProvider { .. } => None,
        }
    }

    /// Returns the email service provider, unless the scope spans all sources.
    pub fn provider(&self) -> Option<Provider> {
        self.of_source().map(|(provider, _)| provider)
    }

    /// Returns the name of the source, unless the scope spans all sources.
    pub fn source(&self) -> Option<&str> {
        self.of_source().map(|(_, source)| source)
    }

    /// Returns the value of the scope in a dimension.
    pub fn value(&self, dimension: Dimension) -> Option<&str> {
        use Dimension as D;
        match (self, dimension) {
            (
                Self::MailboxProvider { mailbox_provider, .. }
                | Self::MailboxProviderSendingIp { mailbox_provider, .. }
                | Self::TenantMailboxProvider { mailbox_provider, .. },
                D::MailboxProvider,
            ) => Some(mailbox_provider),
            (Self::Campaign { campaign, .. }, D::Campaign) => Some(campaign),
            (Self::SenderDomain { sender_domain, .. }, D::SenderDomain) => Some(sender_domain),
            (
                Self::SendingIp { sending_ip, .. }
                | Self::MailboxProviderSendingIp { sending_ip, .. },
                D::SendingIp,
            ) => Some(sending_ip),
            (Self::Tenant { tenant } | Self::TenantMailboxProvider { tenant, .. }, D::Tenant) => {
                Some(tenant)
            }
            _ => None,
        }
    }

    /// Returns the names and values of the scope's dimensions.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let dimensions = self.kind().dimensions().iter();
        dimensions.filter_map(|dimension| Some((dimension.as_str(), self.value(*dimension)?)))
    }

    /// Returns the scope that counts the events of this one if there are too many scopes: of the same
    /// kind, with the name [`Self::OTHER`]. Returns `None` for that scope itself, and for a source.
    pub fn other(&self) -> Option<Self> {
        // Tenants have no source, so neither value is used.
        let (provider, source) = self.of_source().unwrap_or((Provider::Generic, ""));
        let other = Self::new(self.kind(), provider, source, |_| Some(Self::OTHER))?;
        (other != *self).then_some(other)
    }

    /// Returns the scope whose deliveries tell whether the rates of this one are known: its source, or
    /// its tenant.
    pub fn whole(&self) -> Self {
        match (self.of_source(), self.value(Dimension::Tenant)) {
            (Some((provider, source)), _) => Self::Source { provider, source: source.to_owned() },
            (None, tenant) => Self::Tenant { tenant: tenant.unwrap_or_default().to_owned() },
        }
    }

    /// Returns the text form, which is the key of Kafka records: `source/sendgrid/acme`,
    /// `mailbox/sendgrid/acme/gmail`, `campaign/sendgrid/acme/spring%20sale`, `tenant/acme`.
    ///
    /// Every byte outside the unreserved set of RFC 3986 is percent-encoded, so each scope has
    /// exactly one key and different scopes have different keys.
    pub fn key(&self) -> String {
        let mut key = self.kind().key_part().to_owned();
        if let Some((provider, source)) = self.of_source() {
            key.push('/');
            key.push_str(provider.as_str());
            key.push('/');
            percent_encode(source, &mut key);
        }
        for dimension in self.kind().dimensions() {
            key.push('/');
            percent_encode(self.value(*dimension).unwrap_or_default(), &mut key);
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
        let part = parts.next()?;
        let kind = ScopeKind::ALL.into_iter().find(|kind| kind.key_part() == part)?;
        let (provider, source) = if kind.has_source() {
            (parts.next()?.parse().ok()?, percent_decode(parts.next()?)?)
        } else {
            (Provider::Generic, String::new())
        };
        let values = parts.map(percent_decode).collect::<Option<Vec<_>>>()?;
        if values.len() != kind.dimensions().len() {
            return None;
        }
        Self::new(kind, provider, &source, |dimension| {
            let position = kind.dimensions().iter().position(|other| *other == dimension)?;
            Some(&values[position])
        })
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
        let texts = (any::<String>(), any::<String>(), any::<String>());
        (select(&ScopeKind::ALL[..]), select(&Provider::ALL[..]), texts).prop_map(
            |(kind, provider, (source, first, second))| {
                let scope = Scope::new(kind, provider, &source, |dimension| {
                    Some(if kind.dimensions().first() == Some(&dimension) {
                        &first
                    } else {
                        &second
                    })
                });
                scope.unwrap()
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
            prop_assert!(fields.is_complete());
            prop_assert_eq!(fields.provider, scope.provider());
            prop_assert_eq!(fields.source.as_deref(), scope.source());
            for (dimension, value) in [
                (Dimension::MailboxProvider, &fields.mailbox_provider),
                (Dimension::Campaign, &fields.campaign),
                (Dimension::SenderDomain, &fields.sender_domain),
                (Dimension::SendingIp, &fields.sending_ip),
                (Dimension::Tenant, &fields.tenant),
            ] {
                prop_assert_eq!(value.as_deref(), scope.value(dimension));
                let has_value = scope.kind().dimensions().contains(&dimension);
                prop_assert_eq!(value.is_some(), has_value);
            }
        }

        #[test]
        fn different_scopes_have_different_keys(a in scopes(), b in scopes()) {
            prop_assert_eq!(a == b, a.key() == b.key());
        }

        #[test]
        fn parsed_texts_are_the_key_of_their_scope(
            key in "(source|mailbox|campaign|sender|ip|mailbox-ip|tenant|tenant-mailbox|x)/(ses|sendgrid|y)(/[a%/0-9A-Fa-f ]{0,6}){0,3}",
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
        // Fixed, because episode ids and changelogs contain keys.
        let keys = ScopeKind::ALL.map(|kind| {
            let scope =
                Scope::new(kind, Provider::Ses, "acme", |dimension| Some(dimension.as_str()));
            scope.unwrap().key()
        });
        let expected = [
            "source/ses/acme",
            "mailbox/ses/acme/mailbox_provider",
            "campaign/ses/acme/campaign",
            "sender/ses/acme/sender_domain",
            "ip/ses/acme/sending_ip",
            "mailbox-ip/ses/acme/mailbox_provider/sending_ip",
            "tenant/tenant",
            "tenant-mailbox/tenant/mailbox_provider",
        ];
        assert_eq!(keys, expected);
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
            "tenant",
            "tenant/a/b",
            "tenant-mailbox/a",
            "mailbox-ip/sendgrid/acme/gmail",
        ] {
            assert_eq!(Scope::parse(wrong), Err(ScopeError(wrong.into())), "{wrong}");
        }
    }

    #[test]
    fn what_does_not_fit_counts_in_a_scope_of_the_same_kind() {
        for kind in ScopeKind::ALL {
            let scope = Scope::new(kind, Provider::Ses, "acme", |_| Some("a")).unwrap();
            let Some(other) = scope.other() else {
                assert_eq!(kind, ScopeKind::Source);
                continue;
            };
            assert_eq!((other.kind(), other.of_source()), (kind, scope.of_source()));
            let values = kind.dimensions().iter().map(|dimension| other.value(*dimension));
            assert!(values.into_iter().all(|value| value == Some(Scope::OTHER)));
            assert_eq!(other.other(), None);
        }
    }

    #[test]
    fn the_names_of_kinds_are_the_json_values() {
        for kind in ScopeKind::ALL {
            let json = format!("\"{}\"", kind.as_str());
            assert_eq!(serde_json::from_str::<ScopeKind>(&json).unwrap(), kind);
        }
    }
}
