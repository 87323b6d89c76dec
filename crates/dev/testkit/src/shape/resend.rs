use event::Kind;
use serde_json::{Value, json};

use super::{LINK, client_ip, extend, sender, user_agent};
use crate::Fact;
use crate::clock::iso_millis;

/// Resend's body: one event. It has none for people who leave or come; `other` is a message put
/// by for later.
pub fn resend(fact: &Fact) -> Option<Value> {
    let at = iso_millis(fact.occurred_at_micros);
    let (name, more) = words(fact, &at)?;
    let mut data = json!({
        "email_id": fact.message_id,
        "created_at": at,
        "from": format!("News <{}>", sender(fact)),
        "to": [fact.recipient],
        "subject": "News for you",
        "tags": {"campaign": fact.campaign},
    });
    extend(&mut data, more);
    Some(json!({"type": name, "created_at": at, "data": data}))
}

fn words(fact: &Fact, at: &str) -> Option<(&'static str, Value)> {
    Some(match fact.kind {
        Kind::Accepted => ("email.sent", json!({})),
        Kind::Delivered => ("email.delivered", json!({})),
        Kind::Deferred => ("email.delivery_delayed", json!({})),
        Kind::Bounced => ("email.bounced", json!({"bounce": bounce(fact)})),
        Kind::Dropped => ("email.failed", json!({"failed": {"reason": "reached_daily_quota"}})),
        Kind::Opened => ("email.opened", json!({})),
        Kind::Clicked => (
            "email.clicked",
            json!({"click": {
                "ipAddress": client_ip(fact), "link": LINK, "timestamp": at,
                "userAgent": user_agent(fact),
            }}),
        ),
        Kind::Complained => ("email.complained", json!({})),
        Kind::Unsubscribed | Kind::Subscribed => return None,
        Kind::Other => ("email.scheduled", json!({})),
    })
}

fn bounce(fact: &Fact) -> Value {
    if fact.is_hard_bounce() {
        json!({
            "type": "Permanent", "subType": "General", "message": "The address does not exist.",
            "diagnosticCode": ["smtp; 550 5.1.1 user unknown"],
        })
    } else {
        json!({
            "type": "Transient", "subType": "MailboxFull", "message": "The mailbox is full.",
            "diagnosticCode": ["smtp; 452 4.2.2 mailbox full"],
        })
    }
}
