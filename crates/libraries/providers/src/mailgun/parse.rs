use event::{Automation, AutomationReason, Bounce, Event, Kind, OccurredAt, Provider, Text};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::bounces;
use super::split::What;
use crate::bounce::{Evidence, Meaning, meaning};
use crate::envelope::bytes;
use crate::{Envelope, ParseError, json, times};

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The value of `event-data`, or a form's fields, which have other names for the same.
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
    // The rest is of forms alone.
    #[serde(borrow, default, rename = "Message-Id", deserialize_with = "json::word")]
    form_message_id: Option<Text<'a>>,
    #[serde(borrow, default, rename = "message-id", deserialize_with = "json::word")]
    form_opened_id: Option<Text<'a>>,
    #[serde(borrow, default, rename = "X-Mailgun-Tag", deserialize_with = "json::words")]
    form_tags: Vec<Text<'a>>,
    #[serde(borrow, default, rename = "tag", deserialize_with = "json::words")]
    form_tag: Vec<Text<'a>>,
    #[serde(borrow, default, rename = "campaign-id", deserialize_with = "json::word")]
    form_campaign: Option<Text<'a>>,
    #[serde(borrow, default, rename = "user-agent", deserialize_with = "json::word")]
    form_user_agent: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    code: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    error: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    description: Option<Text<'a>>,
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
    let kind = record.what().kind();
    let happened = times::unix(record.timestamp);
    let event_id = record.event_id(envelope, happened.as_ref().ok());
    let occurred_at = envelope.time(kind, happened)?;
    let refused = matches!(kind, Kind::Deferred | Kind::Bounced | Kind::Dropped);
    let bounce = refused.then(|| record.bounce());
    let message_id = record.message_id().clone();
    Ok(Event {
        message_id: message_id.and_then(without_brackets),
        campaign: record
            .campaigns
            .id
            .or(record.variables.campaign)
            .or(record.variables.campaign_id)
            .or(record.form_campaign),
        tags: [record.tags, record.form_tags, record.form_tag].concat(),
        bounce,
        automation: kind
            .is_engagement()
            .then(|| automation(record.client.bot.as_deref()))
            .flatten(),
        user_agent: record.client.user_agent.or(record.form_user_agent),
        ip: record.ip.or(record.envelope.sending_ip),
        url: record.url,
        provider_event: record.event.unwrap_or_default(),
        provider_event_id: record.id,
        ..envelope.event(Provider::Mailgun, kind, event_id, occurred_at, raw)
    })
}

impl<'a> Record<'a> {
    fn what(&self) -> What<'_> {
        What {
            event: self.event.as_deref(),
            severity: self.severity.as_deref(),
            reason: self.reason.as_deref(),
            code: self.code.as_deref(),
        }
    }

    fn bounce(&self) -> Bounce<'a> {
        // A message that Mailgun itself rejects may be sent once it is mended.
        let rejected =
            if self.reject.reason.is_some() { Meaning::SOFT } else { Meaning::default() };
        let reason = self.what().suppression().or(self.reason.as_deref());
        let severity = match self.event.as_deref() {
            Some("bounced" | "dropped") => Some("permanent"),
            _ => self.severity.as_deref(),
        };
        let delivery = &self.delivery_status;
        let diagnostic = [
            &delivery.message,
            &delivery.description,
            &self.reject.reason,
            &self.error,
            &self.description,
        ];
        Evidence {
            provider: meaning(bounces::REASONS, reason)
                .or(meaning(bounces::SEVERITIES, severity))
                .or(rejected),
            status: delivery.enhanced_code.clone().or_else(|| delivery.bounce_code.clone()),
            diagnostic: diagnostic.into_iter().find_map(Clone::clone),
            late: self.flags.is_delayed_bounce,
        }
        .judge()
    }

    fn message_id(&self) -> &Option<Text<'a>> {
        let ids = [&self.message.headers.message_id, &self.form_message_id, &self.form_opened_id];
        ids.into_iter().find(|id| id.is_some()).unwrap_or(ids[0])
    }

    /// `id` is unique within a day (UTC). Without one, the event is known by what it says.
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
                bytes(self.message_id()),
                bytes(&self.severity),
                bytes(&self.url),
            ],
        )
    }
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
