use event::{Bounce, BounceClass, Delivery, Event, EventId, Kind, Permanence, Provider, Text};

use super::bounces;
use super::event::{Report, SesEvent};
use super::sns::SnsMessage;
use crate::bounce::{Evidence, Meaning, meaning};
use crate::{Envelope, ParseError, json, sending, times};

/// The prefix of the tags that SES adds.
const OWN_TAGS: &str = "ses:";
/// Message tags that contain the campaign.
const CAMPAIGN_TAGS: [&str; 2] = ["campaign", "campaign_id"];

/// Converts an SNS message for one of its recipients. The text inside the envelope has been
/// unescaped, so its fields cannot borrow from the raw bytes.
pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (sns, raw) = json::event::<SnsMessage<'a>>(raw)?;
    let message =
        sns.message.as_deref().ok_or(ParseError::WrongShape("an SNS envelope with a Message"))?;
    // The envelope's text is a document of its own, which may need a repair of its own.
    let repaired;
    let (ses, _) = match json::event::<SesEvent<'_>>(message.as_bytes()) {
        Ok(usual) => usual,
        Err(error) => {
            repaired = json::repair(message.as_bytes()).ok_or(error)?;
            json::event(&repaired)?
        }
    };
    let kind = ses.kind();
    let report = ses.report();
    let time = match ses.event_name() {
        "Send" | "Reject" | "Rendering Failure" => ses.mail.timestamp.as_deref(),
        _ => report.and_then(|report| report.timestamp.as_deref()),
    };
    let occurred_at = envelope.time(kind, times::first([time, sns.timestamp.as_deref()]))?;
    let event_id = event_id(&sns, &ses, envelope);
    // The user agent of a complaint belongs to the feedback loop.
    let engagement = report.filter(|_| kind.is_engagement());
    Ok(Event {
        message_id: owned(&ses.mail.message_id),
        campaign: CAMPAIGN_TAGS.into_iter().find_map(|name| tag(&ses, name)),
        tags: custom_tags(&ses),
        bounce: bounce(&ses, kind, envelope.recipient),
        user_agent: engagement.and_then(|report| owned(&report.user_agent)),
        ip: engagement.and_then(|report| owned(&report.ip_address)),
        sending_ip: tag(&ses, "ses:outgoing-ip"),
        sent_at: envelope.sent_at(times::text(ses.mail.timestamp.as_deref())),
        sender: sender(&ses),
        delivery: report.and_then(delivery),
        url: engagement.and_then(|report| owned(&report.link)),
        provider_event: Text::from(ses.event_name().to_owned()),
        provider_event_id: sns.message_id,
        ..envelope.event(Provider::Ses, kind, event_id, occurred_at, raw)
    })
}

/// Both dialects report bounces, complaints and deliveries, each in its own SNS message. They share
/// the message id and the time, which are the key. The key of all other events is the id of the SNS
/// message.
fn event_id(sns: &SnsMessage<'_>, ses: &SesEvent<'_>, envelope: &Envelope<'_>) -> EventId {
    let name = ses.event_name();
    let time = ses.report().and_then(|report| report.timestamp.as_deref());
    let id =
        |key: &[&str]| envelope.event_id(Provider::Ses, key.iter().map(|part| part.as_bytes()));
    match (name, ses.mail.message_id.as_deref(), time) {
        ("Bounce" | "Complaint" | "Delivery", Some(message), Some(time)) => {
            id(&[name, message, time])
        }
        _ => id(&[sns.message_id.as_deref().or(sns.message.as_deref()).unwrap_or_default()]),
    }
}

fn bounce(ses: &SesEvent<'_>, kind: Kind, recipient: &str) -> Option<Bounce<'static>> {
    let report = ses.report()?;
    let terms = meaning(bounces::SUBTYPES, report.sub_type.as_deref());
    // The message is at fault. It can be sent once the sender has corrected it.
    let content = Meaning { permanence: Some(Permanence::Soft), class: Some(BounceClass::Content) };
    let provider = match (kind, ses.event_name()) {
        (Kind::Deferred, _) => terms.or(Meaning::SOFT),
        (Kind::Dropped, "Reject" | "Rendering Failure") => content,
        (Kind::Bounced | Kind::Dropped, _) => {
            terms.or(meaning(bounces::TYPES, report.bounce_type.as_deref()))
        }
        _ => return None,
    };
    let details = report.recipient(recipient);
    let diagnostic = details
        .and_then(|details| owned(&details.diagnostic_code))
        .or_else(|| owned(&report.reason))
        .or_else(|| owned(&report.error_message));
    let status = details.and_then(|details| owned(&details.status));
    Some(Evidence { provider, status, diagnostic, late: false }.bounce())
}

fn sender(ses: &SesEvent<'_>) -> Option<Text<'static>> {
    let from = ses.mail.common_headers.from.first();
    let written = ses.mail.source.as_ref().or(from).cloned();
    sending::sender(written).map(Text::into_owned)
}

fn delivery(report: &Report<'_>) -> Option<Delivery<'static>> {
    sending::known(Delivery {
        server: owned(&report.remote_mta_ip),
        response: owned(&report.smtp_response),
        tls: None,
        millis: sending::millis(report.processing_time_millis),
    })
}

/// Returns the first value of a message tag.
fn tag(ses: &SesEvent<'_>, name: &str) -> Option<Text<'static>> {
    let values = ses.mail.tags.iter().find(|(key, _)| key.as_str() == name)?.1;
    values.0.first().cloned().map(Text::into_owned)
}

/// Returns the sender's other message tags, each as `name=value`.
fn custom_tags(ses: &SesEvent<'_>) -> Vec<Text<'static>> {
    let is_known = |name: &str| name.starts_with(OWN_TAGS) || CAMPAIGN_TAGS.contains(&name);
    let others = ses.mail.tags.iter().filter(|(name, _)| !is_known(name));
    others
        .flat_map(|(name, values)| values.0.iter().map(move |value| format!("{name}={value}")))
        .map(Text::from)
        .collect()
}

fn owned(text: &Option<Text<'_>>) -> Option<Text<'static>> {
    text.clone().map(Text::into_owned)
}
