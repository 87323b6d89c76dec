use event::Kind;
use serde_json::{Value, json};

use super::{LINK, client_ip, extend, sender, user_agent};
use crate::Fact;
use crate::clock::seconds;

/// One element of SparkPost's array: nearly every scalar is a string. It has no event for a
/// subscription; `other` is mail that it received for us.
pub fn sparkpost(fact: &Fact) -> Option<Value> {
    let (class, name, more) = words(fact)?;
    let mut event = json!({
        "type": name,
        "event_id": fact.number().to_string(),
        "timestamp": seconds(fact.occurred_at_micros).to_string(),
        "rcpt_to": fact.recipient,
        "raw_rcpt_to": fact.recipient,
        "message_id": fact.message_id,
        "transmission_id": "65832150921904138",
        "customer_id": "1",
        "subaccount_id": "101",
        "campaign_id": fact.campaign,
        "template_id": "news",
        "template_version": "1",
        "friendly_from": sender(fact),
        "rcpt_meta": {"campaign": fact.campaign},
        "rcpt_tags": [fact.campaign, "newsletter"],
    });
    extend(&mut event, more);
    Some(json!({"msys": {class: event}}))
}

fn words(fact: &Fact) -> Option<(&'static str, &'static str, Value)> {
    const MESSAGE: &str = "message_event";
    const TRACK: &str = "track_event";
    let reader = json!({
        "ip_address": client_ip(fact), "user_agent": user_agent(fact), "delv_method": "esmtp",
        "user_agent_parsed": {"agent_family": "", "is_prefetched": fact.machine},
        "geo_ip": {"country": "DE", "region": "HH", "city": "Hamburg"},
    });
    let refused = |class: &str, code: &str, text: &str| {
        json!({
            "bounce_class": class, "error_code": code, "raw_reason": text, "reason": text,
            "num_retries": "0", "delv_method": "esmtp", "ip_address": "192.0.2.25",
        })
    };
    Some(match fact.kind {
        Kind::Accepted => (MESSAGE, "injection", json!({"msg_size": "2048", "rcpt_type": "to"})),
        Kind::Delivered => (MESSAGE, "delivery", json!({"queue_time": "1180", "num_retries": "0"})),
        Kind::Deferred => (MESSAGE, "delay", refused("20", "421", "421 4.7.0 Try again later")),
        Kind::Bounced if fact.is_hard_bounce() => {
            (MESSAGE, "bounce", refused("10", "550", "550 5.1.1 user unknown"))
        }
        Kind::Bounced => (MESSAGE, "bounce", refused("22", "452", "452 4.2.2 mailbox full")),
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
            ("unsubscribe_event", "list_unsubscribe", json!({"mailfrom": sender(fact)}))
        }
        Kind::Subscribed => return None,
        Kind::Other => ("relay_event", "relay_injection", json!({"relay_id": "1"})),
    })
}
