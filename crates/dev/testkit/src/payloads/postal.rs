use event::Kind;
use serde_json::{Value, json};

use super::{LINK, client_ip, sender, user_agent, uuid_text};
use crate::MailEvent;
use crate::time_formats::float_seconds;

/// Returns the envelope with one event. Postal reports only hard bounces, no complaints and no
/// subscriptions.
pub fn postal(event: &MailEvent) -> Option<Value> {
    let (name, payload) = name_and_fields(event)?;
    Some(json!({
        "event": name,
        "timestamp": float_seconds(event.occurred_at_micros),
        "payload": payload,
        "uuid": uuid_text(event.id().as_bytes()),
    }))
}

fn name_and_fields(event: &MailEvent) -> Option<(&'static str, Value)> {
    let attempt = |status: &str, output: &str| {
        json!({
            "message": message(event), "status": status, "details": "See the output", "output": output,
            "sent_with_ssl": true, "timestamp": float_seconds(event.occurred_at_micros), "time": 0.89,
        })
    };
    let engagement = |url: Option<&str>| {
        let mut payload = json!({
            "message": message(event), "ip_address": client_ip(event), "user_agent": user_agent(event),
        });
        if let Some(url) = url {
            payload["url"] = url.into();
            payload["token"] = "9n8Xq1".into();
        }
        payload
    };
    Some(match event.kind {
        Kind::Delivered => ("MessageSent", attempt("Sent", "250 2.0.0 OK\n")),
        Kind::Deferred => ("MessageDelayed", attempt("SoftFail", "421 4.7.0 Try again later\n")),
        Kind::Bounced if event.is_hard_bounce() => {
            ("MessageDeliveryFailed", attempt("HardFail", "550 5.1.1 user unknown\n"))
        }
        Kind::Dropped => ("MessageHeld", attempt("Held", "")),
        Kind::Opened => ("MessageLoaded", engagement(None)),
        Kind::Clicked => ("MessageLinkClicked", engagement(Some(LINK))),
        _ => return None,
    })
}

fn message(event: &MailEvent) -> Value {
    json!({
        "id": 1_563, "token": "zw6psSlgo6ki", "direction": "outgoing",
        "message_id": event.message_id, "to": event.recipient, "from": sender(event),
        "subject": "News for you", "timestamp": float_seconds(event.sent_at()),
        "spam_status": "NotChecked", "tag": event.campaign,
    })
}
