use event::{Kind, domain_of};
use serde_json::{Value, json};

use super::{LINK, SENDING_IP, client_ip, extend, sender, user_agent};
use crate::MailEvent;
use crate::time_formats::{MINUTE, iso_millis};

/// Returns a record of SES event publishing: the `Message` of an SNS notification. SES reports no
/// event of kind `other`.
pub fn ses(event: &MailEvent) -> Option<Value> {
    let (name, key, object) = name_and_fields(event)?;
    let mut record = json!({"eventType": name, "mail": mail(event)});
    record[key] = object;
    Some(record)
}

/// Returns the `mail` object, with the time of sending. `Send` and `Reject` have no other time.
fn mail(event: &MailEvent) -> Value {
    let sender = sender(event);
    let mut tags = json!({
        "ses:configuration-set": ["events"], "ses:from-domain": [domain_of(&sender)],
        "campaign": [event.campaign],
    });
    if event.kind.is_attempt() {
        tags["ses:outgoing-ip"] = json!([SENDING_IP]);
    }
    let has_own_time = !matches!(event.kind, Kind::Accepted | Kind::Dropped);
    let sent_at = if has_own_time { event.sent_at() } else { event.occurred_at_micros };
    json!({
        "timestamp": iso_millis(sent_at),
        "source": sender,
        "sourceArn": format!("arn:aws:ses:eu-west-1:123456789012:identity/{}", domain_of(&sender)),
        "sendingAccountId": "123456789012",
        "messageId": event.message_id,
        "destination": [event.recipient],
        "headersTruncated": false,
        "headers": [
            {"name": "From", "value": sender},
            {"name": "To", "value": event.recipient},
            {"name": "Subject", "value": "News for you"},
        ],
        "commonHeaders": {
            "from": [sender], "to": [event.recipient], "messageId": event.message_id,
            "subject": "News for you",
        },
        "tags": tags,
    })
}

fn name_and_fields(event: &MailEvent) -> Option<(&'static str, &'static str, Value)> {
    let reader = json!({
        "timestamp": at(event), "ipAddress": client_ip(event), "userAgent": user_agent(event),
    });
    Some(match event.kind {
        Kind::Accepted => ("Send", "send", json!({})),
        Kind::Delivered => (
            "Delivery",
            "delivery",
            json!({
                "timestamp": at(event), "processingTimeMillis": 1180, "recipients": [event.recipient],
                "smtpResponse": "250 2.0.0 OK", "reportingMTA": "a7-10.smtp-out.eu-west-1.amazonses.com",
            }),
        ),
        Kind::Deferred => (
            "DeliveryDelay",
            "deliveryDelay",
            json!({
                "timestamp": at(event), "delayType": "TransientCommunicationFailure",
                "expirationTime": iso_millis(event.occurred_at_micros + 840 * MINUTE),
                "delayedRecipients": [{
                    "emailAddress": event.recipient, "status": "4.4.1",
                    "diagnosticCode": "smtp; 421 4.4.1 Unable to connect to remote host",
                }],
            }),
        ),
        Kind::Bounced => ("Bounce", "bounce", bounce(event)),
        Kind::Dropped => ("Reject", "reject", json!({"reason": "Bad content"})),
        Kind::Opened => ("Open", "open", reader),
        Kind::Clicked => {
            let mut click = reader;
            extend(&mut click, json!({"link": LINK, "linkTags": null}));
            ("Click", "click", click)
        }
        Kind::Complained => (
            "Complaint",
            "complaint",
            json!({
                "timestamp": at(event), "arrivalDate": at(event), "feedbackId": feedback_id(event),
                "complainedRecipients": [{"emailAddress": event.recipient}],
                "complaintSubType": null, "complaintFeedbackType": "abuse",
                "userAgent": "ExampleMail feedback loop",
            }),
        ),
        Kind::Unsubscribed => ("Subscription", "subscription", subscription(event, true)),
        Kind::Subscribed => ("Subscription", "subscription", subscription(event, false)),
        Kind::Other | Kind::Verified => return None,
    })
}

fn bounce(event: &MailEvent) -> Value {
    let (kind, sub_type, status, text) = if event.is_hard_bounce() {
        ("Permanent", "General", "5.1.1", "smtp; 550 5.1.1 user unknown")
    } else {
        ("Transient", "MailboxFull", "4.2.2", "smtp; 452 4.2.2 mailbox full")
    };
    json!({
        "timestamp": at(event), "bounceType": kind, "bounceSubType": sub_type,
        "feedbackId": feedback_id(event), "reportingMTA": "dns; a7-10.smtp-out.eu-west-1.amazonses.com",
        "bouncedRecipients": [{
            "emailAddress": event.recipient, "action": "failed", "status": status,
            "diagnosticCode": text,
        }],
    })
}

fn subscription(event: &MailEvent, is_out: bool) -> Value {
    let preferences = |is_out: bool| {
        json!({
            "unsubscribeAll": is_out,
            "topicSubscriptionStatus": [{
                "topicName": "News", "subscriptionStatus": if is_out { "OptOut" } else { "OptIn" },
            }],
        })
    };
    json!({
        "timestamp": at(event), "contactList": "Readers", "source": "UnsubscribeHeader",
        "newTopicPreferences": preferences(is_out), "oldTopicPreferences": preferences(!is_out),
    })
}

fn at(event: &MailEvent) -> String {
    iso_millis(event.occurred_at_micros)
}

fn feedback_id(event: &MailEvent) -> String {
    format!("01020198a0c1d2e4-{}-000000", super::uuid_text(event.id().as_bytes()))
}
