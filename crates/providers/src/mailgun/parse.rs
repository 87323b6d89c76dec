use event::{Automation, AutomationReason, Bounce, Event, Kind, OccurredAt, Provider, Text};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::split::kind;
use crate::bounce::{Evidence, Meaning, meaning, tables};
use crate::envelope::bytes;
use crate::{Envelope, ParseError, json, times};

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The value of `event-data`.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    event: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    severity: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    reason: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    reject: Reject<'a>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    message: Message<'a>,
    #[serde(borrow, default, rename = "delivery-status", deserialize_with = "json::part")]
    delivery_status: DeliveryStatus<'a>,
    #[serde(default, deserialize_with = "json::part")]
    flags: Flags,
    #[serde(borrow, default, deserialize_with = "json::part")]
    envelope: Sending<'a>,
    #[serde(borrow, default, deserialize_with = "json::words")]
    tags: Vec<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::first")]
    campaigns: Campaign<'a>,
    #[serde(borrow, default, rename = "user-variables", deserialize_with = "json::part")]
    variables: Variables<'a>,
    #[serde(borrow, default, rename = "client-info", deserialize_with = "json::part")]
    client: Client<'a>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    ip: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    url: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
struct Reject<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    reason: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default, deserialize_with = "json::part")]
    headers: Headers<'a>,
}

#[derive(Default, Deserialize)]
struct Headers<'a> {
    #[serde(borrow, default, rename = "message-id", deserialize_with = "json::word")]
    message_id: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
struct DeliveryStatus<'a> {
    #[serde(borrow, default, rename = "enhanced-code", deserialize_with = "json::word")]
    enhanced_code: Option<Text<'a>>,
    #[serde(borrow, default, rename = "bounce-code", deserialize_with = "json::word")]
    bounce_code: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    message: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    description: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
struct Flags {
    #[serde(default, rename = "is-delayed-bounce", deserialize_with = "json::flag")]
    is_delayed_bounce: bool,
}

#[derive(Default, Deserialize)]
struct Sending<'a> {
    #[serde(borrow, default, rename = "sending-ip", deserialize_with = "json::word")]
    sending_ip: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
struct Campaign<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    id: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
struct Variables<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    campaign: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    campaign_id: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
struct Client<'a> {
    #[serde(borrow, default, rename = "user-agent", deserialize_with = "json::word")]
    user_agent: Option<Text<'a>>,
    /// Empty for a person, otherwise the machine's name.
    #[serde(borrow, default, deserialize_with = "json::word")]
    bot: Option<Text<'a>>,
}

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (record, raw) = json::event::<Record<'a>>(raw)?;
    let kind = kind(record.event.as_deref(), record.severity.as_deref(), record.reason.as_deref());
    let happened = times::unix(record.timestamp);
    let event_id = record.event_id(envelope, happened.as_ref().ok());
    let occurred_at = envelope.time(kind, happened)?;
    let bounce = matches!(kind, Kind::Deferred | Kind::Bounced | Kind::Dropped).then(|| {
        bounce(record.severity, record.reason, record.reject, record.delivery_status, record.flags)
    });
    Ok(Event {
        message_id: record.message.headers.message_id.and_then(without_brackets),
        campaign: record
            .campaigns
            .id
            .or(record.variables.campaign)
            .or(record.variables.campaign_id),
        tags: record.tags,
        bounce,
        automation: kind
            .is_engagement()
            .then(|| automation(record.client.bot.as_deref()))
            .flatten(),
        user_agent: record.client.user_agent,
        ip: record.ip.or(record.envelope.sending_ip),
        url: record.url,
        provider_event: record.event.unwrap_or_default(),
        provider_event_id: record.id,
        ..envelope.event(Provider::Mailgun, kind, event_id, occurred_at, raw)
    })
}

impl Record<'_> {
    /// `id` is unique within a day (UTC). Without one, the event is known by what it says. An event
    /// that does not say when it happened has no day: that of its receipt is another with a retry.
    fn event_id(&self, envelope: &Envelope<'_>, happened: Option<&OccurredAt>) -> event::EventId {
        if self.id.is_some() {
            let day = happened.map(|at| at.micros().div_euclid(MICROS_PER_DAY).to_le_bytes());
            let day = day.as_ref().map_or(&[][..], |day| day);
            return envelope.event_id(Provider::Mailgun, [day, bytes(&self.id)]);
        }
        let timestamp = self.timestamp.map_or("", RawValue::get).as_bytes();
        envelope.event_id(
            Provider::Mailgun,
            [
                bytes(&self.event),
                timestamp,
                bytes(&self.message.headers.message_id),
                bytes(&self.severity),
                bytes(&self.url),
            ],
        )
    }
}

fn bounce<'a>(
    severity: Option<Text<'a>>,
    reason: Option<Text<'a>>,
    reject: Reject<'a>,
    delivery: DeliveryStatus<'a>,
    flags: Flags,
) -> Bounce<'a> {
    // A message that Mailgun itself rejects may be sent once it is mended.
    let rejected = if reject.reason.is_some() { Meaning::SOFT } else { Meaning::default() };
    let severity = meaning(tables::MAILGUN_SEVERITIES, severity.as_deref());
    Evidence {
        provider: meaning(tables::MAILGUN_REASONS, reason.as_deref()).or(severity).or(rejected),
        status: delivery.enhanced_code.or(delivery.bounce_code),
        diagnostic: delivery.message.or(delivery.description).or(reject.reason),
        late: flags.is_delayed_bounce,
    }
    .judge()
}

/// `client-info.bot`: documented values are `apple`, `gmail` and `generic`.
fn automation(bot: Option<&str>) -> Option<Automation> {
    let reason = match bot? {
        "apple" => AutomationReason::AppleMpp,
        "gmail" => AutomationReason::Proxy,
        _ => AutomationReason::Bot,
    };
    Some(Automation { reason, confidence: 0.9 })
}

fn without_brackets(id: Text<'_>) -> Option<Text<'_>> {
    if !id.starts_with('<') {
        return Some(id);
    }
    Text::from(id.trim_start_matches('<').trim_end_matches('>').to_owned()).non_empty()
}
