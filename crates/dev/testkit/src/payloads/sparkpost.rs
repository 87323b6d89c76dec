use event::Kind;
use serde_json::{Value, json};

use super::{LINK, MX_IP, SENDING_IP, client_ip, extend, sender, user_agent};
use crate::MailEvent;
use crate::time_formats::seconds;

/// Returns an element of the array. Nearly every scalar is a string. SparkPost does not report
/// subscriptions. `other` is an inbound message.
pub fn sparkpost(event: &MailEvent) -> Option<Value> {
    let (class, name, more) = name_and_fields(event)?;
    let mut payload = json!({
        "type": name,
        "event_id": event.number().to_string(),
        "timestamp": seconds(event.occurred_at_micros).to_string(),
        "rcpt_to": event.recipient,
        "raw_rcpt_to": event.recipient,
        "message_id": event.message_id,
        "transmission_id": "65832150921904138",
        "customer_id": "1",
        "subaccount_id": "101",
        "campaign_id": event.campaign,
        "template_id": "news",
        "template_version": "1",
        "friendly_from": sender(event),
        "rcpt_meta": {"campaign": event.campaign},
        "rcpt_tags": [event.campaign, "newsletter"],
    });
    extend(&mut payload, more);
    Some(json!({"msys": {class: payload}}))
}

fn name_and_fields(event: &MailEvent) -> Option<(&'static str, &'static str, Value)> {
    const MESSAGE: &str = "message_event";
    const TRACK: &str = "track_event";
    let reader = json!({
        "ip_address": client_ip(event), "user_agent": user_agent(event), "delv_method": "esmtp",
        "user_agent_parsed": {"agent_family": "", "is_prefetched": event.machine},
        "geo_ip": {"country": "DE", "region": "HH", "city": "Hamburg"},
    });
    // In milliseconds. SparkPost does not report the time of injection itself.
    let queue_time = ((event.occurred_at_micros - event.sent_at()) / 1_000).to_string();
    let failure = |class: &str, code: &str, text: &str| {
        json!({
            "bounce_class": class, "error_code": code, "raw_reason": text, "reason": text,
            "num_retries": "0", "delv_method": "esmtp", "ip_address": MX_IP,
            "queue_time": queue_time, "sending_ip": SENDING_IP,
        })
    };
    Some(match event.kind {
        Kind::Accepted => (
            MESSAGE,
            "injection",
            json!({"msg_size": "2048", "rcpt_type": "to", "sending_ip": SENDING_IP}),
        ),
        Kind::Delivered => (
            MESSAGE,
            "delivery",
            json!({
                "queue_time": queue_time, "num_retries": "0", "ip_address": MX_IP,
                "sending_ip": SENDING_IP,
            }),
        ),
        Kind::Deferred => (MESSAGE, "delay", failure("20", "421", "421 4.7.0 Try again later")),
        Kind::Bounced if event.is_hard_bounce() => {
            (MESSAGE, "bounce", failure("10", "550", "550 5.1.1 user unknown"))
        }
        Kind::Bounced => (MESSAGE, "bounce", failure("22", "452", "452 4.2.2 mailbox full")),
        Kind::Dropped => (
            MESSAGE,
            "policy_rejection",
            json!({"error_code": "550", "raw_reason": "550 5.7.1 recipient is suppressed"}),
        ),
        Kind::Opened => (TRACK, "open", reader),
        Kind::Clicked => {
            let mut click = reader;
            extend(&mut click, json!({"target_link_url": LINK, "target_link_name": "offer"}));
            (TRACK, "click", click)
        }
        Kind::Complained => {
            (MESSAGE, "spam_complaint", json!({"fbtype": "abuse", "report_by": "mail.example"}))
        }
        Kind::Unsubscribed => {
            ("unsubscribe_event", "list_unsubscribe", json!({"mailfrom": sender(event)}))
        }
        Kind::Subscribed => return None,
        Kind::Verified => return None,
        Kind::Other => ("relay_event", "relay_injection", json!({"relay_id": "1"})),
    })
}
