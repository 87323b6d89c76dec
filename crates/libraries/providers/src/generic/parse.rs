use std::borrow::Cow;

use event::{
    Automation, AutomationReason, Delivery, Event, EventId, Kind, OccurredAt, Permanence, Provider,
    Text,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::split::kind;
use crate::bounce::{Evidence, Meaning};
use crate::envelope::bytes;
use crate::json::{self, LenientFlag, LenientObject, LenientText, LenientTexts};
use crate::{Envelope, ParseError, sending, times};

/// An event in Mailpulse's own form.
#[derive(Deserialize)]
pub(crate) struct GenericEvent<'a> {
    #[serde(borrow)]
    id: LenientText<'a>,
    event: LenientText<'a>,
    /// In unix seconds, unix milliseconds, or RFC 3339.
    timestamp: Option<&'a RawValue>,
    message_id: LenientText<'a>,
    campaign: LenientText<'a>,
    tags: LenientTexts<'a>,
    bounce: LenientObject<Refusal<'a>>,
    url: LenientText<'a>,
    ip: LenientText<'a>,
    user_agent: LenientText<'a>,
    /// True if a machine opened or clicked.
    machine: LenientFlag,
    /// An address, alone or as in the header `From`.
    sender: LenientText<'a>,
    /// When the message was sent, in the forms of `timestamp`.
    sent_at: Option<&'a RawValue>,
    sending_ip: LenientText<'a>,
    delivery: LenientObject<Attempt<'a>>,
}

/// The attempt to deliver that an event reports.
#[derive(Default, Deserialize)]
struct Attempt<'a> {
    /// The name or address of the receiving server.
    #[serde(borrow)]
    server: LenientText<'a>,
    /// Its answer.
    response: LenientText<'a>,
    tls: LenientFlag,
    /// The duration in milliseconds.
    millis: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Refusal<'a> {
    /// `hard`, `soft` or `undetermined`.
    #[serde(borrow)]
    permanence: LenientText<'a>,
    status: LenientText<'a>,
    diagnostic: LenientText<'a>,
}

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (generic, raw) = json::event::<GenericEvent<'a>>(raw)?;
    generic.into_event(Provider::Generic, None, raw, envelope)
}

impl<'a> GenericEvent<'a> {
    /// Converts to the canonical event. `provider` is the one whose webhook contains this form,
    /// `posted_at` the time of the webhook, used if the event has none, and `raw` the whole raw
    /// event.
    pub(crate) fn into_event(
        self,
        provider: Provider,
        posted_at: Option<&'a RawValue>,
        raw: &'a RawValue,
        envelope: &Envelope<'a>,
    ) -> Result<Event<'a>, ParseError> {
        let (refusal, attempt) = (self.bounce.0, self.delivery.0);
        Facts {
            kind: kind(self.event.as_deref()),
            timestamp: self.timestamp.or(posted_at).map(|json| Cow::Borrowed(json.get())),
            event: self.event.0,
            id: self.id.0,
            key: None,
            message_id: self.message_id.0,
            campaign: self.campaign.0,
            stream: None,
            tags: self.tags.0,
            url: self.url.0,
            ip: self.ip.0,
            user_agent: self.user_agent.0,
            is_machine: self.machine.is_set(),
            permanence: refusal.permanence(),
            status: refusal.status.0,
            diagnostic: refusal.diagnostic.0,
            sender: self.sender.0,
            sent_at: self.sent_at.map(|json| Cow::Borrowed(json.get())),
            sending_ip: self.sending_ip.0,
            delivery: Delivery {
                server: attempt.server.0,
                response: attempt.response.0,
                tls: attempt.tls.0,
                millis: sending::millis(attempt.millis),
            },
        }
        .into_event(provider, raw, envelope)
    }
}

