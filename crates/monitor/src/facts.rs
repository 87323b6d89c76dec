//! What a rate needs of an event.

use event::{Kind, OccurredAt, Permanence, Provider, ReceivedAt, Text};
use record::{FirstSight, HeaderError};
use serde::Deserialize;
use serde::de::IgnoredAny;
use window::{Fact, Scope};

/// The few fields of an event that rates are made of; the rest of its JSON is skipped.
#[derive(Deserialize)]
pub(crate) struct RatedEvent<'a> {
    kind: Kind,
    pub(crate) provider: Provider,
    #[serde(borrow)]
    pub(crate) source: Text<'a>,
    occurred_at: OccurredAt,
    received_at: ReceivedAt,
    #[serde(borrow, default)]
    pub(crate) mailbox_provider: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(crate) campaign: Option<Text<'a>>,
    #[serde(default)]
    bounce: Option<Refusal>,
    #[serde(default)]
    automation: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Refusal {
    permanence: Permanence,
    #[serde(default)]
    late: bool,
}

impl<'a> RatedEvent<'a> {
    /// Reads them from the value of a record of `mail.events`.
    pub(crate) fn read(value: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(value)
    }

    /// The time it counts for: the provider's, but not after its receipt.
    pub(crate) fn time(&self) -> OccurredAt {
        self.occurred_at.not_after(self.received_at)
    }

    /// What it adds to the counts. `first` looks up the header of that name, which is only needed
    /// for opens and clicks.
    pub(crate) fn fact<'h>(
        &self,
        first: impl FnOnce() -> Option<&'h [u8]>,
    ) -> Result<Fact, HeaderError> {
        let first = match self.kind.is_engagement().then(first).flatten() {
            Some(header) => FirstSight::from_header(header)?,
            None => FirstSight::default(),
        };
        Ok(Fact {
            kind: self.kind,
            permanence: self.bounce.as_ref().map(|bounce| bounce.permanence),
            late_bounce: self.bounce.as_ref().is_some_and(|bounce| bounce.late),
            machine: self.automation.is_some(),
            first_of_kind: first.of_kind,
            first_engagement: first.of_engagement,
        })
    }

    /// The scopes it belongs to.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = Scope> {
        let provider = self.provider;
        let source = || self.source.to_string();
        let whole = Scope::Source { provider, source: source() };
        let mailbox = self.mailbox_provider.as_ref().map(|name| Scope::MailboxProvider {
            provider,
            source: source(),
            mailbox_provider: name.to_string(),
        });
        let campaign = self.campaign.as_ref().map(|name| Scope::Campaign {
            provider,
            source: source(),
            campaign: name.to_string(),
        });
        std::iter::once(whole).chain(mailbox).chain(campaign)
    }
}
