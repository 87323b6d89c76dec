//! The scheme of Amazon SNS, through which SES posts.

use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::Value;

use super::asymmetric::{rsa, rsa_sha1};
use super::{SignedBody, SigningFailed};

/// The signed fields of an SNS envelope in the order of signing. Fields that the envelope does not
/// have are omitted.
pub const ENVELOPE_FIELDS: [&str; 8] =
    ["Message", "MessageId", "SubscribeURL", "Subject", "Timestamp", "Token", "TopicArn", "Type"];

#[derive(Debug, Clone, Copy)]
pub struct SnsSigner<'a> {
    pub key: &'a RsaKeyPair,
    /// `SigningCertURL` of the message.
    pub certificate_url: &'a str,
    /// `SignatureVersion`: 1 signs with SHA-1, 2 with SHA-256.
    pub version: u8,
}

/// Signs an SNS message with these fields: RSA PKCS#1 v1.5 over `name\nvalue\n` of each of
/// [`ENVELOPE_FIELDS`] with unescaped values, base64.
///
/// # Errors
/// If the key cannot sign.
pub fn sns(signer: SnsSigner<'_>, fields: &[(&str, String)]) -> Result<SignedBody, SigningFailed> {
    let text = canonical(fields);
    let signature = match signer.version {
        1 => rsa_sha1(signer.key, text.as_bytes())?,
        _ => rsa(signer.key, &RSA_PKCS1_SHA256, text.as_bytes())?,
    };
    let mut fields = fields.to_vec();
    fields.push(("SignatureVersion", signer.version.to_string()));
    fields.push(("Signature", signature));
    fields.push(("SigningCertURL", signer.certificate_url.to_owned()));
    let lines: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("  \"{name}\" : {}", Value::from(value.as_str())))
        .collect();
    let body = format!("{{\n{}\n}}", lines.join(",\n"));
    let headers = [
        ("content-type", "text/plain; charset=UTF-8"),
        ("user-agent", "Amazon Simple Notification Service Agent"),
        ("x-amz-sns-message-type", value_of(&fields, "Type").unwrap_or_default()),
        ("x-amz-sns-message-id", value_of(&fields, "MessageId").unwrap_or_default()),
        ("x-amz-sns-topic-arn", value_of(&fields, "TopicArn").unwrap_or_default()),
    ];
    Ok(SignedBody::new(&headers, body.into()))
}

fn canonical(fields: &[(&str, String)]) -> String {
    ENVELOPE_FIELDS
        .iter()
        .filter_map(|name| Some(format!("{name}\n{}\n", value_of(fields, name)?)))
        .collect()
}

fn value_of<'f>(fields: &'f [(&str, String)], wanted: &str) -> Option<&'f str> {
    fields.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_str())
}
