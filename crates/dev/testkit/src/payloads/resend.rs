use event::Kind;
use serde_json::{Value, json};

use super::{LINK, client_ip, extend, sender, user_agent};
use crate::MailEvent;
use crate::time_formats::iso_millis;

/// Returns the body with one event. Resend does not report subscriptions and unsubscriptions.
/// `other` is a message that is scheduled for later.
pub fn resend(event: &MailEvent) -> Option<Value> {
    let at = iso_millis(event.occurred_at_micros);
    let (name, more) = name_and_fields(event, &at)?;
    let mut data = json!({
        "email_id": event.message_id,
        "created_at": iso_millis(event.sent_at()),
        "from": format!("News <{}>", sender(event)),
        "to": [event.recipient],
        "subject": "News for you",
        "tags": {"campaign": event.campaign},
    });
    extend(&mut data, more);
    Some(json!({"type": name, "created_at": at, "data": data}))
}

fn name_and_fields(event: &MailEvent, at: &str) -> Option<(&'static str, Value)> {
    Some(match event.kind {
        Kind::Accepted => ("email.sent", json!({})),
        Kind::Delivered => ("email.delivered", json!({})),
        Kind::Deferred => ("email.delivery_delayed", json!({})),
        Kind::Bounced => ("email.bounced", json!({"bounce": bounce(event)})),
        Kind::Dropped => ("email.failed", json!({"failed": {"reason": "reached_daily_quota"}})),
        Kind::Opened => ("email.opened", json!({})),
        Kind::Clicked => (
            "email.clicked",
            json!({"click": {
                "ipAddress": client_ip(event), "link": LINK, "timestamp": at,
                "userAgent": user_agent(event),
            }}),
        ),
        Kind::Complained => ("email.complained", json!({})),
        Kind::Unsubscribed | Kind::Subscribed => return None,
        Kind::Verified => return None,
        Kind::Other => ("email.scheduled", json!({})),
    })
}

fn bounce(event: &MailEvent) -> Value {
    if event.is_hard_bounce() {
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
