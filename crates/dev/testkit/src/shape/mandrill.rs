use event::Kind;
use serde_json::{Value, json};

use super::{LINK, client_ip, extend, sender, user_agent};
use crate::Fact;
use crate::clock::{seconds, sql};

/// One element of Mandrill's array. Mandrill has no event for a subscription; `other` is a
/// synchronisation record of the reject list, which has no `event` key.
pub fn mandrill(fact: &Fact) -> Option<Value> {
    if fact.kind == Kind::Other {
        return Some(reject_list_record(fact));
    }
    let (name, state, more) = words(fact)?;
    let mut event = json!({
        "event": name,
        "_id": fact.message_id,
        "ts": seconds(fact.occurred_at_micros),
        "msg": {
            "_id": fact.message_id,
            "_version": "7e577e577e577e577e57",
            "ts": seconds(fact.occurred_at_micros),
            "subject": "News for you",
            "email": fact.recipient,
            "sender": sender(fact),
            "tags": [fact.campaign],
            "metadata": {"campaign": fact.campaign},
            "state": state,
            "opens": [],
            "clicks": [],
        },
    });
    if matches!(fact.kind, Kind::Bounced | Kind::Deferred) {
        extend(&mut event["msg"], more);
    } else {
        extend(&mut event, more);
    }
    Some(event)
}

/// The event's name, `msg.state`, and what else belongs to the event (to `msg` where it bounced
/// or was deferred).
fn words(fact: &Fact) -> Option<(&'static str, &'static str, Value)> {
    let reader = json!({
        "ip": client_ip(fact), "user_agent": user_agent(fact),
        "location": {"country_short": "DE", "country": "Germany", "city": "Hamburg"},
        "user_agent_parsed": {"type": "Browser", "mobile": false},
    });
    Some(match fact.kind {
        Kind::Accepted => ("send", "sent", json!({})),
        Kind::Delivered => ("delivered", "delivered", json!({})),
        Kind::Deferred => (
            "deferral",
            "deferred",
            json!({"smtp_events": [{
                "ts": seconds(fact.occurred_at_micros), "type": "deferred",
                "diag": "421 4.7.0 Try again later", "source_ip": "198.51.100.11",
                "destination_ip": "192.0.2.25", "size": 0,
            }]}),
        ),
        Kind::Bounced if fact.is_hard_bounce() => (
            "hard_bounce",
            "bounced",
            json!({
                "bounce_description": "bad_mailbox", "bgtools_code": 10,
                "diag": "smtp;550 5.1.1 The email account that you tried to reach does not exist.",
            }),
        ),
        Kind::Bounced => (
            "soft_bounce",
            "soft-bounced",
            json!({
                "bounce_description": "mailbox_full", "bgtools_code": 22,
                "diag": "smtp;452 4.2.2 The recipient's inbox is out of storage space.",
            }),
        ),
        Kind::Dropped => ("reject", "rejected", json!({})),
        Kind::Opened => ("open", "sent", reader),
        Kind::Clicked => {
            let mut click = reader;
            click["url"] = LINK.into();
            ("click", "sent", click)
        }
        Kind::Complained => ("spam", "spam", json!({})),
        Kind::Unsubscribed => ("unsub", "unsub", json!({})),
        Kind::Subscribed | Kind::Other => return None,
    })
}

fn reject_list_record(fact: &Fact) -> Value {
    let time = sql(fact.occurred_at_micros);
    json!({
        "type": "blacklist", "action": "add", "ts": seconds(fact.occurred_at_micros),
        "reject": {
            "email": fact.recipient, "reason": "hard-bounce", "detail": "550 mailbox does not exist",
            "last_event_at": time, "created_at": time, "expires_at": null, "expired": false,
            "subaccount": null, "sender": null,
        },
    })
}
