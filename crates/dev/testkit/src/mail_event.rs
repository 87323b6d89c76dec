use event::{EventId, IdBuilder, Kind, Permanence, Provider};

/// Something that happened to one message at one recipient, independent of the provider's format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailEvent {
    pub provider: Provider,
    /// The configured source under that provider.
    pub source: String,
    pub kind: Kind,
    /// The mailbox address in lower case.
    pub recipient: String,
    /// The id in the canonical event's form; see [`crate::payloads::message_id`].
    pub message_id: String,
    /// The sender's name for the campaign; see [`MailEvent::reported_campaign`].
    pub campaign: String,
    /// UTC microseconds since the Unix epoch. A multiple of [`MailEvent::resolution_micros`],
    /// because the provider's payload would lose the rest.
    pub occurred_at_micros: i64,
    /// When the provider took the message in, in the same form. `None`: when this event occurred.
    pub sent_at_micros: Option<i64>,
    /// For bounces. `None` means [`Permanence::Hard`].
    pub permanence: Option<Permanence>,
    /// Whether a machine, not a person, opened or clicked.
    pub machine: bool,
    /// Makes two opens of one message different events.
    pub n: u32,
}

impl MailEvent {
    /// Returns an event for tests. The arguments determine all other fields.
    pub fn new(provider: Provider, source: &str, kind: Kind, recipient: &str, n: u32) -> Self {
        Self {
            provider,
            source: source.to_owned(),
            kind,
            recipient: recipient.to_owned(),
            message_id: crate::payloads::message_id(provider, u128::from(n)),
            campaign: "welcome".to_owned(),
            occurred_at_micros: 1_795_255_200_000_000 + i64::from(n) * 1_000_000,
            sent_at_micros: None,
            permanence: (kind == Kind::Bounced).then_some(Permanence::Hard),
            machine: false,
            n,
        }
    }

    /// Returns an id, from which the payloads derive the provider's own event id. Events that
    /// differ only in `n` have different ids.
    pub fn id(&self) -> EventId {
        IdBuilder::new("testkit")
            .part(&[self.provider as u8, self.kind as u8])
            .part(self.source.as_bytes())
            .part(self.message_id.as_bytes())
            .part(self.recipient.as_bytes())
            .part(&self.n.to_le_bytes())
            .finish()
    }

    /// Returns the resolution of times in the provider's payloads.
    pub const fn resolution_micros(provider: Provider) -> i64 {
        match provider {
            Provider::SendGrid | Provider::Mandrill => 1_000_000,
            Provider::SparkPost | Provider::Mailjet => 1_000_000,
            _ => 1_000,
        }
    }

    /// Returns the campaign, or `None` if the provider reports it only as one of several tags.
    pub fn reported_campaign(&self) -> Option<&str> {
        match self.provider {
            Provider::Brevo | Provider::MailerSend | Provider::Postal => None,
            _ => Some(&self.campaign),
        }
    }

    /// Returns when the provider took the message in.
    pub(crate) fn sent_at(&self) -> i64 {
        self.sent_at_micros.unwrap_or(self.occurred_at_micros)
    }

    pub fn is_hard_bounce(&self) -> bool {
        self.kind == Kind::Bounced && matches!(self.permanence, None | Some(Permanence::Hard))
    }

    pub fn is_human_engagement(&self) -> bool {
        self.kind.is_engagement() && !self.machine
    }

    /// Returns an index below `len`, derived from the id, to choose a user agent or an address.
    pub(crate) fn index_below(&self, len: usize) -> usize {
        usize::from(self.id().as_bytes()[15]) % len
    }

    /// Returns 53 bits of the id, which every JSON parser reads without loss.
    pub(crate) fn number(&self) -> u64 {
        let mut low = [0; 8];
        low.copy_from_slice(&self.id().as_bytes()[..8]);
        u64::from_le_bytes(low) >> 11
    }
}
