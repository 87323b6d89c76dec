use event::{Bounce, Delivery, Event, EventId, Kind, Permanence, Provider};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::bounces;
use super::split::kind;
use crate::bounce::{Evidence, Meaning, meaning};
use crate::envelope::bytes;
use crate::json::{self, LenientFlag, LenientText};
use crate::place::Place;
use crate::{Envelope, ParseError, sending, times};

#[derive(Deserialize)]
struct MailjetEvent<'a> {
    #[serde(borrow)]
    event: LenientText<'a>,
    time: Option<&'a RawValue>,
    /// Above 2^53, so it must never be read as a double.
    #[serde(rename = "MessageID")]
    message_id: LenientText<'a>,
    /// The same as a text, from before `MessageID` existed.
    mj_message_id: LenientText<'a>,
    /// The sender's name of the campaign.
    customcampaign: LenientText<'a>,
    /// 0 if there is no campaign.
    mj_campaign_id: LenientText<'a>,
    hard_bounce: LenientFlag,
    error_related_to: LenientText<'a>,
    error: LenientText<'a>,
    /// The answer of the receiving server.
    comment: LenientText<'a>,
    /// The answer of the receiving server, on deliveries.
    smtp_reply: LenientText<'a>,
    /// The country of the reader.
    geo: LenientText<'a>,
    ip: LenientText<'a>,
    agent: LenientText<'a>,
    /// On unsubscriptions.
    mj_list_id: LenientText<'a>,
    url: LenientText<'a>,
}

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (mut mailjet, raw) = json::event::<MailjetEvent<'a>>(raw)?;
    let errors = [mailjet.error.as_deref(), mailjet.error_related_to.as_deref()];
    let kind = kind(mailjet.event.as_deref(), errors);
    let occurred_at = envelope.time(kind, times::unix(mailjet.time))?;
    mailjet.message_id.0 = mailjet.message_id.take().or(mailjet.mj_message_id.take());
    let event_id = mailjet.event_id(kind, raw.get(), envelope);
    let bounce = mailjet.bounce(kind);
    let campaign_id = mailjet.mj_campaign_id.0.filter(|id| id.as_str() != "0");
    let delivery = Delivery { response: mailjet.smtp_reply.0, ..Delivery::default() };
    let place = Place { country: mailjet.geo.0, ..Place::default() };
    Ok(Event {
        message_id: mailjet.message_id.0,
        campaign: mailjet.customcampaign.0.or(campaign_id),
        bounce,
        user_agent: mailjet.agent.0,
        ip: mailjet.ip.0,
        delivery: sending::known(delivery).filter(|_| kind == Kind::Delivered),
        geo: place.geo().filter(|_| kind.is_engagement()),
        url: mailjet.url.0,
        provider_event: mailjet.event.0.unwrap_or_default(),
        ..envelope.event(Provider::Mailjet, kind, event_id, occurred_at, raw)
    })
}

impl<'a> MailjetEvent<'a> {
    /// Mailjet's events have no id. Their key is the message, the event name, the time, the link, the
    /// client's address and the list that was left; events without a message or a time have all their
    /// bytes as the key. Another key would count events twice that are posted again after an upgrade.
    fn event_id(&self, kind: Kind, raw: &str, envelope: &Envelope<'_>) -> EventId {
        let event = bytes(&self.event);
        if kind == Kind::Other || self.message_id.is_none() || self.time.is_none() {
            return envelope.event_id(Provider::Mailjet, [event, raw.as_bytes()]);
        }
        let time = self.time.map_or("", RawValue::get).as_bytes();
        let key = [bytes(&self.message_id), event, time, bytes(&self.url), bytes(&self.ip)];
        let list = self.mj_list_id.is_some().then(|| bytes(&self.mj_list_id));
        envelope.event_id(Provider::Mailjet, key.into_iter().chain(list))
    }

    fn bounce(&mut self, kind: Kind) -> Option<Bounce<'a>> {
        matches!(kind, Kind::Bounced | Kind::Dropped).then(|| {
            let permanence = |is_hard| if is_hard { Permanence::Hard } else { Permanence::Soft };
            let flag = Meaning { permanence: self.hard_bounce.map(permanence), class: None };
            let related = self.error_related_to.as_deref();
            let provider = flag
                .or(meaning(bounces::ERRORS, self.error.as_deref()))
                .or(meaning(bounces::ERRORS, related))
                .or(meaning(bounces::RELATED, related));
            let diagnostic = self.comment.take();
            let evidence = Evidence { provider, diagnostic, ..Evidence::default() };
            evidence.bounce_or(self.error.take())
        })
    }
}