/// The content of an event, wherever its fields were.
pub(super) struct Facts<'a> {
    pub(super) kind: Kind,
    /// The sender's name of the event.
    pub(super) event: Option<Text<'a>>,
    /// JSON: unix seconds, unix milliseconds, or RFC 3339.
    pub(super) timestamp: Option<Cow<'a, str>>,
    pub(super) id: Option<Text<'a>>,
    /// What identifies an event without `id`, if its fields do not.
    pub(super) key: Option<&'a str>,
    pub(super) message_id: Option<Text<'a>>,
    pub(super) campaign: Option<Text<'a>>,
    pub(super) stream: Option<Text<'a>>,
    pub(super) tags: Vec<Text<'a>>,
    pub(super) url: Option<Text<'a>>,
    pub(super) ip: Option<Text<'a>>,
    pub(super) user_agent: Option<Text<'a>>,
    pub(super) is_machine: bool,
    pub(super) permanence: Option<Permanence>,
    pub(super) status: Option<Text<'a>>,
    /// The answer of the receiving server.
    pub(super) diagnostic: Option<Text<'a>>,
    /// An address, alone or as in the header `From`.
    pub(super) sender: Option<Text<'a>>,
    /// JSON, in the forms of `timestamp`.
    pub(super) sent_at: Option<Cow<'a, str>>,
    pub(super) sending_ip: Option<Text<'a>>,
    /// Counts only if the event reports an attempt.
    pub(super) delivery: Delivery<'a>,
}

impl<'a> Facts<'a> {
    pub(super) fn into_event(
        self,
        provider: Provider,
        raw: &'a RawValue,
        envelope: &Envelope<'a>,
    ) -> Result<Event<'a>, ParseError> {
        let kind = self.kind;
        let occurred_at = envelope.time(kind, time(self.timestamp.as_deref()))?;
        let sent_at = envelope.sent_at(time(self.sent_at.as_deref()));
        let event_id = self.event_id(provider, envelope);
        let is_refused = matches!(kind, Kind::Bounced | Kind::Deferred | Kind::Dropped);
        let default = if kind == Kind::Deferred { Meaning::SOFT } else { Meaning::default() };
        let evidence = Evidence {
            provider: Meaning { permanence: self.permanence, class: None }.or(default),
            status: self.status,
            diagnostic: self.diagnostic,
            late: false,
        };
        let is_machine = kind.is_engagement() && self.is_machine;
        Ok(Event {
            message_id: self.message_id,
            campaign: self.campaign,
            stream: self.stream,
            tags: self.tags,
            bounce: is_refused.then(|| evidence.bounce()),
            automation: is_machine
                .then_some(Automation { reason: AutomationReason::Bot, confidence: 1.0 }),
            user_agent: self.user_agent,
            ip: self.ip,
            sending_ip: self.sending_ip,
            sent_at,
            sender: sending::sender(self.sender),
            delivery: sending::known(self.delivery).filter(|_| kind.is_attempt()),
            url: self.url,
            provider_event: self.event.unwrap_or_default(),
            provider_event_id: self.id,
            ..envelope.event(provider, kind, event_id, occurred_at, raw)
        })
    }

    /// The key is `id`. Without one, it is made of the fields that identify the event.
    fn event_id(&self, provider: Provider, envelope: &Envelope<'_>) -> EventId {
        if self.id.is_some() {
            return envelope.event_id(provider, [bytes(&self.id)]);
        }
        if let Some(key) = self.key {
            return envelope.event_id(provider, [key.as_bytes()]);
        }
        let timestamp = self.timestamp.as_deref().unwrap_or_default().as_bytes();
        envelope.event_id(
            provider,
            [bytes(&self.event), timestamp, bytes(&self.message_id), bytes(&self.url)],
        )
    }
}

fn time(json: Option<&str>) -> Result<OccurredAt, ParseError> {
    times::any(json.and_then(|json| serde_json::from_str(json).ok()))
}

impl Refusal<'_> {
    fn permanence(&self) -> Option<Permanence> {
        let name = self.permanence.as_deref();
        Permanence::ALL.iter().find(|permanence| Some(permanence.as_str()) == name).copied()
    }
}
