use event::Kind;
use serde_json::{Value, json};

use super::{LINK, client_ip, sender, user_agent};
use crate::MailEvent;
use crate::time_formats::iso_millis;

/// Returns the body with one activity. MailerSend does not report deferred or dropped messages and
/// subscriptions. `other` is an answered survey.
pub fn mailersend(event: &MailEvent) -> Option<Value> {
    let (name, status, morph) = name_and_fields(event)?;
    let (at, sent_at) = (iso_millis(event.occurred_at_micros), iso_millis(event.sent_at()));
    let email = json!({
        "object": "email", "id": event.message_id, "created_at": sent_at, "from": sender(event),
        "subject": "News for you", "status": status, "tags": [event.campaign], "headers": null,
        "message": {"object": "message", "id": event.message_id, "created_at": sent_at},
        "recipient": {
            "object": "recipient", "id": "62c69be104270ee9c0000001", "email": event.recipient,
            "created_at": at,
        },
    });
    Some(json!({
        "type": format!("activity.{name}"),
        "domain_id": "7z3m5jgrogdpyo6n",
        "created_at": at,
        "webhook_id": "2351ndgwr4zqx8ko",
        "url": "https://hooks.example.com/webhooks/mailersend",
        "data": {
            "object": "activity", "id": &hex::encode(event.id().as_bytes())[..24], "type": name,
            "created_at": at, "email": email, "morph": morph, "template_id": "0z76k5jg0o3yeg2d",
        },
    }))
}

fn name_and_fields(event: &MailEvent) -> Option<(&'static str, &'static str, Value)> {
    let bounce = |reason: &str| json!({"object": "recipient_bounce", "reason": reason});
    Some(match event.kind {
        Kind::Accepted => ("sent", "sent", Value::Null),
        Kind::Delivered => ("delivered", "delivered", Value::Null),
        Kind::Bounced if event.is_hard_bounce() => {
            ("hard_bounced", "rejected", bounce("550 5.1.1 user unknown"))
        }
        Kind::Bounced => ("soft_bounced", "rejected", bounce("452 4.2.2 mailbox full")),
        Kind::Opened => ("opened", "delivered", json!({"object": "open", "ip": client_ip(event)})),
        Kind::Clicked => (
            "clicked",
            "delivered",
            json!({
                "object": "click", "ip": client_ip(event), "url": LINK,
                "user_agent": user_agent(event),
            }),
        ),
        Kind::Complained => {
            ("spam_complaint", "delivered", json!({"object": "spam_complaint", "reason": null}))
        }
        Kind::Unsubscribed => (
            "unsubscribed",
            "delivered",
            json!({
                "object": "recipient_unsubscribe", "reason": "NO_LONGER_WANT",
                "readable_reason": "I no longer want to receive these emails",
            }),
        ),
        Kind::Verified => return None,
        Kind::Other => ("survey_submitted", "delivered", Value::Null),
        Kind::Deferred | Kind::Dropped | Kind::Subscribed => return None,
    })
}
