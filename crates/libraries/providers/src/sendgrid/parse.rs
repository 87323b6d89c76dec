use std::borrow::Cow;

use event::{Automation, AutomationReason, Delivery, Event, Kind, Provider, Text};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::bounces;
use super::split::kind;
use crate::bounce::{Evidence, Meaning, meaning};
use crate::envelope::bytes;
use crate::json::{self, LenientFlag, LenientText, LenientTexts};
use crate::{Envelope, ParseError, sending, times};

/// The sender's unique arguments are at the same level as SendGrid's fields. If a name is used by
/// both, SendGrid posts its own field.
#[derive(Deserialize)]
struct SendGridEvent<'a> {
    #[serde(borrow)]
    event: LenientText<'a>,
    timestamp: Option<&'a RawValue>,
    sg_event_id: LenientText<'a>,
    sg_message_id: LenientText<'a>,
    #[serde(rename = "smtp-id")]
    smtp_id: LenientText<'a>,
    category: LenientTexts<'a>,
    marketing_campaign_id: LenientText<'a>,
    singlesend_id: LenientText<'a>,
    campaign: LenientText<'a>,
    campaign_id: LenientText<'a>,
    #[serde(rename = "type")]
    bounce_type: LenientText<'a>,
    bounce_classification: LenientText<'a>,
    reason: LenientText<'a>,
    response: LenientText<'a>,
    status: LenientText<'a>,
    sg_machine_open: LenientFlag,
    /// Of the sending server; on opens, clicks and subscriptions, of the reader.
    ip: LenientText<'a>,
    tls: LenientFlag,
    useragent: LenientText<'a>,
    url: LenientText<'a>,
}

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (sendgrid, raw) = json::event::<SendGridEvent<'a>>(raw)?;
    let kind = kind(sendgrid.event.as_deref());
    let occurred_at = envelope.time(kind, times::unix(sendgrid.timestamp))?;
    let event_id = sendgrid.event_id(raw.get(), envelope);
    let late = kind == Kind::Bounced && sendgrid.sg_message_id.is_none();
    let terms = match kind {
        Kind::Bounced => Some(
            meaning(bounces::TYPES, sendgrid.bounce_type.as_deref()).or(sendgrid.classification()),
        ),
        Kind::Deferred => Some(Meaning::SOFT.or(sendgrid.classification())),
        Kind::Dropped => {
            Some(meaning(bounces::DROPS, sendgrid.reason.as_deref()).or(sendgrid.classification()))
        }
        _ => None,
    };
    let response = sendgrid.response.0;
    let delivery = Delivery {
        response: response.clone().filter(|_| kind == Kind::Delivered),
        tls: sendgrid.tls.0,
        ..Delivery::default()
    };
    let (ip, sending_ip) = match kind {
        Kind::Accepted | Kind::Dropped => (None, sendgrid.ip.0),
        kind if kind.is_attempt() => (None, sendgrid.ip.0),
        _ => (sendgrid.ip.0, None),
    };
    let bounce = terms.map(|provider| {
        let diagnostic = sendgrid.reason.0.or(response);
        Evidence { provider, status: sendgrid.status.0, diagnostic, late }.bounce()
    });
    // Apple Mail Privacy Protection fetches the pixel whether or not a person reads the message.
    let is_machine = kind == Kind::Opened && sendgrid.sg_machine_open.is_set();
    Ok(Event {
        message_id: message_id(sendgrid.sg_message_id.0, sendgrid.smtp_id.0),
        campaign: sendgrid
            .marketing_campaign_id
            .0
            .or(sendgrid.singlesend_id.0)
            .or(sendgrid.campaign.0)
            .or(sendgrid.campaign_id.0),
        tags: sendgrid.category.0,
        bounce,
        automation: is_machine
            .then_some(Automation { reason: AutomationReason::AppleMpp, confidence: 1.0 }),
        user_agent: sendgrid.useragent.0,
        ip,
        sending_ip,
        delivery: sending::known(delivery).filter(|_| kind.is_attempt()),
        url: sendgrid.url.0,
        provider_event: sendgrid.event.0.unwrap_or_default(),
        provider_event_id: sendgrid.sg_event_id.0,
        ..envelope.event(Provider::SendGrid, kind, event_id, occurred_at, raw)
    })
}

