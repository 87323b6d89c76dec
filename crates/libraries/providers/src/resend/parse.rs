use event::{Bounce, Event, EventId, Kind, Permanence, Provider, Text};

use super::record::Record;
use crate::bounce::{Evidence, Meaning, meaning};
use crate::envelope::bytes;
use crate::ses::bounces;
use crate::{Envelope, ParseError, json, times};

/// Tags that name the campaign.
const CAMPAIGN_TAGS: [&str; 2] = ["campaign", "campaign_id"];

/// One recipient's part of an event.
pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (record, raw) = json::event::<Record<'a>>(raw)?;
    let kind = record.kind();
    let occurred_at = envelope.time(kind, times::rfc3339(record.created_at.as_deref()))?;
    let event_id = event_id(&record, envelope);
    let refused = matches!(kind, Kind::Bounced | Kind::Deferred | Kind::Dropped);
    let bounce = refused.then(|| bounce(&record, kind));
    let tags = record.tags();
    let campaign = CAMPAIGN_TAGS.into_iter().find_map(|name| tags.get(&Text::from(name)));
    let campaign = campaign.map(|text| text.clone().into_owned());
    let others = tags.iter().filter(|(name, _)| !CAMPAIGN_TAGS.contains(&name.as_str()));
    let others = others.map(|(name, value)| Text::from(format!("{name}={value}"))).collect();
    let data = record.data;
    let engagement = if kind == Kind::Clicked { data.click } else { data.open };
    Ok(Event {
        message_id: data.email_id,
        campaign: campaign.or(data.broadcast_id),
        tags: others,
        bounce,
        user_agent: engagement.user_agent,
        ip: engagement.ip_address,
        url: engagement.link,
        provider_event: record.event.unwrap_or_default(),
        ..envelope.event(Provider::Resend, kind, event_id, occurred_at, raw)
    })
}

/// Resend's id of the event is the header `svix-id`, which the body has not: there it is known by
/// what it says. All attempts to deliver it carry the same body.
fn event_id(record: &Record<'_>, envelope: &Envelope<'_>) -> EventId {
    let data = &record.data;
    let message = if data.email_id.is_some() { &data.email_id } else { &data.id };
    let key = [&record.event, &record.created_at, message, &data.click.timestamp, &data.click.link];
    envelope.event_id(Provider::Resend, key.map(bytes))
}

fn bounce<'a>(record: &Record<'a>, kind: Kind) -> Bounce<'a> {
    let data = &record.data;
    let report = match kind {
        Kind::Dropped => &data.suppressed,
        _ => &data.bounce,
    };
    let said = meaning(bounces::SUBTYPES, report.sub_type.as_deref())
        .or(meaning(bounces::TYPES, report.bounce_type.as_deref()));
    let hard = Meaning { permanence: Some(Permanence::Hard), class: None };
    let provider = match (kind, record.event.as_deref()) {
        (Kind::Deferred, _) => said.or(Meaning::SOFT),
        (_, Some("email.suppressed")) => said.or(meaning(bounces::SUBTYPES, Some("suppressed"))),
        // Before it named the type, Resend reported permanent bounces only.
        (Kind::Bounced, _) => said.or(hard),
        _ => said,
    };
    let diagnostic = report.diagnostic_code.first().cloned();
    let explained = report.message.as_ref().or(data.failed.reason.as_ref()).cloned();
    Evidence { provider, diagnostic, ..Evidence::default() }.judge_with(explained)
}
