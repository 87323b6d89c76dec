use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::address;
use super::record::{Notice, Sns};
use crate::authenticator::Request;
use crate::{Certificate, Refusal, SettingsError, SourceSettings, freshness, json, times};

/// The signature of the longest RSA key we take, 8192 bits.
const LONGEST_SIGNATURE: usize = 1024;

/// RSA PKCS#1 v1.5 over selected fields of the SNS envelope, by a certificate that the envelope
/// names. A good signature proves that it comes from Amazon, not whose topic it was: anyone can
/// make one. That is what the list of topics is for.
#[derive(Debug)]
pub(crate) struct Verifier {
    topics: Vec<String>,
    least_version: u8,
    tolerance_seconds: Option<u64>,
}

impl Verifier {
    pub(crate) fn new(settings: &SourceSettings) -> Result<Self, SettingsError> {
        let options = &settings.options;
        let least_version = options.signature_version.unwrap_or(1);
        if !(1..=2).contains(&least_version) {
            return Err(settings.bad_option("signature_version", "must be 1 or 2"));
        }
        if options.topics.iter().any(|topic| !topic.starts_with("arn:")) {
            return Err(settings.bad_option("topics", "must be TopicArns such as arn:aws:sns:…"));
        }
        Ok(Self {
            topics: options.topics.clone(),
            least_version,
            tolerance_seconds: options.tolerance_seconds,
        })
    }

    pub(crate) fn verify(
        &self,
        request: &Request<'_>,
        certificate: &dyn Fn(&str) -> Option<Arc<Certificate>>,
    ) -> Result<(), Refusal> {
        // Raw delivery leaves the envelope, and with it the signature, out.
        if request.header("x-amz-sns-rawdelivery") == Some("true") {
            return Err(Refusal::MissingSignature);
        }
        let sns: Sns<'_> = json::body(request.body)
            .map_err(|_| Refusal::MalformedSignature("the body is no SNS envelope"))?;
        self.check_signature(&sns, request.now, certificate)?;
        let topic = sns.topic_arn.as_deref().unwrap_or_default();
        if !self.topics.iter().any(|allowed| allowed == topic) {
            return Err(Refusal::TopicNotAllowed);
        }
        let Some(tolerance) = self.tolerance_seconds else { return Ok(()) };
        let published = times::rfc3339(sns.timestamp.as_deref())
            .map_err(|_| Refusal::MalformedSignature("its time is not in RFC 3339"))?;
        freshness::check(published.micros().div_euclid(1_000_000), request.now, tolerance)
    }

    fn check_signature(
        &self,
        sns: &Sns<'_>,
        now: i64,
        certificate: &dyn Fn(&str) -> Option<Arc<Certificate>>,
    ) -> Result<(), Refusal> {
        let encoded = sns.signature.as_deref().ok_or(Refusal::MissingSignature)?;
        let message = canonical(sns)
            .ok_or(Refusal::MalformedSignature("a field that it covers is not there"))?;
        let version = match sns.signature_version.as_deref() {
            Some("1") => 1,
            Some("2") => 2,
            _ => return Err(Refusal::SignatureVersionNotAllowed),
        };
        if version < self.least_version {
            return Err(Refusal::SignatureVersionNotAllowed);
        }
        let mut buffer = [0; LONGEST_SIGNATURE + 2];
        let length = STANDARD
            .decode_slice(encoded, &mut buffer)
            .map_err(|_| Refusal::MalformedSignature("it is not base64 of 1024 bytes at most"))?;

        let url = sns.signing_cert_url.as_deref().unwrap_or_default();
        if !address::is_certificate(url) {
            return Err(Refusal::UntrustedCertificateUrl);
        }
        let certificate =
            certificate(url).ok_or_else(|| Refusal::CertificateNeeded(url.to_owned()))?;
        if !certificate.is_valid_at(now) {
            return Err(Refusal::CertificateInvalid);
        }
        let good = match version {
            1 => certificate.verifies_sha1(message.as_bytes(), &buffer[..length]),
            _ => certificate.verifies_sha256(message.as_bytes(), &buffer[..length]),
        };
        if good { Ok(()) } else { Err(Refusal::WrongSignature) }
    }
}

/// What is signed: the covered fields in the order of their names, each as `name\nvalue\n`.
/// `None` where one is missing.
fn canonical(sns: &Sns<'_>) -> Option<String> {
    let message = sns.message.as_deref()?;
    let mut text = String::with_capacity(message.len() + 512);
    let mut field = |name: &str, value: &str| {
        for line in [name, value] {
            text.push_str(line);
            text.push('\n');
        }
    };
    let notice = sns.notice()?;
    field("Message", message);
    field("MessageId", sns.message_id.as_deref()?);
    match notice {
        // A subject that is there and empty is covered; one that is null is not there.
        Notice::Notification => {
            if let Some(subject) = sns.subject.as_deref() {
                field("Subject", subject);
            }
        }
        Notice::SubscriptionConfirmation | Notice::UnsubscribeConfirmation => {
            field("SubscribeURL", sns.subscribe_url.as_deref()?);
        }
    }
    field("Timestamp", sns.timestamp.as_deref()?);
    if notice != Notice::Notification {
        field("Token", sns.token.as_deref()?);
    }
    field("TopicArn", sns.topic_arn.as_deref()?);
    field("Type", sns.notice_type.as_deref()?);
    Some(text)
}
