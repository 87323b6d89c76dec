use event::Kind;
use serde_json::{Value, json};

use super::{LINK, client_ip, extend, sender, user_agent};
use crate::Fact;
use crate::clock::iso_seven_digits;

/// Postmark's record. It does not report that it took a message, nor one it never tried; a
/// deferral is a `Bounce` of type `Transient`.
pub fn postmark(fact: &Fact) -> Option<Value> {
    let mut record = match fact.kind {
        Kind::Delivered => json!({
            "RecordType": "Delivery", "Recipient": fact.recipient,
            "DeliveredAt": at(fact), "Details": "smtp;250 2.0.0 OK",
        }),
        Kind::Bounced if fact.is_hard_bounce() => bounce(
            fact,
            ("HardBounce", 1),
            true,
            "smtp;550 5.1.1 The email account that you tried to reach does not exist.",
        ),
        Kind::Bounced => bounce(
            fact,
            ("SoftBounce", 4096),
            false,
            "smtp;452 4.2.2 The recipient's inbox is out of storage space.",
        ),
        Kind::Deferred => bounce(fact, ("Transient", 2), false, "smtp;421 4.7.0 Try again later."),
        Kind::Complained => {
            let mut complaint = bounce(fact, ("SpamComplaint", 100_001), true, "");
            complaint["RecordType"] = "SpamComplaint".into();
            complaint
        }
        Kind::Opened => reader(
            fact,
            json!({
                "RecordType": "Open", "FirstOpen": fact.n == 0, "ReadSeconds": 5,
            }),
        ),
        Kind::Clicked => reader(
            fact,
            json!({
                "RecordType": "Click", "ClickLocation": "HTML", "OriginalLink": LINK,
            }),
        ),
        Kind::Unsubscribed => subscription(fact, true),
        Kind::Subscribed => subscription(fact, false),
        Kind::Accepted | Kind::Dropped | Kind::Other => return None,
    };
    extend(
        &mut record,
        json!({
            "ServerID": 23, "MessageStream": "outbound", "MessageID": fact.message_id,
            "Tag": fact.campaign, "Metadata": {"campaign": fact.campaign},
        }),
    );
    Some(record)
}

fn at(fact: &Fact) -> String {
    iso_seven_digits(fact.occurred_at_micros)
}

fn bounce(fact: &Fact, (name, code): (&str, u32), inactive: bool, details: &str) -> Value {
    json!({
        "RecordType": "Bounce", "ID": fact.number(), "Type": name, "TypeCode": code,
        "Name": name, "Description": "", "Details": details, "Email": fact.recipient,
        "From": sender(fact), "BouncedAt": at(fact), "DumpAvailable": false,
        "Inactive": inactive, "CanActivate": inactive, "Subject": "News for you",
    })
}

fn reader(fact: &Fact, mut record: Value) -> Value {
    extend(
        &mut record,
        json!({
            "Recipient": fact.recipient, "ReceivedAt": at(fact), "Platform": "Desktop",
            "Client": {"Name": "", "Company": "", "Family": ""},
            "OS": {"Name": "", "Company": "", "Family": ""},
            "UserAgent": user_agent(fact),
            "Geo": {"CountryISOCode": "DE", "Country": "Germany", "IP": client_ip(fact)},
        }),
    );
    record
}

fn subscription(fact: &Fact, suppress: bool) -> Value {
    json!({
        "RecordType": "SubscriptionChange", "Recipient": fact.recipient, "ChangedAt": at(fact),
        "Origin": "Recipient", "SuppressSending": suppress,
        "SuppressionReason": if suppress { Value::from("ManualSuppression") } else { Value::Null },
    })
}
