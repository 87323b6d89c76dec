use event::Kind;
use serde_json::{Value, json};

use super::{LINK, client_ip, sender, user_agent, uuid_text};
use crate::Fact;
use crate::clock::float_seconds;

/// Postal's envelope: one event. Every refusal it reports is final, and it knows nothing of
/// complaints and subscriptions.
pub fn postal(fact: &Fact) -> Option<Value> {
    let (name, payload) = words(fact)?;
    Some(json!({
        "event": name,
        "timestamp": float_seconds(fact.occurred_at_micros),
        "payload": payload,
        "uuid": uuid_text(fact.id().as_bytes()),
    }))
}

fn words(fact: &Fact) -> Option<(&'static str, Value)> {
    let tried = |status: &str, output: &str| {
        json!({
            "message": message(fact), "status": status, "details": "See the output", "output": output,
            "sent_with_ssl": true, "timestamp": float_seconds(fact.occurred_at_micros), "time": 0.89,
        })
    };
    let read = |url: Option<&str>| {
        let mut payload = json!({
            "message": message(fact), "ip_address": client_ip(fact), "user_agent": user_agent(fact),
        });
        if let Some(url) = url {
            payload["url"] = url.into();
            payload["token"] = "9n8Xq1".into();
        }
        payload
    };
    Some(match fact.kind {
        Kind::Delivered => ("MessageSent", tried("Sent", "250 2.0.0 OK\n")),
        Kind::Deferred => ("MessageDelayed", tried("SoftFail", "421 4.7.0 Try again later\n")),
        Kind::Bounced if fact.is_hard_bounce() => {
            ("MessageDeliveryFailed", tried("HardFail", "550 5.1.1 user unknown\n"))
        }
        Kind::Dropped => ("MessageHeld", tried("Held", "")),
        Kind::Opened => ("MessageLoaded", read(None)),
        Kind::Clicked => ("MessageLinkClicked", read(Some(LINK))),
        _ => return None,
    })
}

fn message(fact: &Fact) -> Value {
    json!({
        "id": 1_563, "token": "zw6psSlgo6ki", "direction": "outgoing",
        "message_id": fact.message_id, "to": fact.recipient, "from": sender(fact),
        "subject": "News for you", "timestamp": float_seconds(fact.occurred_at_micros),
        "spam_status": "NotChecked", "tag": fact.campaign,
    })
}
