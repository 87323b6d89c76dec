use event::{Bounce, Event, EventId, Kind, Permanence, Provider, Text};

use super::event::ResendEvent;
use crate::bounce::{Evidence, Meaning, meaning};
use crate::envelope::bytes;
use crate::ses::bounces;
use crate::{Envelope, ParseError, json, sending, times};

/// Tags that contain the campaign.
const CAMPAIGN_TAGS: [&str; 2] = ["campaign", "campaign_id"];

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (resend, raw) = json::event::<ResendEvent<'a>>(raw)?;
    let kind = resend.kind();
    let occurred_at = envelope.time(kind, times::text(resend.created_at.as_deref()))?;
    let event_id = event_id(&resend, raw.get(), envelope);
    let is_refused = matches!(kind, Kind::Bounced | Kind::Deferred | Kind::Dropped);
    let bounce = is_refused.then(|| bounce(&resend, kind));
    let tags = resend.tags();
    let campaign = CAMPAIGN_TAGS.into_iter().find_map(|name| tags.get(&Text::from(name)));
    let campaign = campaign.map(|text| text.clone().into_owned());
    let others = tags.iter().filter(|(name, _)| !CAMPAIGN_TAGS.contains(&name.as_str()));
    let others = others.map(|(name, value)| Text::from(format!("{name}={value}"))).collect();
    let data = resend.data.0;
    let engagement = if kind == Kind::Clicked { data.click.0 } else { data.open.0 };
    // On contacts and domains, it is their time.
    let created_at = data.created_at.as_deref().filter(|_| data.email_id.is_some());
    let sent_at = envelope.sent_at(times::text(created_at));
    Ok(Event {
        message_id: data.email_id.0,
        campaign: campaign.or(data.broadcast_id.0),
        tags: others,
        bounce,
        user_agent: engagement.user_agent.0,
        ip: engagement.ip_address.0,
        sent_at,
        sender: sending::sender(data.from.0),
        url: engagement.link.0,
        provider_event: resend.event.0.unwrap_or_default(),
        ..envelope.event(Provider::Resend, kind, event_id, occurred_at, raw)
    })
}

/// Resend's event id is in the header `svix-id`, which is not kept. The key is made of the fields
/// that identify the event; all delivery attempts have the same body. An event without a message or
/// a time has all its bytes as the key.
fn event_id(resend: &ResendEvent<'_>, raw: &str, envelope: &Envelope<'_>) -> EventId {
    let data = &resend.data;
    let message = if data.email_id.is_some() { &data.email_id } else { &data.id };
    if message.is_none() || resend.created_at.is_none() {
        return envelope.event_id(Provider::Resend, [bytes(&resend.event), raw.as_bytes()]);
    }
    let click = &data.click;
    let key = [&resend.event, &resend.created_at, message, &click.timestamp, &click.link];
    envelope.event_id(Provider::Resend, key.into_iter().map(|field| bytes(field)))
}

fn bounce<'a>(resend: &ResendEvent<'a>, kind: Kind) -> Bounce<'a> {
    let data = &resend.data;
    let report = match resend.event.as_deref() {
        Some("email.suppressed") => &data.suppressed,
        _ => &data.bounce,
    };
    let terms = meaning(bounces::SUBTYPES, report.sub_type.as_deref())
        .or(meaning(bounces::TYPES, report.bounce_type.as_deref()));
    let hard = Meaning { permanence: Some(Permanence::Hard), class: None };
    let provider = match (kind, resend.event.as_deref()) {
        (Kind::Deferred, _) => terms.or(Meaning::SOFT),
        (_, Some("email.suppressed")) => terms.or(meaning(bounces::SUBTYPES, Some("suppressed"))),
        // Before Resend added the type, it reported only permanent bounces.
        (Kind::Bounced, _) => terms.or(hard),
        _ => terms,
    };
    let diagnostic = report.diagnostic_code.first().cloned();
    let explanation = report.message.as_ref().or(data.failed.reason.as_ref()).cloned();
    Evidence { provider, diagnostic, ..Evidence::default() }.bounce_or(explanation)
}
