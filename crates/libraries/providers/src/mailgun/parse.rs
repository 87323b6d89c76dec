use event::{
    Automation, AutomationReason, Bounce, Delivery, Event, Kind, OccurredAt, Provider, Text,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::bounces;
use super::split::Terms;
use crate::bounce::{Evidence, Meaning, meaning};
use crate::envelope::bytes;
use crate::json::{
    self, LastText, LenientFlag, LenientObject, LenientObjects, LenientText, LenientTexts,
};
use crate::place::Place;
use crate::{Envelope, ParseError, sending, times};

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The value of `event-data`, or the fields of a form, which have different names. In a form, the
/// sender's own variables have the same level; of a name that occurs twice, the last is Mailgun's.
#[derive(Deserialize)]
struct MailgunEvent<'a> {
    #[serde(borrow)]
    event: LastText<'a>,
    id: LenientText<'a>,
    timestamp: Option<&'a RawValue>,
    /// Only in JSON.
    #[serde(rename = "log-level")]
    log_level: LenientText<'a>,
    severity: LenientText<'a>,
    reason: LastText<'a>,
    reject: LenientObject<Reject<'a>>,
    message: LenientObject<Message<'a>>,
    #[serde(rename = "delivery-status")]
    delivery_status: LenientObject<DeliveryStatus<'a>>,
    flags: LenientObject<Flags>,
    envelope: LenientObject<Sending<'a>>,
    tags: LenientTexts<'a>,
    campaigns: LenientObjects<Campaign<'a>>,
    #[serde(rename = "user-variables")]
    variables: LenientObject<Variables<'a>>,
    #[serde(rename = "client-info")]
    client: LenientObject<Client<'a>>,
    geolocation: LenientObject<Location<'a>>,
    ip: LastText<'a>,
    url: LastText<'a>,
    // The following fields are only in forms.
    #[serde(rename = "Message-Id")]
    form_message_id: LastText<'a>,
    #[serde(rename = "message-id")]
    form_opened_id: LastText<'a>,
    #[serde(rename = "X-Mailgun-Tag")]
    form_tags: LenientTexts<'a>,
    #[serde(rename = "tag")]
    form_tag: LenientTexts<'a>,
    #[serde(rename = "campaign-id")]
    form_campaign: LastText<'a>,
    #[serde(rename = "user-agent")]
    form_user_agent: LastText<'a>,
    code: LastText<'a>,
    error: LastText<'a>,
    description: LastText<'a>,
}

#[derive(Default, Deserialize)]
struct Reject<'a> {
    #[serde(borrow)]
    reason: LenientText<'a>,
}

#[derive(Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    headers: LenientObject<Headers<'a>>,
}

#[derive(Default, Deserialize)]
struct Headers<'a> {
    #[serde(borrow, rename = "message-id")]
    message_id: LenientText<'a>,
    from: LenientText<'a>,
}

#[derive(Default, Deserialize)]
struct DeliveryStatus<'a> {
    #[serde(borrow, rename = "enhanced-code")]
    enhanced_code: LenientText<'a>,
    #[serde(rename = "bounce-code")]
    bounce_code: LenientText<'a>,
    message: LenientText<'a>,
    description: LenientText<'a>,
    #[serde(rename = "mx-host")]
    mx_host: LenientText<'a>,
    tls: LenientFlag,
    #[serde(rename = "session-seconds")]
    session_seconds: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Location<'a> {
    #[serde(borrow)]
    country: LenientText<'a>,
    region: LenientText<'a>,
    city: LenientText<'a>,
}

#[derive(Default, Deserialize)]
struct Flags {
    #[serde(rename = "is-delayed-bounce")]
    is_delayed_bounce: LenientFlag,
}

#[derive(Default, Deserialize)]
struct Sending<'a> {
    #[serde(borrow, rename = "sending-ip")]
    sending_ip: LenientText<'a>,
    /// The address that bounces return to.
    sender: LenientText<'a>,
}

#[derive(Default, Deserialize)]
struct Campaign<'a> {
    #[serde(borrow)]
    id: LenientText<'a>,
}

#[derive(Default, Deserialize)]
struct Variables<'a> {
    #[serde(borrow)]
    campaign: LenientText<'a>,
    campaign_id: LenientText<'a>,
}

