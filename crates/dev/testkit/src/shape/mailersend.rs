use event::Kind;
use serde_json::{Value, json};

use super::{LINK, client_ip, sender, user_agent};
use crate::Fact;
use crate::clock::iso_millis;

/// MailerSend's body: one activity. It says nothing of what it put off or did not try, nor of
/// subscriptions; `other` is an answered survey.
pub fn mailersend(fact: &Fact) -> Option<Value> {
    let (name, status, morph) = words(fact)?;
    let at = iso_millis(fact.occurred_at_micros);
    let email = json!({
        "object": "email", "id": fact.message_id, "created_at": at, "from": sender(fact),
        "subject": "News for you", "status": status, "tags": [fact.campaign], "headers": null,
        "message": {"object": "message", "id": fact.message_id, "created_at": at},
        "recipient": {
            "object": "recipient", "id": "62c69be104270ee9c0000001", "email": fact.recipient,
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
            "object": "activity", "id": &hex::encode(fact.id().as_bytes())[..24], "type": name,
            "created_at": at, "email": email, "morph": morph, "template_id": "0z76k5jg0o3yeg2d",
        },
    }))
}

fn words(fact: &Fact) -> Option<(&'static str, &'static str, Value)> {
    let bounce = |reason: &str| json!({"object": "recipient_bounce", "reason": reason});
    Some(match fact.kind {
        Kind::Accepted => ("sent", "sent", Value::Null),
        Kind::Delivered => ("delivered", "delivered", Value::Null),
        Kind::Bounced if fact.is_hard_bounce() => {
            ("hard_bounced", "rejected", bounce("550 5.1.1 user unknown"))
        }
        Kind::Bounced => ("soft_bounced", "rejected", bounce("452 4.2.2 mailbox full")),
        Kind::Opened => ("opened", "delivered", json!({"object": "open", "ip": client_ip(fact)})),
        Kind::Clicked => (
            "clicked",
            "delivered",
            json!({
                "object": "click", "ip": client_ip(fact), "url": LINK,
                "user_agent": user_agent(fact),
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
        Kind::Other => ("survey_submitted", "delivered", Value::Null),
        Kind::Deferred | Kind::Dropped | Kind::Subscribed => return None,
    })
}
