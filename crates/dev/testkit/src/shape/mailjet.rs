use event::Kind;
use serde_json::{Number, Value, json};

use super::{LINK, client_ip, extend, user_agent};
use crate::Fact;
use crate::clock::seconds;

/// An element of Mailjet's array. `sent` is delivered; it has no words for what it took, put off
/// or was asked for.
pub fn mailjet(fact: &Fact) -> Option<Value> {
    let (name, more) = words(fact)?;
    let message_id: Number = fact.message_id.parse::<u64>().ok()?.into();
    let mut event = json!({
        "event": name,
        "time": seconds(fact.occurred_at_micros),
        "MessageID": message_id,
        "Message_GUID": super::uuid_text(fact.id().as_bytes()),
        "email": fact.recipient,
        "mj_campaign_id": 7_257,
        "mj_contact_id": 1_000,
        "customcampaign": fact.campaign,
        "CustomID": "",
        "Payload": "",
    });
    extend(&mut event, more);
    Some(event)
}

fn words(fact: &Fact) -> Option<(&'static str, Value)> {
    let reader = json!({"ip": client_ip(fact), "geo": "DE", "agent": user_agent(fact)});
    Some(match fact.kind {
        Kind::Delivered => ("sent", json!({"smtp_reply": "250 2.0.0 OK"})),
        Kind::Bounced => ("bounce", bounce(fact)),
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
        Kind::Accepted | Kind::Deferred | Kind::Subscribed | Kind::Other => return None,
    })
}

fn bounce(fact: &Fact) -> Value {
    let (error, comment) = if fact.is_hard_bounce() {
        ("user unknown", "550 5.1.1 user unknown")
    } else {
        ("mailbox inactive", "452 4.2.2 mailbox full")
    };
    json!({
        "blocked": false, "hard_bounce": fact.is_hard_bounce(), "error_related_to": "recipient",
        "error": error, "comment": comment,
    })
}
