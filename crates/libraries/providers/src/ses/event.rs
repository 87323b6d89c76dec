use std::borrow::Cow;
use std::collections::BTreeMap;

use event::{Kind, Text, addresses, recipient_key};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::bounces;
use crate::feedback;
use crate::json::{LenientFlag, LenientObject, LenientObjects, LenientText, LenientTexts};

/// The JSON that Amazon SES writes into the envelope's `Message`. It has two dialects: `eventType`
/// (configuration sets) and `notificationType` (identities). Both may be enabled at the same time.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SesEvent<'a> {
    #[serde(borrow)]
    event_type: LenientText<'a>,
    notification_type: LenientText<'a>,
    pub(super) mail: LenientObject<Mail<'a>>,
    pub(super) bounce: LenientObject<Report<'a>>,
    pub(super) complaint: LenientObject<Report<'a>>,
    pub(super) delivery: LenientObject<Report<'a>>,
    pub(super) delivery_delay: LenientObject<Report<'a>>,
    pub(super) reject: LenientObject<Report<'a>>,
    pub(super) failure: LenientObject<Report<'a>>,
    pub(super) open: LenientObject<Report<'a>>,
    pub(super) click: LenientObject<Report<'a>>,
    pub(super) subscription: LenientObject<Report<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mail<'a> {
    /// The time of sending.
    #[serde(borrow)]
    pub(super) timestamp: LenientText<'a>,
    pub(super) message_id: LenientText<'a>,
    /// The address in the `MAIL FROM` of the API or of SMTP.
    pub(super) source: LenientText<'a>,
    destination: LenientTexts<'a>,
    pub(super) common_headers: LenientObject<CommonHeaders<'a>>,
    pub(super) tags: LenientObject<BTreeMap<Text<'a>, LenientTexts<'a>>>,
}

#[derive(Default, Deserialize)]
pub(super) struct CommonHeaders<'a> {
    #[serde(borrow)]
    to: LenientTexts<'a>,
    pub(super) from: LenientTexts<'a>,
}

/// The details of an event, with the fields of all event types.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report<'a> {
    /// The time of the event.
    #[serde(borrow)]
    pub(super) timestamp: LenientText<'a>,
    pub(super) bounce_type: LenientText<'a>,
    #[serde(alias = "complaintSubType", alias = "delayType", rename = "bounceSubType")]
    pub(super) sub_type: LenientText<'a>,
    complaint_feedback_type: LenientText<'a>,
    #[serde(
        alias = "complainedRecipients",
        alias = "delayedRecipients",
        rename = "bouncedRecipients"
    )]
    named: LenientObjects<Recipient<'a>>,
    /// Only on deliveries.
    recipients: LenientTexts<'a>,
    pub(super) ip_address: LenientText<'a>,
    pub(super) user_agent: LenientText<'a>,
    pub(super) link: LenientText<'a>,
    /// Only on deliveries.
    pub(super) smtp_response: LenientText<'a>,
    /// Only on deliveries.
    pub(super) processing_time_millis: Option<&'a RawValue>,
    /// The address of the receiving server, only on notifications of identities.
    pub(super) remote_mta_ip: LenientText<'a>,
    /// Only on rejects.
    pub(super) reason: LenientText<'a>,
    /// Only on rendering failures.
    pub(super) error_message: LenientText<'a>,
    new_topic_preferences: LenientObject<Preferences<'a>>,
    old_topic_preferences: LenientObject<Preferences<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Recipient<'a> {
    #[serde(borrow)]
    email_address: LenientText<'a>,
    pub(super) status: LenientText<'a>,
    pub(super) diagnostic_code: LenientText<'a>,
}

/// A contact's choices on a contact list.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Preferences<'a> {
    unsubscribe_all: LenientFlag,
    #[serde(borrow)]
    topic_subscription_status: LenientObjects<Topic<'a>>,
}

#[derive(Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Topic<'a> {
    #[serde(borrow)]
    topic_name: LenientText<'a>,
    subscription_status: LenientText<'a>,
}

impl<'a> SesEvent<'a> {
    pub(super) fn event_name(&self) -> &str {
        self.event_type.as_deref().or(self.notification_type.as_deref()).unwrap_or_default()
    }

    pub(super) fn kind(&self) -> Kind {
        match self.event_name() {
            "Send" => Kind::Accepted,
            "Delivery" => Kind::Delivered,
            "DeliveryDelay" => Kind::Deferred,
            // The address is on a suppression list, and SES sent nothing.
            "Bounce" | "Complaint" if self.report().is_some_and(Report::is_suppressed) => {
                Kind::Dropped
            }
            "Bounce" => Kind::Bounced,
            "Complaint" => feedback::kind(self.complaint.complaint_feedback_type.as_deref()),
            "Reject" | "Rendering Failure" => Kind::Dropped,
            "Open" => Kind::Opened,
            "Click" => Kind::Clicked,
            "Subscription" => self.subscription.subscription_kind(),
            _ => Kind::Other,
        }
    }

    /// Returns the details of the event.
    pub(super) fn report(&self) -> Option<&Report<'a>> {
        Some(match self.event_name() {
            "Bounce" => &self.bounce,
            "Complaint" => &self.complaint,
            "Delivery" => &self.delivery,
            "DeliveryDelay" => &self.delivery_delay,
            "Reject" => &self.reject,
            "Rendering Failure" => &self.failure,
            "Open" => &self.open,
            "Click" => &self.click,
            "Subscription" => &self.subscription,
            _ => return None,
        })
    }

    /// Returns the keys of the recipients, without duplicates. If the report names none, as on opens
    /// and clicks, these are all recipients of the message.
    pub(super) fn recipients(&self) -> Vec<Cow<'_, str>> {
        let report = self.report();
        let named = report.into_iter().flat_map(|report| report.named.iter());
        let named = named.filter_map(|recipient| recipient.email_address.as_deref());
        let listed =
            report.into_iter().flat_map(|report| report.recipients.iter()).map(|text| &**text);
        let mut keys: Vec<_> = named.chain(listed).map(recipient_key).collect();
        if keys.is_empty() {
            keys = self.mail.destination.iter().map(|address| recipient_key(address)).collect();
        }
        if keys.is_empty() {
            let headers = self.mail.common_headers.to.iter();
            keys = headers.flat_map(|header| addresses(header)).map(recipient_key).collect();
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

impl<'a> Report<'a> {
    fn is_suppressed(&self) -> bool {
        bounces::is_suppressed(self.sub_type.as_deref())
    }

    /// Returns the details of one recipient.
    pub(super) fn recipient(&self, key: &str) -> Option<&Recipient<'a>> {
        self.named.iter().find(|recipient| {
            recipient.email_address.as_deref().is_some_and(|address| recipient_key(address) == key)
        })
    }

    /// Returns the kind of a subscription event: the contact left or joined the list or a topic.
    fn subscription_kind(&self) -> Kind {
        let (new, old) = (&self.new_topic_preferences, &self.old_topic_preferences);
        let changed_to = |status: &str| {
            new.topic_subscription_status.iter().any(|topic| {
                topic.subscription_status.as_deref() == Some(status)
                    && !old.topic_subscription_status.contains(topic)
            })
        };
        match (old.unsubscribe_all.is_set(), new.unsubscribe_all.is_set()) {
            (_, true) => Kind::Unsubscribed,
            (false, false) if changed_to("OptOut") => Kind::Unsubscribed,
            (true, false) => Kind::Subscribed,
            (false, false) if changed_to("OptIn") => Kind::Subscribed,
            (false, false) => Kind::Other,
        }
    }
}
