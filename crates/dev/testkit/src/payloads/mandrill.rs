use event::Kind;
use serde_json::{Value, json};

use super::{LINK, MX_IP, SENDING_IP, client_ip, extend, sender, user_agent};
use crate::MailEvent;
use crate::time_formats::{seconds, sql};

/// Returns an element of the array. Mandrill does not report subscriptions. `other` is a
/// synchronisation record of the reject list, which has no `event` key.
pub fn mandrill(event: &MailEvent) -> Option<Value> {
    if event.kind == Kind::Other {
        return Some(reject_list_record(event));
    }
    let (name, state, more) = name_and_fields(event)?;
    let mut payload = json!({
        "event": name,
        "_id": event.message_id,
        "ts": seconds(event.occurred_at_micros),
        "msg": {
            "_id": event.message_id,
            "_version": "7e577e577e577e577e57",
            "ts": seconds(event.sent_at()),
            "subject": "News for you",
            "email": event.recipient,
            "sender": sender(event),
            "tags": [event.campaign],
            "metadata": {"campaign": event.campaign},
            "state": state,
            "opens": [],
            "clicks": [],
        },
    });
    if matches!(event.kind, Kind::Delivered | Kind::Bounced | Kind::Deferred) {
        extend(&mut payload["msg"], more);
    } else {
        extend(&mut payload, more);
    }
    Some(payload)
}

/// Returns the event's name, `msg.state`, and further fields of the event (of `msg` if it is
/// about an attempt).
fn name_and_fields(event: &MailEvent) -> Option<(&'static str, &'static str, Value)> {
    let reader = json!({
        "ip": client_ip(event), "user_agent": user_agent(event),
        "location": {"country_short": "DE", "country": "Germany", "city": "Hamburg"},
        "user_agent_parsed": {"type": "Browser", "mobile": false},
    });
    Some(match event.kind {
        Kind::Accepted => ("send", "sent", json!({})),
        Kind::Delivered => ("delivered", "delivered", attempt(event, "sent", "250 2.0.0 OK")),
        Kind::Deferred => {
            ("deferral", "deferred", attempt(event, "deferred", "421 4.7.0 Try again later"))
        }
        Kind::Bounced if event.is_hard_bounce() => (
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
        Kind::Subscribed | Kind::Other | Kind::Verified => return None,
    })
}

fn attempt(event: &MailEvent, outcome: &str, answer: &str) -> Value {
    json!({"smtp_events": [{
        "ts": seconds(event.occurred_at_micros), "type": outcome, "diag": answer,
        "source_ip": SENDING_IP, "destination_ip": MX_IP, "size": 0,
    }]})
}

fn reject_list_record(event: &MailEvent) -> Value {
    let time = sql(event.occurred_at_micros);
    json!({
        "type": "blacklist", "action": "add", "ts": seconds(event.occurred_at_micros),
        "reject": {
            "email": event.recipient, "reason": "hard-bounce", "detail": "550 mailbox does not exist",
            "last_event_at": time, "created_at": time, "expires_at": null, "expired": false,
            "subaccount": null, "sender": null,
        },
    })
}