impl SendGridEvent<'_> {
    fn classification(&self) -> Meaning {
        meaning(bounces::CLASSES, self.bounce_classification.as_deref())
    }

    /// `sg_event_id` is unique. SendGrid left it out of unsubscriptions for years, and two groups may
    /// be left in one second, so an event without it has all its bytes as the key.
    fn event_id(&self, raw: &str, envelope: &Envelope<'_>) -> event::EventId {
        match &self.sg_event_id.0 {
            Some(id) => envelope.event_id(Provider::SendGrid, [id.as_bytes()]),
            None => envelope.event_id(Provider::SendGrid, [bytes(&self.event), raw.as_bytes()]),
        }
    }
}

/// Returns the id that all events of a message share: the part of `sg_message_id` before the name of
/// the server that handled it. The id may contain full stops.
///
/// Asynchronous bounces have only `smtp-id`, the Message-ID. If SendGrid generated it, it is
/// `<id@ismtpd….sendgrid.net>` and `id` is the same text.
fn message_id<'a>(sg_message_id: Option<Text<'a>>, smtp_id: Option<Text<'a>>) -> Option<Text<'a>> {
    /// Parts of the names of SendGrid's servers.
    const SERVERS: [&str; 4] = ["filter", "recvd", "geopod", "ismtpd"];
    fn stem(text: &str) -> &str {
        let is_server = |part: &str| SERVERS.iter().any(|name| part.contains(name));
        let stops = || text.match_indices('.').map(|(stop, _)| stop);
        let next_part = |stop: usize| text[stop + 1..].split('.').next().unwrap_or_default();
        let end = stops().find(|&stop| is_server(next_part(stop))).or_else(|| stops().next());
        end.map_or(text, |end| &text[..end])
    }
    fn stem_of_generated(text: &str) -> &str {
        let bare = text.trim_start_matches('<').trim_end_matches('>');
        match bare.split_once('@') {
            Some((id, host)) if host.contains("ismtpd") => id,
            _ => bare,
        }
    }
    let (text, cut): (Text<'a>, fn(&str) -> &str) = match (sg_message_id, smtp_id) {
        (Some(text), _) => (text, stem),
        (None, Some(text)) => (text, stem_of_generated),
        (None, None) => return None,
    };
    match text.0 {
        Cow::Borrowed(text) => Text::from(cut(text)),
        Cow::Owned(text) => Text::from(cut(&text).to_owned()),
    }
    .non_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_bounce_has_the_id_of_its_message() {
        fn id(sg: Option<&str>, smtp: Option<&str>) -> Option<Text<'static>> {
            message_id(sg.map(Text::from), smtp.map(Text::from)).map(Text::into_owned)
        }
        let delivered =
            id(Some("LRzXl_N.recvd-5f-x.0"), Some("<LRzXl_N@ismtpd0039p1.sendgrid.net>"));
        let late = id(None, Some("<LRzXl_N@ismtpd0039p1.sendgrid.net>"));
        assert_eq!(delivered.as_deref(), Some("LRzXl_N"));
        assert_eq!(delivered, late);
        for server in
            ["filter0001.16648.5515E0B88.0", "filterdrecv-p3-7b45b-18-5F5F-9.0", "recvd-8f-1"]
        {
            let dotted = id(Some(&format!("14c5d7.dfd.64b4.{server}")), None);
            let late = id(None, Some("<14c5d7.dfd.64b4@ismtpd-555>"));
            assert_eq!((dotted.as_deref(), &late), (Some("14c5d7.dfd.64b4"), &dotted), "{server}");
        }
        assert_eq!(id(Some("LRzXl_N.elsewhere-1.0"), None).as_deref(), Some("LRzXl_N"));
        let own = id(None, Some("<2026.11.7@mail.example.com>"));
        assert_eq!(own.as_deref(), Some("2026.11.7@mail.example.com"));
        assert_eq!(id(None, Some("<>")), None);
        assert_eq!(id(None, None), None);
    }
}
