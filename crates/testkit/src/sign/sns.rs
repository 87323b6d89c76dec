//! Amazon SES behind Amazon SNS: an envelope whose `Message` is JSON in a string.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use event::Provider;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::request;
use crate::clock::{SECOND, iso_millis};
use crate::{Credentials, SignedRequest};

/// A field of the envelope: in this order on the wire.
type Field = (&'static str, String);

/// Amazon SES through SNS, `SignatureVersion` 2: the record is the notification's `Message`, with
/// the line feed that SES puts after it.
pub fn ses(
    credentials: &Credentials,
    source: &str,
    record: &Value,
    now_unix: i64,
) -> SignedRequest {
    ses_message(credentials, source, &format!("{record}\n"), now_unix)
}

/// An SNS notification with any text as its message. `MessageId` is made from the text, so the
/// same text is the same notification.
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
    let signed = ["Message", "MessageId", "Timestamp", "TopicArn", "Type"];
    envelope(credentials, source, &fields, &signed)
}

/// The message by which SNS asks whether a topic may post to this endpoint.
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
    let signed = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"];
    envelope(credentials, source, &fields, &signed)
}

fn envelope(
    credentials: &Credentials,
    source: &str,
    fields: &[Field],
    signed: &[&str],
) -> SignedRequest {
    let mut fields = fields.to_vec();
    fields.push(("SignatureVersion", "2".to_owned()));
    fields.push(("Signature", signature(credentials, &canonical(&fields, signed))));
    fields.push(("SigningCertURL", credentials.sns_certificate_url().to_owned()));
    let lines: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("  \"{name}\" : {}", Value::from(value.as_str())))
        .collect();
    let body = format!("{{\n{}\n}}", lines.join(",\n"));
    let field = |wanted: &str| {
        fields.iter().find(|(name, _)| *name == wanted).map_or("", |(_, value)| value.as_str())
    };
    request(
        Provider::Ses,
        source,
        &[
            ("content-type", "text/plain; charset=UTF-8"),
            ("user-agent", "Amazon Simple Notification Service Agent"),
            ("x-amz-sns-message-type", field("Type")),
            ("x-amz-sns-message-id", field("MessageId")),
            ("x-amz-sns-topic-arn", field("TopicArn")),
        ],
        body.into(),
    )
}

/// What SNS signs: `name\nvalue\n` of the named fields, in that order, values unescaped.
fn canonical(fields: &[Field], signed: &[&str]) -> String {
    signed
        .iter()
        .filter_map(|wanted| fields.iter().find(|(name, _)| name == wanted))
        .map(|(name, value)| format!("{name}\n{value}\n"))
        .collect()
}

/// RSA PKCS#1 v1.5 with SHA-256, base64.
fn signature(credentials: &Credentials, text: &str) -> String {
    let mut signature = vec![0; credentials.sns.public_modulus_len()];
    credentials
        .sns
        .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
        .map(|()| STANDARD.encode(signature))
        .unwrap_or_default()
}

fn message_id(source: &str, message: &str) -> String {
    let digest = Sha256::new().chain_update(source).chain_update(message).finalize();
    crate::shape::uuid_text(&digest[..16])
}
