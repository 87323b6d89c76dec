use event::Kind;
use serde_json::{Value, json};

use super::{LINK, READERS, client_ip, extend, user_agent};
use crate::MailEvent;
use crate::time_formats::seconds;

/// The user agent of Apple's Mail Privacy Protection.
const APPLE_MPP: &str = "Mozilla/5.0";

/// Returns an element of the array. SendGrid reports every kind. `other` is
/// `account_status_change`, which has no recipient.
pub fn sendgrid(event: &MailEvent) -> Option<Value> {
    let (name, more) = name_and_fields(event)?;
    let mut payload = json!({
        "event": name,
        "timestamp": seconds(event.occurred_at_micros),
        "sg_event_id": event_id(event),
    });
    if event.kind != Kind::Other {
        extend(
            &mut payload,
            json!({
                "email": event.recipient,
                "smtp-id": format!("<{}@geopod-ismtpd-7>", event.message_id),
                "sg_message_id": format!("{}.recvd-6d5f7f9c6b-x2x7q-1-69203A10-2C.0", event.message_id),
                "category": [event.campaign, "newsletter"],
                "campaign": event.campaign,
            }),
        );
    }
    extend(&mut payload, more);
    Some(payload)
}

fn name_and_fields(event: &MailEvent) -> Option<(&'static str, Value)> {
    let agent = if event.machine { APPLE_MPP } else { user_agent(event) };
    let reader = json!({"ip": client_ip(event), "useragent": agent, "sg_content_type": "html"});
    Some(match event.kind {
        Kind::Accepted => ("processed", json!({"send_at": 0})),
        Kind::Delivered => (
            "delivered",
            json!({"ip": "198.51.100.10", "response": "250 2.0.0 OK  1795255200 gsmtp", "tls": 1}),
        ),
        Kind::Deferred => (
            "deferred",
            json!({"response": "421 4.7.0 Try again later, closing connection.", "attempt": "1"}),
        ),
        Kind::Bounced => ("bounce", bounce(event)),
        Kind::Dropped => ("dropped", json!({"reason": "Bounced Address", "status": "5.0.0"})),
        Kind::Opened => {
            let mut open = reader;
            open["sg_machine_open"] = event.machine.into();
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
            json!({"asm_group_id": 10, "ip": client_ip(event), "useragent": READERS[0]}),
        ),
        Kind::Subscribed => (
            "group_resubscribe",
            json!({"asm_group_id": 10, "ip": client_ip(event), "useragent": READERS[0]}),
        ),
        Kind::Other => ("account_status_change", json!({"type": "compliance_suspend"})),
        Kind::Verified => return None,
    })
}

fn bounce(event: &MailEvent) -> Value {
    if event.is_hard_bounce() {
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

/// URL-safe base64, like SendGrid's newer ids.
fn event_id(event: &MailEvent) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(event.id().as_bytes())
}
