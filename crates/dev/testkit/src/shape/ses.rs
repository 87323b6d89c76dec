use event::{Kind, domain_of};
use serde_json::{Value, json};

use super::{LINK, client_ip, extend, sender, user_agent};
use crate::Fact;
use crate::clock::{MINUTE, iso_millis};

/// A record of SES event publishing: the `Message` of an SNS notification. `other` has no words.
pub fn ses(fact: &Fact) -> Option<Value> {
    let (name, key, object) = words(fact)?;
    let mut record = json!({"eventType": name, "mail": mail(fact)});
    record[key] = object;
    Some(record)
}

/// The `mail` object. SES dates it with the time of sending, which a fact does not know: the
/// event's own time does for `Send` and `Reject`, which have no other.
fn mail(fact: &Fact) -> Value {
    let sender = sender(fact);
    json!({
        "timestamp": at(fact),
        "source": sender,
        "sourceArn": format!("arn:aws:ses:eu-west-1:123456789012:identity/{}", domain_of(&sender)),
        "sendingAccountId": "123456789012",
        "messageId": fact.message_id,
        "destination": [fact.recipient],
        "headersTruncated": false,
        "headers": [
            {"name": "From", "value": sender},
            {"name": "To", "value": fact.recipient},
            {"name": "Subject", "value": "News for you"},
        ],
        "commonHeaders": {
            "from": [sender], "to": [fact.recipient], "messageId": fact.message_id,
            "subject": "News for you",
        },
        "tags": {
            "ses:configuration-set": ["events"], "ses:from-domain": [domain_of(&sender)],
            "campaign": [fact.campaign],
        },
    })
}

fn words(fact: &Fact) -> Option<(&'static str, &'static str, Value)> {
    let reader = json!({
        "timestamp": at(fact), "ipAddress": client_ip(fact), "userAgent": user_agent(fact),
    });
    Some(match fact.kind {
        Kind::Accepted => ("Send", "send", json!({})),
        Kind::Delivered => (
            "Delivery",
            "delivery",
            json!({
                "timestamp": at(fact), "processingTimeMillis": 1180, "recipients": [fact.recipient],
                "smtpResponse": "250 2.0.0 OK", "reportingMTA": "a7-10.smtp-out.eu-west-1.amazonses.com",
            }),
        ),
        Kind::Deferred => (
            "DeliveryDelay",
            "deliveryDelay",
            json!({
                "timestamp": at(fact), "delayType": "TransientCommunicationFailure",
                "expirationTime": iso_millis(fact.occurred_at_micros + 840 * MINUTE),
                "delayedRecipients": [{
                    "emailAddress": fact.recipient, "status": "4.4.1",
                    "diagnosticCode": "smtp; 421 4.4.1 Unable to connect to remote host",
                }],
            }),
        ),
        Kind::Bounced => ("Bounce", "bounce", bounce(fact)),
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
                "timestamp": at(fact), "arrivalDate": at(fact), "feedbackId": feedback_id(fact),
                "complainedRecipients": [{"emailAddress": fact.recipient}],
                "complaintSubType": null, "complaintFeedbackType": "abuse",
                "userAgent": "ExampleMail feedback loop",
            }),
        ),
        Kind::Unsubscribed => ("Subscription", "subscription", subscription(fact, true)),
        Kind::Subscribed => ("Subscription", "subscription", subscription(fact, false)),
        Kind::Other => return None,
    })
}

fn bounce(fact: &Fact) -> Value {
    let (kind, sub_type, status, text) = if fact.is_hard_bounce() {
        ("Permanent", "General", "5.1.1", "smtp; 550 5.1.1 user unknown")
    } else {
        ("Transient", "MailboxFull", "4.2.2", "smtp; 452 4.2.2 mailbox full")
    };
    json!({
        "timestamp": at(fact), "bounceType": kind, "bounceSubType": sub_type,
        "feedbackId": feedback_id(fact), "reportingMTA": "dns; a7-10.smtp-out.eu-west-1.amazonses.com",
        "bouncedRecipients": [{
            "emailAddress": fact.recipient, "action": "failed", "status": status,
            "diagnosticCode": text,
        }],
    })
}

fn subscription(fact: &Fact, out: bool) -> Value {
    let preferences = |out: bool| {
        json!({
            "unsubscribeAll": out,
            "topicSubscriptionStatus": [{
                "topicName": "News", "subscriptionStatus": if out { "OptOut" } else { "OptIn" },
            }],
        })
    };
    json!({
        "timestamp": at(fact), "contactList": "Readers", "source": "UnsubscribeHeader",
        "newTopicPreferences": preferences(out), "oldTopicPreferences": preferences(!out),
    })
}

fn at(fact: &Fact) -> String {
    iso_millis(fact.occurred_at_micros)
}

fn feedback_id(fact: &Fact) -> String {
    format!("01020198a0c1d2e4-{}-000000", super::uuid_text(fact.id().as_bytes()))
}
