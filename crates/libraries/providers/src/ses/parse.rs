use event::{Bounce, BounceClass, Event, EventId, Kind, Permanence, Provider, Text};

use super::bounces;
use super::record::{Record, Sns};
use crate::bounce::{Evidence, Meaning, meaning};
use crate::{Envelope, ParseError, json, times};

/// The tags that SES adds by itself begin like this.
const OWN_TAGS: &str = "ses:";
/// Message tags that name the campaign.
const CAMPAIGN_TAGS: [&str; 2] = ["campaign", "campaign_id"];

/// One recipient's part of an SNS message. The text inside the envelope has been unescaped, so
/// nothing of it can be borrowed from the raw bytes.
pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (sns, raw) = json::event::<Sns<'a>>(raw)?;
    let message =
        sns.message.as_deref().ok_or(ParseError::WrongShape("an SNS envelope with a Message"))?;
    let (record, _) = json::event::<Record<'_>>(message.as_bytes())?;
    let kind = record.kind();
    let report = record.report();
    let happened = match record.event_name() {
        "Send" | "Reject" | "Rendering Failure" => record.mail.timestamp.as_deref(),
        _ => report.and_then(|report| report.timestamp.as_deref()),
    };
    let occurred_at = envelope.time(kind, times::rfc3339(happened.or(sns.timestamp.as_deref())))?;
    let event_id = event_id(&sns, &record, envelope);
    // A complaint's user agent is that of the feedback loop.
    let engagement = report.filter(|_| kind.is_engagement());
    Ok(Event {
        message_id: owned(&record.mail.message_id),
        campaign: CAMPAIGN_TAGS.into_iter().find_map(|name| tag(&record, name)),
        tags: custom_tags(&record),
        bounce: bounce(&record, kind, envelope.recipient),
        user_agent: engagement.and_then(|report| owned(&report.user_agent)),
        ip: engagement
            .and_then(|report| owned(&report.ip_address))
            .or_else(|| tag(&record, "ses:outgoing-ip")),
        url: engagement.and_then(|report| owned(&report.link)),
        provider_event: Text::from(record.event_name().to_owned()),
        provider_event_id: sns.message_id,
        ..envelope.event(Provider::Ses, kind, event_id, occurred_at, raw)
    })
}

/// Both dialects report bounces, complaints and deliveries, each in an SNS message of its own: what
/// they have in common is the message and the moment. Everything else has the SNS message's id.
fn event_id(sns: &Sns<'_>, record: &Record<'_>, envelope: &Envelope<'_>) -> EventId {
    let name = record.event_name();
    let moment = record.report().and_then(|report| report.timestamp.as_deref());
    let id =
        |key: &[&str]| envelope.event_id(Provider::Ses, key.iter().map(|part| part.as_bytes()));
    match (name, record.mail.message_id.as_deref(), moment) {
        ("Bounce" | "Complaint" | "Delivery", Some(message), Some(moment)) => {
            id(&[name, message, moment])
        }
        _ => id(&[sns.message_id.as_deref().or(sns.message.as_deref()).unwrap_or_default()]),
    }
}

fn bounce(record: &Record<'_>, kind: Kind, recipient: &str) -> Option<Bounce<'static>> {
    let report = record.report()?;
    let said = meaning(bounces::SUBTYPES, report.sub_type.as_deref());
    // The message itself is at fault: it may be sent once it is mended.
    let content = Meaning { permanence: Some(Permanence::Soft), class: Some(BounceClass::Content) };
    let provider = match (kind, record.event_name()) {
        (Kind::Deferred, _) => said.or(Meaning::SOFT),
        (Kind::Dropped, "Reject" | "Rendering Failure") => content,
        (Kind::Bounced | Kind::Dropped, _) => {
            said.or(meaning(bounces::TYPES, report.bounce_type.as_deref()))
        }
        _ => return None,
    };
    let named = report.of(recipient);
    let diagnostic = named
        .and_then(|named| owned(&named.diagnostic_code))
        .or_else(|| owned(&report.reason))
        .or_else(|| owned(&report.error_message));
    let status = named.and_then(|named| owned(&named.status));
    Some(Evidence { provider, status, diagnostic, late: false }.judge())
}

/// The first value of a message tag.
fn tag(record: &Record<'_>, name: &str) -> Option<Text<'static>> {
    let values = record.mail.tags.iter().find(|(key, _)| key.as_str() == name)?.1;
    values.0.first().cloned().map(Text::into_owned)
}

/// The sender's other message tags, each as `name=value`.
fn custom_tags(record: &Record<'_>) -> Vec<Text<'static>> {
    let is_known = |name: &str| name.starts_with(OWN_TAGS) || CAMPAIGN_TAGS.contains(&name);
    let others = record.mail.tags.iter().filter(|(name, _)| !is_known(name));
    others
        .flat_map(|(name, values)| values.0.iter().map(move |value| format!("{name}={value}")))
        .map(Text::from)
        .collect()
}

fn owned(text: &Option<Text<'_>>) -> Option<Text<'static>> {
    text.clone().map(Text::into_owned)
}
