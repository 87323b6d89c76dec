use event::Kind;
use serde_json::{Number, Value, json};

use super::{LINK, client_ip, extend, user_agent};
use crate::MailEvent;
use crate::time_formats::seconds;

/// Returns an element of the array. `sent` means delivered. Mailjet does not report accepted and
/// deferred messages and subscriptions.
pub fn mailjet(event: &MailEvent) -> Option<Value> {
    let (name, more) = name_and_fields(event)?;
    let message_id: Number = event.message_id.parse::<u64>().ok()?.into();
    let mut payload = json!({
        "event": name,
        "time": seconds(event.occurred_at_micros),
        "MessageID": message_id,
        "Message_GUID": super::uuid_text(event.id().as_bytes()),
        "email": event.recipient,
        "mj_campaign_id": 7_257,
        "mj_contact_id": 1_000,
        "customcampaign": event.campaign,
        "CustomID": "",
        "Payload": "",
    });
    extend(&mut payload, more);
    Some(payload)
}

fn name_and_fields(event: &MailEvent) -> Option<(&'static str, Value)> {
    let reader = json!({"ip": client_ip(event), "geo": "DE", "agent": user_agent(event)});
    Some(match event.kind {
        Kind::Delivered => ("sent", json!({"smtp_reply": "250 2.0.0 OK"})),
        Kind::Bounced => ("bounce", bounce(event)),
        Kind::Dropped => ("blocked", json!({"error_related_to": "mailjet", "error": "preblocked"})),
        Kind::Opened => ("open", reader),
        Kind::Clicked => {
            let mut click = reader;
            click["url"] = LINK.into();
            ("click", click)
        }
        Kind::Complained => ("spam", json!({"source": "JMRPP"})),
        Kind::Unsubscribed => {
            let mut unsubscribed = reader;
            unsubscribed["mj_list_id"] = 1.into();
            ("unsub", unsubscribed)
        }
        Kind::Accepted | Kind::Deferred | Kind::Subscribed | Kind::Other | Kind::Verified => {
            return None;
        }
    })
}

fn bounce(event: &MailEvent) -> Value {
    let (error, comment) = if event.is_hard_bounce() {
        ("user unknown", "550 5.1.1 user unknown")
    } else {
        ("mailbox inactive", "452 4.2.2 mailbox full")
    };
    json!({
        "blocked": false, "hard_bounce": event.is_hard_bounce(), "error_related_to": "recipient",
        "error": error, "comment": comment,
    })
}
