use event::Kind;
use serde_json::{Value, json};

use super::{LINK, client_ip, extend, user_agent};
use crate::Fact;
use crate::clock::iso_millis;

/// Our own generic JSON: kinds by their canonical names, `other` under a name nobody knows.
pub fn generic(fact: &Fact) -> Option<Value> {
    let name = if fact.kind == Kind::Other { "teleported" } else { fact.kind.as_str() };
    let mut event = json!({
        "id": fact.id(),
        "event": name,
        "recipient": fact.recipient,
        "timestamp": iso_millis(fact.occurred_at_micros),
        "message_id": fact.message_id,
        "campaign": fact.campaign,
        "tags": ["newsletter"],
    });
    extend(&mut event, details(fact));
    Some(event)
}

fn details(fact: &Fact) -> Value {
    match fact.kind {
        Kind::Bounced => {
            let (permanence, status, diagnostic) = if fact.is_hard_bounce() {
                ("hard", "5.1.1", "550 5.1.1 user unknown")
            } else {
                ("soft", "4.2.2", "452 4.2.2 mailbox full")
            };
            json!({"bounce": {
                "permanence": permanence, "status": status, "diagnostic": diagnostic,
            }})
        }
        Kind::Opened => {
            json!({"ip": client_ip(fact), "user_agent": user_agent(fact), "machine": fact.machine})
        }
        Kind::Clicked => json!({
            "ip": client_ip(fact), "user_agent": user_agent(fact), "machine": fact.machine,
            "url": LINK,
        }),
        _ => json!({}),
    }
}