#[derive(Default, Deserialize)]
struct Client<'a> {
    #[serde(borrow, rename = "user-agent")]
    user_agent: LenientText<'a>,
    /// The name of the machine; empty for a person.
    bot: LenientText<'a>,
}

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (mut mailgun, raw) = json::event::<MailgunEvent<'a>>(raw)?;
    let kind = mailgun.terms().kind();
    if mailgun.is_form() {
        mailgun.drop_variables(kind);
    }
    let time = mailgun.time();
    let event_id = mailgun.event_id(raw.get(), envelope, time.as_ref().ok());
    let occurred_at = envelope.time(kind, time)?;
    let is_refused = matches!(kind, Kind::Deferred | Kind::Bounced | Kind::Dropped);
    let bounce = is_refused.then(|| mailgun.bounce());
    let message_id = mailgun.message_id().clone();
    let campaign = mailgun.campaigns.0.into_iter().next().unwrap_or_default();
    let (variables, client, sending) = (mailgun.variables.0, mailgun.client.0, mailgun.envelope.0);
    let status = mailgun.delivery_status.0;
    let delivery = Delivery {
        server: status.mx_host.0,
        response: status.message.0.filter(|_| kind == Kind::Delivered),
        tls: status.tls.0,
        millis: sending::millis_of_seconds(status.session_seconds),
    };
    let Location { country, region, city } = mailgun.geolocation.0;
    let place = Place { country: country.0, region: region.0, city: city.0 };
    Ok(Event {
        message_id: message_id.and_then(without_brackets),
        campaign: campaign
            .id
            .0
            .or(variables.campaign.0)
            .or(variables.campaign_id.0)
            .or(mailgun.form_campaign.0),
        tags: [mailgun.tags.0, mailgun.form_tags.0, mailgun.form_tag.0].concat(),
        bounce,
        automation: kind.is_engagement().then(|| automation(client.bot.as_deref())).flatten(),
        user_agent: client.user_agent.0.or(mailgun.form_user_agent.0),
        ip: mailgun.ip.0,
        sending_ip: sending.sending_ip.0,
        // Mailgun's own domain may be in the envelope, while the sender's is in the header.
        sender: sending::sender(mailgun.message.0.headers.0.from.0)
            .or_else(|| sending::sender(sending.sender.0)),
        delivery: sending::known(delivery).filter(|_| kind.is_attempt()),
        geo: place.geo().filter(|_| kind.is_engagement()),
        url: mailgun.url.0,
        provider_event: mailgun.event.0.unwrap_or_default(),
        provider_event_id: mailgun.id.0,
        ..envelope.event(Provider::Mailgun, kind, event_id, occurred_at, raw)
    })
}

impl<'a> MailgunEvent<'a> {
    /// True if these are the fields of a form: all of them are texts. In JSON, the time is a number,
    /// and the message an object.
    fn is_form(&self) -> bool {
        let is_text = |written: &RawValue| written.get().starts_with(['"', '[']);
        self.timestamp.is_some_and(is_text)
            && self.log_level.is_none()
            && self.message.headers.message_id.is_none()
    }

    /// Drops the variables of the sender that have the name of a field which a form of this kind does
    /// not have. An `id`, for one, is the same in all events of a message.
    fn drop_variables(&mut self, kind: Kind) {
        self.id.0 = None;
        self.severity.0 = None;
        if !kind.is_engagement() && kind != Kind::Unsubscribed {
            (self.ip.0, self.url.0, self.form_user_agent.0) = (None, None, None);
        }
    }

    fn time(&self) -> Result<OccurredAt, ParseError> {
        let written = self.timestamp.map_or("", RawValue::get);
        if written.starts_with('[') {
            let last: LastText<'_> = serde_json::from_str(written).unwrap_or_default();
            return times::text(last.as_deref());
        }
        times::any(self.timestamp)
    }

    fn terms(&self) -> Terms<'_> {
        Terms {
            event: self.event.as_deref(),
            severity: self.severity.as_deref(),
            reason: self.reason.as_deref(),
            code: self.code.as_deref(),
        }
    }

    fn bounce(&self) -> Bounce<'a> {
        // Mailgun accepts a message that it rejected once the sender has corrected it.
        let rejected =
            if self.reject.reason.is_some() { Meaning::SOFT } else { Meaning::default() };
        let reason = self.terms().suppression().or(self.reason.as_deref());
        let severity = match self.event.as_deref() {
            Some("bounced" | "dropped") => Some("permanent"),
            _ => self.severity.as_deref(),
        };
        let delivery = &self.delivery_status;
        let diagnostic: [&Option<_>; 5] = [
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
            status: delivery.enhanced_code.0.clone().or_else(|| delivery.bounce_code.0.clone()),
            diagnostic: diagnostic.into_iter().find_map(Clone::clone),
            late: self.flags.is_delayed_bounce.is_set(),
        }
        .bounce()
    }

    fn message_id(&self) -> &Option<Text<'a>> {
        let ids: [&Option<_>; 3] =
            [&self.message.headers.message_id, &self.form_message_id, &self.form_opened_id];
        ids.into_iter().find(|id| id.is_some()).unwrap_or(ids[0])
    }

    /// `id` is unique within a day (UTC), so the key is the id and the day. An event without an id has
    /// all its bytes as the key.
    fn event_id(
        &self,
        raw: &str,
        envelope: &Envelope<'_>,
        time: Option<&OccurredAt>,
    ) -> event::EventId {
        if self.id.is_none() {
            return envelope.event_id(Provider::Mailgun, [bytes(&self.event), raw.as_bytes()]);
        }
        let day = time.map(|at| at.micros().div_euclid(MICROS_PER_DAY).to_le_bytes());
        let day = day.as_ref().map_or(&[][..], |day| day);
        envelope.event_id(Provider::Mailgun, [day, bytes(&self.id)])
    }
}

/// Reads `client-info.bot`. The documented values are `apple`, `gmail` and `generic`.
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
