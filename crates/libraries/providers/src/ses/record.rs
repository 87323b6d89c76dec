use std::borrow::Cow;
use std::collections::BTreeMap;

use event::{Kind, Text, recipient_key};
use serde::Deserialize;

use crate::json;

/// The envelope that Amazon SNS puts around every message. Its types are strict: they are signed.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Sns<'a> {
    #[serde(borrow, default, rename = "Type")]
    pub(super) notice_type: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) message_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) topic_arn: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) subject: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) message: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) timestamp: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) signature_version: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) signature: Option<Text<'a>>,
    // Messages that came by way of Lambda or SQS spell it `Url`.
    #[serde(borrow, default, rename = "SigningCertURL", alias = "SigningCertUrl")]
    pub(super) signing_cert_url: Option<Text<'a>>,
    #[serde(borrow, default, rename = "SubscribeURL", alias = "SubscribeUrl")]
    pub(super) subscribe_url: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) token: Option<Text<'a>>,
}

/// What SNS wants to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    Notification,
    SubscriptionConfirmation,
    UnsubscribeConfirmation,
}

impl Sns<'_> {
    pub(super) fn notice(&self) -> Option<Notice> {
        match self.notice_type.as_deref()? {
            "Notification" => Some(Notice::Notification),
            "SubscriptionConfirmation" => Some(Notice::SubscriptionConfirmation),
            "UnsubscribeConfirmation" => Some(Notice::UnsubscribeConfirmation),
            _ => None,
        }
    }
}

/// What Amazon SES writes into the envelope's `Message`, in either of its dialects: `eventType`
/// (configuration sets) or `notificationType` (identities). Both may be on at the same time.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    event_type: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    notification_type: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    pub(super) mail: Mail<'a>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    pub(super) bounce: Report<'a>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    pub(super) complaint: Report<'a>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    pub(super) delivery: Report<'a>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    pub(super) delivery_delay: Report<'a>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    pub(super) reject: Report<'a>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    pub(super) failure: Report<'a>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    pub(super) open: Report<'a>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    pub(super) click: Report<'a>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    pub(super) subscription: Report<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mail<'a> {
    /// When it was sent.
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) timestamp: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) message_id: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::words")]
    pub(super) destination: Vec<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    pub(super) tags: BTreeMap<Text<'a>, Values<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Values<'a>(
    #[serde(borrow, deserialize_with = "json::words")] pub(super) Vec<Text<'a>>,
);

/// The object that goes with an event's type; the fields of all of them together.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report<'a> {
    /// When it happened.
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) timestamp: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) bounce_type: Option<Text<'a>>,
    #[serde(
        borrow,
        default,
        alias = "complaintSubType",
        alias = "delayType",
        rename = "bounceSubType",
        deserialize_with = "json::word"
    )]
    pub(super) sub_type: Option<Text<'a>>,
    #[serde(
        borrow,
        default,
        alias = "complainedRecipients",
        alias = "delayedRecipients",
        rename = "bouncedRecipients",
        deserialize_with = "json::parts"
    )]
    named: Vec<Recipient<'a>>,
    /// Of a delivery.
    #[serde(borrow, default, deserialize_with = "json::words")]
    recipients: Vec<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) ip_address: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) user_agent: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) link: Option<Text<'a>>,
    /// Of a reject.
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) reason: Option<Text<'a>>,
    /// Of a rendering failure.
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) error_message: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    new_topic_preferences: Preferences<'a>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    old_topic_preferences: Preferences<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Recipient<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    email_address: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) status: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) diagnostic_code: Option<Text<'a>>,
}

/// A contact's choices on a contact list.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Preferences<'a> {
    #[serde(default, deserialize_with = "json::flag")]
    unsubscribe_all: bool,
    #[serde(borrow, default, deserialize_with = "json::parts")]
    topic_subscription_status: Vec<Topic<'a>>,
}

#[derive(Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Topic<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    topic_name: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    subscription_status: Option<Text<'a>>,
}

impl<'a> Record<'a> {
    pub(super) fn event_name(&self) -> &str {
        self.event_type.as_deref().or(self.notification_type.as_deref()).unwrap_or_default()
    }

    pub(super) fn kind(&self) -> Kind {
        match self.event_name() {
            "Send" => Kind::Accepted,
            "Delivery" => Kind::Delivered,
            "DeliveryDelay" => Kind::Deferred,
            // On a suppression list: nothing was sent.
            "Bounce" | "Complaint" if self.report().is_some_and(Report::is_suppressed) => {
                Kind::Dropped
            }
            "Bounce" => Kind::Bounced,
            "Complaint" => Kind::Complained,
            "Reject" | "Rendering Failure" => Kind::Dropped,
            "Open" => Kind::Opened,
            "Click" => Kind::Clicked,
            "Subscription" => self.subscription.subscription(),
            _ => Kind::Other,
        }
    }

    /// The object that goes with the event's type.
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

    /// Whom it is about, each once: those that the report names, otherwise everyone the message
    /// went to, for opens and clicks do not say who it was.
    pub(super) fn recipients(&self) -> Vec<Cow<'_, str>> {
        let report = self.report();
        let named = report.into_iter().flat_map(|report| &report.named);
        let named = named.filter_map(|recipient| recipient.email_address.as_deref());
        let listed = report.into_iter().flat_map(|report| &report.recipients).map(|text| &**text);
        let mut keys: Vec<_> = named.chain(listed).map(recipient_key).collect();
        if keys.is_empty() {
            keys = self.mail.destination.iter().map(|address| recipient_key(address)).collect();
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

impl<'a> Report<'a> {
    fn is_suppressed(&self) -> bool {
        matches!(self.sub_type.as_deref(), Some("Suppressed" | "OnAccountSuppressionList"))
    }

    /// What it says of one recipient.
    pub(super) fn of(&self, key: &str) -> Option<&Recipient<'a>> {
        self.named.iter().find(|recipient| {
            recipient.email_address.as_deref().is_some_and(|address| recipient_key(address) == key)
        })
    }

    /// Whether the contact left or came: of the whole list, or of some topic.
    fn subscription(&self) -> Kind {
        let (new, old) = (&self.new_topic_preferences, &self.old_topic_preferences);
        let turned = |status: &str| {
            new.topic_subscription_status.iter().any(|topic| {
                topic.subscription_status.as_deref() == Some(status)
                    && !old.topic_subscription_status.contains(topic)
            })
        };
        match (old.unsubscribe_all, new.unsubscribe_all) {
            (_, true) => Kind::Unsubscribed,
            (false, false) if turned("OptOut") => Kind::Unsubscribed,
            (true, false) => Kind::Subscribed,
            (false, false) if turned("OptIn") => Kind::Subscribed,
            (false, false) => Kind::Other,
        }
    }
}
