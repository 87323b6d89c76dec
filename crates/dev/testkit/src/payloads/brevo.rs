use event::Kind;
use serde_json::{Value, json};

use super::{LINK, client_ip, extend, user_agent};
use crate::MailEvent;
use crate::time_formats::{seconds, sql};

const PROXY_OPEN: &str = "proxy_open";

/// Returns the body, or an element of a batch. Brevo does not report subscriptions. `other` is an
/// address that was added to a list.
pub fn brevo(event: &MailEvent) -> Option<Value> {
    let (name, more) = name_and_fields(event)?;
    let mut payload = json!({
        "id": 814_119,
        "event": name,
        "email": event.recipient,
        "message-id": format!("<{}>", event.message_id),
        "date": sql(event.occurred_at_micros),
        "ts": seconds(event.occurred_at_micros),
        "ts_event": seconds(event.occurred_at_micros),
        "subject": "News for you",
        "tags": [event.campaign, "newsletter"],
        "tag": json!([event.campaign, "newsletter"]).to_string(),
    });
    // An open by a proxy has its time in another field.
    let epoch = if name == PROXY_OPEN { "s_epoch" } else { "ts_epoch" };
    payload[epoch] = event.occurred_at_micros.div_euclid(1_000).into();
    extend(&mut payload, more);
    Some(payload)
}

fn name_and_fields(event: &MailEvent) -> Option<(&'static str, Value)> {
    let reader = json!({"sending_ip": client_ip(event), "user_agent": user_agent(event)});
    let with_reason = |reason: &str| json!({"reason": reason, "sending_ip": "198.51.100.12"});
    Some(match event.kind {
        Kind::Accepted => ("request", with_reason("sent")),
        Kind::Delivered => ("delivered", with_reason("sent")),
        Kind::Deferred => ("deferred", with_reason("421 4.7.0 Try again later")),
        Kind::Bounced if event.is_hard_bounce() => {
            ("hard_bounce", with_reason("550 5.1.1 user unknown"))
        }
        Kind::Bounced => ("soft_bounce", with_reason("452 4.2.2 mailbox full")),
        Kind::Dropped => ("blocked", with_reason("blocked : due to unsubscribed user")),
        Kind::Opened => {
            let mut open = reader;
            open["link"] = "".into();
            (if event.machine { PROXY_OPEN } else { "opened" }, open)
        }
        Kind::Clicked => {
            let mut click = reader;
            click["link"] = LINK.into();
            ("click", click)
        }
        Kind::Complained => ("spam", json!({})),
        Kind::Unsubscribed => ("unsubscribed", json!({"is_returnpath": true})),
        Kind::Subscribed => return None,
        Kind::Verified => return None,
        Kind::Other => ("list_addition", json!({"list_id": [3]})),
    })
}
