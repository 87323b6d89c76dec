use event::{Kind, domain_of};
use serde_json::{Value, json};

use super::{LINK, client_ip, extend, sender, user_agent};
use crate::Fact;
use crate::clock::float_seconds;

/// Mailgun's `event-data`. It has no event for a subscription, nor for a soft bounce: it goes on
/// trying (`failed`/`temporary`, a deferral) until it gives up for good. `other` is `stored`.
pub fn mailgun(fact: &Fact) -> Option<Value> {
    let (name, level, more) = words(fact)?;
    let mut event = json!({
        "event": name,
        "id": &hex::encode(fact.id().as_bytes())[..22],
        "timestamp": float_seconds(fact.occurred_at_micros),
        "log-level": level,
        "recipient": fact.recipient,
        "recipient-domain": domain_of(&fact.recipient),
        "tags": [fact.campaign],
        "campaigns": [],
        "user-variables": {"campaign": fact.campaign},
        "message": {
            "headers": {
                "message-id": fact.message_id,
                "to": fact.recipient,
                "from": sender(fact),
                "subject": "News for you",
            },
            "attachments": [],
            "size": 2048,
        },
    });
    extend(&mut event, more);
    Some(event)
}

fn words(fact: &Fact) -> Option<(&'static str, &'static str, Value)> {
    let reader = json!({
        "ip": client_ip(fact),
        "geolocation": {"country": "DE", "region": "Hamburg", "city": "Hamburg"},
        "client-info": {
            "client-type": "browser", "client-os": "unknown", "device-type": "desktop",
            "client-name": "unknown", "user-agent": user_agent(fact),
            "bot": if fact.machine { "apple" } else { "" },
        },
    });
    Some(match fact.kind {
        Kind::Accepted => ("accepted", "info", json!({"method": "http", "delivery-status": null})),
        Kind::Delivered => (
            "delivered",
            "info",
            json!({"delivery-status": {
                "code": 250, "message": "OK", "description": "", "attempt-no": 1, "tls": true,
                "mx-host": "mx.example.com", "session-seconds": 0.4367, "utf8": true,
                "certificate-verified": true,
            }}),
        ),
        Kind::Bounced if !fact.is_hard_bounce() => return None,
        Kind::Deferred => ("failed", "warn", temporary()),
        Kind::Bounced => ("failed", "error", permanent()),
        Kind::Dropped => ("failed", "error", suppressed()),
        Kind::Opened => ("opened", "info", reader),
        Kind::Clicked => {
            let mut click = reader;
            click["url"] = LINK.into();
            ("clicked", "info", click)
        }
        Kind::Complained => ("complained", "warn", json!({"flags": {"is-test-mode": false}})),
        Kind::Unsubscribed => ("unsubscribed", "warn", reader),
        Kind::Subscribed => return None,
        Kind::Other => ("stored", "info", json!({"flags": {"is-test-mode": false}})),
    })
}

fn temporary() -> Value {
    json!({
        "severity": "temporary", "reason": "generic", "delivery-status": {
            "code": 451, "enhanced-code": "4.7.1", "message": "4.7.1 Greylisted, try later",
            "description": "", "attempt-no": 1, "retry-seconds": 600, "session-seconds": 0.7,
        },
    })
}

fn permanent() -> Value {
    json!({
        "severity": "permanent", "reason": "bounce", "delivery-status": {
            "code": 550, "bounce-code": "5.1.1", "enhanced-code": "5.1.1",
            "message": "5.1.1 The email account that you tried to reach does not exist.",
            "description": "", "attempt-no": 1, "session-seconds": 0.2,
        },
    })
}

/// Never tried: the address bounced before. Mailgun's own code 605, not SMTP.
fn suppressed() -> Value {
    json!({
        "severity": "permanent", "reason": "suppress-bounce", "delivery-status": {
            "code": 605, "message": "", "attempt-no": 1, "session-seconds": 0.0,
            "description": "Not delivering to previously bounced address",
        },
    })
}
