use event::{Automation, AutomationReason, Bounce, Event, EventId, Kind, Permanence, Provider};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::split::kind;
use crate::bounce::{Evidence, Meaning};
use crate::envelope::bytes;
use crate::json::{self, LenientFlag, LenientObject, LenientText, LenientTexts};
use crate::{Envelope, ParseError, times};

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
    /// `sent_at` the time of the webhook, used if the event has none, and `raw` the whole raw
    /// event.
    pub(crate) fn into_event(
        self,
        provider: Provider,
        sent_at: Option<&'a RawValue>,
        raw: &'a RawValue,
        envelope: &Envelope<'a>,
    ) -> Result<Event<'a>, ParseError> {
        let kind = kind(self.event.as_deref());
        let timestamp = self.timestamp.or(sent_at);
        let occurred_at = envelope.time(kind, times::any(timestamp))?;
        let event_id = self.event_id(provider, timestamp, envelope);
        let is_refused = matches!(kind, Kind::Bounced | Kind::Deferred | Kind::Dropped);
        let bounce = is_refused.then(|| self.bounce.0.into_bounce(kind));
        let is_machine = kind.is_engagement() && self.machine.is_set();
        Ok(Event {
            message_id: self.message_id.0,
            campaign: self.campaign.0,
            tags: self.tags.0,
            bounce,
            automation: is_machine
                .then_some(Automation { reason: AutomationReason::Bot, confidence: 1.0 }),
            user_agent: self.user_agent.0,
            ip: self.ip.0,
            url: self.url.0,
            provider_event: self.event.0.unwrap_or_default(),
            provider_event_id: self.id.0,
            ..envelope.event(provider, kind, event_id, occurred_at, raw)
        })
    }

    /// The key is `id`. Without one, it is made of the fields that identify the event.
    fn event_id(
        &self,
        provider: Provider,
        timestamp: Option<&RawValue>,
        envelope: &Envelope<'_>,
    ) -> EventId {
        if self.id.is_some() {
            return envelope.event_id(provider, [bytes(&self.id)]);
        }
        let timestamp = timestamp.map_or("", RawValue::get).as_bytes();
        envelope.event_id(
            provider,
            [bytes(&self.event), timestamp, bytes(&self.message_id), bytes(&self.url)],
        )
    }
}

impl<'a> Refusal<'a> {
    fn into_bounce(self, kind: Kind) -> Bounce<'a> {
        let name = self.permanence.as_deref();
        let permanence = Permanence::ALL.iter().find(|p| Some(p.as_str()) == name).copied();
        let default = if kind == Kind::Deferred { Meaning::SOFT } else { Meaning::default() };
        Evidence {
            provider: Meaning { permanence, class: None }.or(default),
            status: self.status.0,
            diagnostic: self.diagnostic.0,
            late: false,
        }
        .bounce()
    }
}
