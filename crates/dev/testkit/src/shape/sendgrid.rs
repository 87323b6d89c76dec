use event::Kind;
use serde_json::{Value, json};

use super::{LINK, READERS, client_ip, extend, user_agent};
use crate::Fact;
use crate::clock::seconds;

/// Apple's Mail Privacy Protection says no more than this.
const APPLE_MPP: &str = "Mozilla/5.0";

/// One element of SendGrid's array. Every kind has words; `other` is `account_status_change`,
/// which names nobody.
pub fn sendgrid(fact: &Fact) -> Option<Value> {
    let (name, more) = words(fact);
    let mut event = json!({
        "event": name,
        "timestamp": seconds(fact.occurred_at_micros),
        "sg_event_id": event_id(fact),
    });
    if fact.kind != Kind::Other {
        extend(
            &mut event,
            json!({
                "email": fact.recipient,
                "smtp-id": format!("<{}@geopod-ismtpd-7>", fact.message_id),
                "sg_message_id": format!("{}.recvd-6d5f7f9c6b-x2x7q-1-69203A10-2C.0", fact.message_id),
                "category": [fact.campaign, "newsletter"],
                "campaign": fact.campaign,
            }),
        );
    }
    extend(&mut event, more);
    Some(event)
}

fn words(fact: &Fact) -> (&'static str, Value) {
    let agent = if fact.machine { APPLE_MPP } else { user_agent(fact) };
    let reader = json!({"ip": client_ip(fact), "useragent": agent, "sg_content_type": "html"});
    match fact.kind {
        Kind::Accepted => ("processed", json!({"send_at": 0})),
        Kind::Delivered => (
            "delivered",
            json!({"ip": "198.51.100.10", "response": "250 2.0.0 OK  1795255200 gsmtp", "tls": 1}),
        ),
        Kind::Deferred => (
            "deferred",
            json!({"response": "421 4.7.0 Try again later, closing connection.", "attempt": "1"}),
        ),
        Kind::Bounced => ("bounce", bounce(fact)),
        Kind::Dropped => ("dropped", json!({"reason": "Bounced Address", "status": "5.0.0"})),
        Kind::Opened => {
            let mut open = reader;
            open["sg_machine_open"] = fact.machine.into();
            ("open", open)
        }
        Kind::Clicked => {
            let mut click = reader;
            extend(&mut click, json!({"url": LINK, "url_offset": {"index": 0, "type": "html"}}));
            ("click", click)
        }
        Kind::Complained => ("spamreport", json!({})),
        Kind::Unsubscribed => (
            "group_unsubscribe",
            json!({"asm_group_id": 10, "ip": client_ip(fact), "useragent": READERS[0]}),
        ),
        Kind::Subscribed => (
            "group_resubscribe",
            json!({"asm_group_id": 10, "ip": client_ip(fact), "useragent": READERS[0]}),
        ),
        Kind::Other => ("account_status_change", json!({"type": "compliance_suspend"})),
    }
}

fn bounce(fact: &Fact) -> Value {
    if fact.is_hard_bounce() {
        json!({
            "type": "bounce", "status": "5.1.1", "ip": "198.51.100.10", "tls": 1,
            "bounce_classification": "Invalid Address",
            "reason": "550 5.1.1 The email account that you tried to reach does not exist.",
        })
    } else {
        json!({
            "type": "blocked", "status": "4.2.2", "ip": "198.51.100.10", "tls": 1,
            "bounce_classification": "Mailbox Unavailable",
            "reason": "452 4.2.2 The recipient's inbox is out of storage space.",
        })
    }
}

/// Opaque, URL-safe base64, as the newer ones are.
fn event_id(fact: &Fact) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(fact.id().as_bytes())
}
