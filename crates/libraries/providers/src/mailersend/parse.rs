use event::{Event, EventId, Kind, Permanence, Provider};
use serde::Deserialize;

use super::split::kind;
use crate::bounce::{Evidence, Meaning};
use crate::envelope::bytes;
use crate::json::{self, LenientObject, LenientText, LenientTexts};
use crate::{Envelope, ParseError, sending, times};

#[derive(Deserialize)]
struct MailerSendEvent<'a> {
    #[serde(borrow, rename = "type")]
    event: LenientText<'a>,
    created_at: LenientText<'a>,
    data: LenientObject<Data<'a>>,
}

#[derive(Default, Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    id: LenientText<'a>,
    created_at: LenientText<'a>,
    email: LenientObject<Email<'a>>,
    /// The details of the event; `null` if it has none.
    morph: LenientObject<Morph<'a>>,
}

#[derive(Default, Deserialize)]
struct Email<'a> {
    #[serde(borrow)]
    message: LenientObject<Message<'a>>,
    tags: LenientTexts<'a>,
    created_at: LenientText<'a>,
    from: LenientText<'a>,
}

#[derive(Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: LenientText<'a>,
}

#[derive(Default, Deserialize)]
struct Morph<'a> {
    #[serde(borrow)]
    reason: LenientText<'a>,
    ip: LenientText<'a>,
    user_agent: LenientText<'a>,
    url: LenientText<'a>,
}

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (mailersend, raw) = json::event::<MailerSendEvent<'a>>(raw)?;
    let kind = kind(mailersend.event.as_deref());
    let times = [mailersend.data.created_at.as_deref(), mailersend.created_at.as_deref()];
    let occurred_at = envelope.time(kind, times::first(times))?;
    let event_id = mailersend.event_id(raw.get(), envelope);
    let Data { id, email, morph, .. } = mailersend.data.0;
    let (email, morph) = (email.0, morph.0);
    let bounce = matches!(kind, Kind::Bounced | Kind::Deferred).then(|| {
        let permanence = match mailersend.event.as_deref() {
            Some("activity.hard_bounced") => Permanence::Hard,
            _ => Permanence::Soft,
        };
        let provider = Meaning { permanence: Some(permanence), class: None };
        Evidence { provider, diagnostic: morph.reason.0, ..Evidence::default() }.bounce()
    });
    Ok(Event {
        message_id: email.message.0.id.0,
        tags: email.tags.0,
        bounce,
        user_agent: morph.user_agent.0,
        ip: morph.ip.0,
        sent_at: envelope.sent_at(times::text(email.created_at.as_deref())),
        sender: sending::sender(email.from.0),
        url: morph.url.0,
        provider_event: mailersend.event.0.unwrap_or_default(),
        provider_event_id: id.0,
        ..envelope.event(Provider::MailerSend, kind, event_id, occurred_at, raw)
    })
}

impl MailerSendEvent<'_> {
    /// The key is `data.id` and the type. MailerSend does not document whether an open and its
    /// `_unique` twin may share an id.
    fn event_id(&self, raw: &str, envelope: &Envelope<'_>) -> EventId {
        let key = match &*self.data.id {
            Some(id) => id.as_bytes(),
            None => raw.as_bytes(),
        };
        envelope.event_id(Provider::MailerSend, [bytes(&self.event), key])
    }
}
