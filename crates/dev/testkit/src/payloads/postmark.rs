use event::Kind;
use serde_json::{Value, json};

use super::{LINK, client_ip, extend, sender, user_agent};
use crate::MailEvent;
use crate::time_formats::iso_seven_digits;

/// Returns the record. Postmark does not report accepted and dropped messages. A deferral is a
/// `Bounce` of type `Transient`.
pub fn postmark(event: &MailEvent) -> Option<Value> {
    let mut record = match event.kind {
        Kind::Delivered => json!({
            "RecordType": "Delivery", "Recipient": event.recipient,
            "DeliveredAt": at(event), "Details": "smtp;250 2.0.0 OK",
        }),
        Kind::Bounced if event.is_hard_bounce() => bounce(
            event,
            ("HardBounce", 1),
            true,
            "smtp;550 5.1.1 The email account that you tried to reach does not exist.",
        ),
        Kind::Bounced => bounce(
            event,
            ("SoftBounce", 4096),
            false,
            "smtp;452 4.2.2 The recipient's inbox is out of storage space.",
        ),
        Kind::Deferred => bounce(event, ("Transient", 2), false, "smtp;421 4.7.0 Try again later."),
        Kind::Complained => {
            let mut complaint = bounce(event, ("SpamComplaint", 100_001), true, "");
            complaint["RecordType"] = "SpamComplaint".into();
            complaint
        }
        Kind::Opened => reader(
            event,
            json!({
                "RecordType": "Open", "FirstOpen": event.n == 0, "ReadSeconds": 5,
            }),
        ),
        Kind::Clicked => reader(
            event,
            json!({
                "RecordType": "Click", "ClickLocation": "HTML", "OriginalLink": LINK,
            }),
        ),
        Kind::Unsubscribed => subscription(event, true),
        Kind::Subscribed => subscription(event, false),
        Kind::Accepted | Kind::Dropped | Kind::Other | Kind::Verified => return None,
    };
    extend(
        &mut record,
        json!({
            "ServerID": 23, "MessageStream": "outbound", "MessageID": event.message_id,
            "Tag": event.campaign, "Metadata": {"campaign": event.campaign},
        }),
    );
    Some(record)
}

fn at(event: &MailEvent) -> String {
    iso_seven_digits(event.occurred_at_micros)
}

fn bounce(event: &MailEvent, (name, code): (&str, u32), inactive: bool, details: &str) -> Value {
    json!({
        "RecordType": "Bounce", "ID": event.number(), "Type": name, "TypeCode": code,
        "Name": name, "Description": "", "Details": details, "Email": event.recipient,
        "From": sender(event), "BouncedAt": at(event), "DumpAvailable": false,
        "Inactive": inactive, "CanActivate": inactive, "Subject": "News for you",
    })
}

fn reader(event: &MailEvent, mut record: Value) -> Value {
    extend(
        &mut record,
        json!({
            "Recipient": event.recipient, "ReceivedAt": at(event), "Platform": "Desktop",
            "Client": {"Name": "", "Company": "", "Family": ""},
            "OS": {"Name": "", "Company": "", "Family": ""},
            "UserAgent": user_agent(event),
            "Geo": {"CountryISOCode": "DE", "Country": "Germany", "IP": client_ip(event)},
        }),
    );
    record
}

fn subscription(event: &MailEvent, suppress: bool) -> Value {
    json!({
        "RecordType": "SubscriptionChange", "Recipient": event.recipient, "ChangedAt": at(event),
        "Origin": "Recipient", "SuppressSending": suppress,
        "SuppressionReason": if suppress { Value::from("ManualSuppression") } else { Value::Null },
    })
}
