use event::{Kind, domain_of};
use serde_json::{Value, json};

use super::{LINK, SENDING_IP, client_ip, extend, sender, user_agent};
use crate::MailEvent;
use crate::time_formats::float_seconds;

/// Returns `event-data`. Mailgun does not report subscriptions. It does not report soft bounces
/// either, because it retries (`failed`/`temporary`, a deferral) until the failure is permanent.
/// `other` is `stored`.
pub fn mailgun(event: &MailEvent) -> Option<Value> {
    let (name, level, more) = name_and_fields(event)?;
    let mut payload = json!({
        "event": name,
        "id": &hex::encode(event.id().as_bytes())[..22],
        "timestamp": float_seconds(event.occurred_at_micros),
        "log-level": level,
        "recipient": event.recipient,
        "recipient-domain": domain_of(&event.recipient),
        "tags": [event.campaign],
        "campaigns": [],
        "user-variables": {"campaign": event.campaign},
        "message": {
            "headers": {
                "message-id": event.message_id,
                "to": event.recipient,
                "from": sender(event),
                "subject": "News for you",
            },
            "attachments": [],
            "size": 2048,
        },
    });
    if has_envelope(event.kind) {
        payload["envelope"] = envelope(event);
    }
    extend(&mut payload, more);
    Some(payload)
}

fn name_and_fields(event: &MailEvent) -> Option<(&'static str, &'static str, Value)> {
    let reader = json!({
        "ip": client_ip(event),
        "geolocation": {"country": "DE", "region": "Hamburg", "city": "Hamburg"},
        "client-info": {
            "client-type": "browser", "client-os": "unknown", "device-type": "desktop",
            "client-name": "unknown", "user-agent": user_agent(event),
            "bot": if event.machine { "apple" } else { "" },
        },
    });
    Some(match event.kind {
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
        Kind::Bounced if !event.is_hard_bounce() => return None,
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
        Kind::Verified => return None,
        Kind::Other => ("stored", "info", json!({"flags": {"is-test-mode": false}})),
    })
}

/// Opens, clicks and what follows them have no envelope.
fn has_envelope(kind: Kind) -> bool {
    kind == Kind::Accepted || kind.is_attempt()
}

fn envelope(event: &MailEvent) -> Value {
    let mut envelope =
        json!({"sender": sender(event), "transport": "smtp", "targets": event.recipient});
    if event.kind.is_attempt() {
        envelope["sending-ip"] = SENDING_IP.into();
    }
    envelope
}

fn temporary() -> Value {
    json!({
        "severity": "temporary", "reason": "generic", "delivery-status": {
            "code": 421, "enhanced-code": "4.7.0", "message": "4.7.0 Try again later",
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

/// Mailgun did not try to deliver, because the address bounced before. 605 is its own code, not
/// SMTP.
fn suppressed() -> Value {
    json!({
        "severity": "permanent", "reason": "suppress-bounce", "delivery-status": {
            "code": 605, "message": "", "attempt-no": 1, "session-seconds": 0.0,
            "description": "Not delivering to previously bounced address",
        },
    })
}
