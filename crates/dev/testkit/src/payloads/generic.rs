use event::Kind;
use serde_json::{Value, json};

use super::{LINK, MX_IP, SENDING_IP, client_ip, extend, sender, user_agent};
use crate::MailEvent;
use crate::time_formats::iso_millis;

/// Returns Mailpulse's generic JSON. Kinds have their canonical names, and `other` an unknown one.
pub fn generic(event: &MailEvent) -> Option<Value> {
    let name = if event.kind == Kind::Other { "teleported" } else { event.kind.as_str() };
    let mut payload = json!({
        "id": event.id(),
        "event": name,
        "recipient": event.recipient,
        "timestamp": iso_millis(event.occurred_at_micros),
        "message_id": event.message_id,
        "campaign": event.campaign,
        "tags": ["newsletter"],
        "sender": format!("News <{}>", sender(event)),
        "sent_at": iso_millis(event.sent_at()),
    });
    extend(&mut payload, details(event));
    Some(payload)
}

fn details(event: &MailEvent) -> Value {
    match event.kind {
        Kind::Bounced => {
            let (permanence, status, diagnostic) = if event.is_hard_bounce() {
                ("hard", "5.1.1", "550 5.1.1 user unknown")
            } else {
                ("soft", "4.2.2", "452 4.2.2 mailbox full")
            };
            json!({"bounce": {
                "permanence": permanence, "status": status, "diagnostic": diagnostic,
            }})
        }
        Kind::Delivered => json!({
            "sending_ip": SENDING_IP,
            "delivery": {
                "server": MX_IP, "response": "250 2.0.0 OK", "tls": true,
                "millis": (event.occurred_at_micros - event.sent_at()) / 1_000,
            },
        }),
        Kind::Opened => {
            json!({"ip": client_ip(event), "user_agent": user_agent(event), "machine": event.machine})
        }
        Kind::Clicked => json!({
            "ip": client_ip(event), "user_agent": user_agent(event), "machine": event.machine,
            "url": LINK,
        }),
        _ => json!({}),
    }
}
