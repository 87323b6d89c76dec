use event::Text;
use serde::Deserialize;

/// The envelope that Amazon SNS puts around every message. Its types are strict, because it is
/// signed.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SnsMessage<'a> {
    #[serde(borrow, rename = "Type")]
    pub(super) type_name: Option<Text<'a>>,
    pub(super) message_id: Option<Text<'a>>,
    pub(super) topic_arn: Option<Text<'a>>,
    pub(super) subject: Option<Text<'a>>,
    pub(super) message: Option<Text<'a>>,
    pub(super) timestamp: Option<Text<'a>>,
    pub(super) signature_version: Option<Text<'a>>,
    pub(super) signature: Option<Text<'a>>,
    // Messages that pass through Lambda or SQS have `Url` in these names.
    #[serde(rename = "SigningCertURL", alias = "SigningCertUrl")]
    pub(super) signing_cert_url: Option<Text<'a>>,
    #[serde(rename = "SubscribeURL", alias = "SubscribeUrl")]
    pub(super) subscribe_url: Option<Text<'a>>,
    pub(super) token: Option<Text<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageType {
    Notification,
    SubscriptionConfirmation,
    UnsubscribeConfirmation,
}

impl SnsMessage<'_> {
    pub(super) fn message_type(&self) -> Option<MessageType> {
        match self.type_name.as_deref()? {
            "Notification" => Some(MessageType::Notification),
            "SubscriptionConfirmation" => Some(MessageType::SubscriptionConfirmation),
            "UnsubscribeConfirmation" => Some(MessageType::UnsubscribeConfirmation),
            _ => None,
        }
    }
}
