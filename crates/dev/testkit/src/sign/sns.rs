//! Signs requests of Amazon SES, which posts through Amazon SNS: an envelope whose `Message` is
//! JSON in a string.

use event::Provider;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{expect_signed, request};
use crate::signers::{self, SnsSigner};
use crate::time_formats::{SECOND, iso_millis};
use crate::{Credentials, SignedRequest};

/// Signs an SES record with `SignatureVersion` 2. Like SES, it appends a line feed to the record.
pub fn ses(
    credentials: &Credentials,
    source: &str,
    record: &Value,
    now_unix: i64,
) -> SignedRequest {
    ses_message(credentials, source, &format!("{record}\n"), now_unix)
}

/// Signs an SNS notification with any text as its message. `MessageId` is derived from the text, so
/// the same text is the same notification.
pub fn ses_message(
    credentials: &Credentials,
    source: &str,
    message: &str,
    now_unix: i64,
) -> SignedRequest {
    let fields = [
        ("Type", "Notification".to_owned()),
        ("MessageId", message_id(source, message)),
        ("TopicArn", credentials.topic_arn().to_owned()),
        ("Message", message.to_owned()),
        ("Timestamp", iso_millis(now_unix * SECOND)),
    ];
    envelope(credentials, source, &fields)
}

/// Signs the message with which SNS asks an endpoint to confirm a subscription.
pub fn ses_subscription_confirmation(
    credentials: &Credentials,
    source: &str,
    now_unix: i64,
) -> SignedRequest {
    let topic = credentials.topic_arn();
    let token = hex::encode(Sha256::digest(topic));
    let url = format!(
        "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={topic}&Token={token}"
    );
    let message = format!(
        "You have chosen to subscribe to the topic {topic}.\n\
         To confirm the subscription, visit the SubscribeURL included in this message."
    );
    let fields = [
        ("Type", "SubscriptionConfirmation".to_owned()),
        ("MessageId", message_id(source, &message)),
        ("Token", token),
        ("TopicArn", topic.to_owned()),
        ("Message", message),
        ("SubscribeURL", url),
        ("Timestamp", iso_millis(now_unix * SECOND)),
    ];
    envelope(credentials, source, &fields)
}

fn envelope(credentials: &Credentials, source: &str, fields: &[(&str, String)]) -> SignedRequest {
    let certificate_url = credentials.sns_certificate_url();
    let signer = SnsSigner { key: &credentials.sns, certificate_url, version: 2 };
    request(Provider::Ses, source, expect_signed(signers::sns(signer, fields)))
}

fn message_id(source: &str, message: &str) -> String {
    let digest = Sha256::new().chain_update(source).chain_update(message).finalize();
    crate::payloads::uuid_text(&digest[..16])
}
