use event::{EventId, IdBuilder, Kind, Permanence, Provider};

/// Something that happened to one message at one recipient, before a provider words it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The provider that reports it.
    pub provider: Provider,
    /// The configured source under that provider.
    pub source: String,
    /// What happened.
    pub kind: Kind,
    /// The mailbox address, lower-cased.
    pub recipient: String,
    /// The message, as the canonical event names it; see [`crate::shape::message_id`].
    pub message_id: String,
    /// The campaign, as its sender calls it; see [`Fact::told_campaign`].
    pub campaign: String,
    /// When, in UTC microseconds since the Unix epoch. Must be a whole number of the provider's
    /// units to survive the trip; see [`Fact::resolution_micros`].
    pub occurred_at_micros: i64,
    /// On bounces: final or not. Treated as [`Permanence::Hard`] where a bounce has `None`.
    pub permanence: Option<Permanence>,
    /// A machine, not a person, opened or clicked.
    pub machine: bool,
    /// Tells repeats apart: two opens of one message are two facts.
    pub n: u32,
}

impl Fact {
    /// A short way for tests: an event of `source` at `recipient`, everything else made up from
    /// these four and `n`.
    pub fn new(provider: Provider, source: &str, kind: Kind, recipient: &str, n: u32) -> Self {
        Self {
            provider,
            source: source.to_owned(),
            kind,
            recipient: recipient.to_owned(),
            message_id: crate::shape::message_id(provider, u128::from(n)),
            campaign: "welcome".to_owned(),
            occurred_at_micros: 1_795_255_200_000_000 + i64::from(n) * 1_000_000,
            permanence: (kind == Kind::Bounced).then_some(Permanence::Hard),
            machine: false,
            n,
        }
    }

    /// The identity of the fact: what a provider's own event id is made from here. Two facts that
    /// differ in nothing but `n` differ in it.
    pub fn id(&self) -> EventId {
        IdBuilder::new("testkit")
            .part(&[self.provider as u8, self.kind as u8])
            .part(self.source.as_bytes())
            .part(self.message_id.as_bytes())
            .part(self.recipient.as_bytes())
            .part(&self.n.to_le_bytes())
            .finish()
    }

    /// The smallest step of time the provider's payload can say, in microseconds.
    pub const fn resolution_micros(provider: Provider) -> i64 {
        match provider {
            Provider::SendGrid | Provider::Mandrill => 1_000_000,
            Provider::Mailgun | Provider::Postmark | Provider::Ses | Provider::Generic => 1_000,
            Provider::SparkPost | Provider::Mailjet => 1_000_000,
            Provider::Resend
            | Provider::StandardWebhooks
            | Provider::Brevo
            | Provider::MailerSend
            | Provider::Postal => 1_000,
        }
    }

    /// The campaign, where the provider tells it for what it is; `None` where it is a tag among
    /// others.
    pub fn told_campaign(&self) -> Option<&str> {
        match self.provider {
            Provider::Brevo | Provider::MailerSend | Provider::Postal => None,
            Provider::SendGrid
            | Provider::Mailgun
            | Provider::Postmark
            | Provider::Ses
            | Provider::Mandrill
            | Provider::Generic
            | Provider::SparkPost
            | Provider::Resend
            | Provider::StandardWebhooks
            | Provider::Mailjet => Some(&self.campaign),
        }
    }

    /// Whether it is a final refusal.
    pub fn is_hard_bounce(&self) -> bool {
        self.kind == Kind::Bounced && matches!(self.permanence, None | Some(Permanence::Hard))
    }

    /// Whether a person opened or clicked.
    pub fn is_human_engagement(&self) -> bool {
        self.kind.is_engagement() && !self.machine
    }

    /// A number made from the identity, for choosing a user agent or an address.
    pub(crate) fn pick(&self, from: usize) -> usize {
        usize::from(self.id().as_bytes()[15]) % from
    }

    /// The identity's low 53 bits: a positive integer every JSON reader can hold.
    pub(crate) fn number(&self) -> u64 {
        let mut low = [0; 8];
        low.copy_from_slice(&self.id().as_bytes()[..8]);
        u64::from_le_bytes(low) >> 11
    }
}
