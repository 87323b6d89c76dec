use event::Kind;
use serde_json::{Value, json};

use super::{LINK, client_ip, extend, user_agent};
use crate::Fact;
use crate::clock::{seconds, sql};

const PROXY_OPEN: &str = "proxy_open";

/// Brevo's body, or an element of its batch. It has no event for a subscription to all mail;
/// `other` is an address put on a list.
pub fn brevo(fact: &Fact) -> Option<Value> {
    let (name, more) = words(fact)?;
    let mut event = json!({
        "id": 814_119,
        "event": name,
        "email": fact.recipient,
        "message-id": format!("<{}>", fact.message_id),
        "date": sql(fact.occurred_at_micros),
        "ts": seconds(fact.occurred_at_micros),
        "ts_event": seconds(fact.occurred_at_micros),
        "subject": "News for you",
        "tags": [fact.campaign, "newsletter"],
        "tag": json!([fact.campaign, "newsletter"]).to_string(),
    });
    // An open by a proxy has its time under another name.
    let epoch = if name == PROXY_OPEN { "s_epoch" } else { "ts_epoch" };
    event[epoch] = fact.occurred_at_micros.div_euclid(1_000).into();
    extend(&mut event, more);
    Some(event)
}

fn words(fact: &Fact) -> Option<(&'static str, Value)> {
    let reader = json!({"sending_ip": client_ip(fact), "user_agent": user_agent(fact)});
    let because = |reason: &str| json!({"reason": reason, "sending_ip": "198.51.100.12"});
    Some(match fact.kind {
        Kind::Accepted => ("request", because("sent")),
        Kind::Delivered => ("delivered", because("sent")),
        Kind::Deferred => ("deferred", because("421 4.7.0 Try again later")),
        Kind::Bounced if fact.is_hard_bounce() => {
            ("hard_bounce", because("550 5.1.1 user unknown"))
        }
        Kind::Bounced => ("soft_bounce", because("452 4.2.2 mailbox full")),
        Kind::Dropped => ("blocked", because("blocked : due to unsubscribed user")),
        Kind::Opened => {
            let mut open = reader;
            open["link"] = "".into();
            (if fact.machine { PROXY_OPEN } else { "opened" }, open)
        }
        Kind::Clicked => {
            let mut click = reader;
            click["link"] = LINK.into();
            ("click", click)
        }
        Kind::Complained => ("spam", json!({})),
        Kind::Unsubscribed => ("unsubscribed", json!({"is_returnpath": true})),
        Kind::Subscribed => return None,
        Kind::Other => ("list_addition", json!({"list_id": [3]})),
    })
}
