use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use event::Text;
use serde::Deserialize;

use super::address;
use super::record::{Notice, Sns};
use crate::authenticator::FindCertificate;
use crate::examine::Trace;
use crate::{
    Certificate, Received, Refusal, SettingsError, SourceSettings, Verified, freshness, json, times,
};

/// The base64 of the signature of the longest RSA key we take, 8192 bits.
const LONGEST_SIGNATURE: usize = 1_368;

/// RSA PKCS#1 v1.5 over selected fields of the SNS envelope, by a certificate that the envelope
/// names. A good signature proves that it comes from Amazon, not whose topic it was: anyone can
/// make one. That is what the list of topics is for.
#[derive(Debug)]
pub(crate) struct Verifier {
    topics: Vec<String>,
    least_version: u8,
    tolerance_seconds: Option<u64>,
    /// Where there are any, only these are trusted, and none is fetched.
    pinned: Vec<Certificate>,
}

/// A signature of the envelope, decoded.
struct Signature {
    version: u8,
    bytes: Vec<u8>,
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
        let mend = "give none, or signing certificates of Amazon SNS in PEM";
        let pinned = match settings.secrets[..] {
            [] => Vec::new(),
            _ => settings.prepared(mend, |pem| Certificate::parse(pem.trim().as_bytes()).ok())?,
        };
        Ok(Self {
            topics: options.topics.clone(),
            least_version,
            tolerance_seconds: options.tolerance_seconds,
            pinned,
        })
    }

    pub(crate) fn verify(
        &self,
        received: &Received<'_>,
        certificate: &FindCertificate<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Refusal> {
        let is_raw = received.header("x-amz-sns-rawdelivery") == Some("true");
        let sns: Result<Sns<'_>, _> = json::body(received.body);
        let is_envelope = sns.as_ref().is_ok_and(|sns| sns.notice_type.is_some());
        if is_raw || !is_envelope && is_bare_record(received.body) {
            trace.failed("signature", || "raw message delivery leaves it out".to_owned());
            return Err(Refusal::RawDelivery);
        }
        let sns = sns.map_err(|_| Refusal::MalformedSignature("the body is no SNS envelope"))?;
        let key = self.check_signature(&sns, received.now, certificate, trace)?;
        self.check_topic(&sns, trace)?;
        self.check_age(&sns, received.now, trace)?;
        Ok(Verified { key, once: None })
    }

    fn check_topic(&self, sns: &Sns<'_>, trace: &mut Trace) -> Result<(), Refusal> {
        let topic = sns.topic_arn.as_deref().unwrap_or_default();
        if !self.topics.iter().any(|allowed| allowed == topic) {
            trace.failed("topic", || format!("{topic} is not in `topics`"));
            return Err(Refusal::TopicNotAllowed);
        }
        trace.passed("topic", || topic.to_owned());
        Ok(())
    }

    /// Retries carry the time of publication, and so do messages from a queue of days ago.
    fn check_age(&self, sns: &Sns<'_>, now: i64, trace: &mut Trace) -> Result<(), Refusal> {
        let Some(tolerance) = self.tolerance_seconds else {
            trace.skipped("timestamp", || {
                let published = sns.timestamp.as_deref().unwrap_or_default();
                format!("published {published}; any age passes unless `tolerance_seconds` is set")
            });
            return Ok(());
        };
        let published = times::rfc3339(sns.timestamp.as_deref())
            .map_err(|_| Refusal::MalformedSignature("its time is not in RFC 3339"))?;
        freshness::check(published.micros().div_euclid(1_000_000), now, tolerance, trace)
    }

    /// The secret by which it is good, if it is one of those.
    fn check_signature(
        &self,
        sns: &Sns<'_>,
        now: i64,
        certificate: &FindCertificate<'_>,
        trace: &mut Trace,
    ) -> Result<Option<usize>, Refusal> {
        let signature = self.read(sns, trace)?;
        let message = canonical(sns)
            .ok_or(Refusal::MalformedSignature("a field that it covers is not there"))?;
        trace.signed(&[message.as_bytes()]);
        if !self.pinned.is_empty() {
            // Whoever pins a certificate says which key is good and for how long: its dates are
            // Amazon's plan for serving it, and old messages from a queue were signed by old ones.
            let key = self.pinned.iter().position(|pinned| signature.is_by(pinned, &message));
            trace.key(key, self.pinned.len());
            return key.map(Some).ok_or(Refusal::WrongSignature);
        }
        let url = sns.signing_cert_url.as_deref().unwrap_or_default();
        let certificate = fetched(url, now, certificate, trace)?;
        if signature.is_by(&certificate, &message) {
            trace.passed("key", || "the certificate's".to_owned());
            return Ok(None);
        }
        trace.failed("key", || "not the certificate's".to_owned());
        Err(Refusal::WrongSignature)
    }

    fn read(&self, sns: &Sns<'_>, trace: &mut Trace) -> Result<Signature, Refusal> {
        let Some(encoded) = sns.signature.as_deref() else {
            trace.failed("signature", || "the envelope has no `Signature`".to_owned());
            return Err(Refusal::MissingSignature);
        };
        let named = sns.signature_version.as_deref();
        let version = match named {
            Some("1") => 1,
            Some("2") => 2,
            _ => 0,
        };
        if version < self.least_version {
            trace.failed("signature", || {
                format!("version {named:?}; at least {} is asked for", self.least_version)
            });
            return Err(Refusal::SignatureVersionNotAllowed);
        }
        trace.passed("signature", || {
            let hash = if version == 1 { "SHA-1" } else { "SHA-256" };
            format!("`Signature`, version {version} (RSA with {hash}): {encoded}")
        });
        const MALFORMED: Refusal =
            Refusal::MalformedSignature("it is not base64 of 1024 bytes at most");
        if encoded.len() > LONGEST_SIGNATURE {
            return Err(MALFORMED);
        }
        let bytes = STANDARD.decode(encoded).map_err(|_| MALFORMED)?;
        Ok(Signature { version, bytes })
    }
}

impl Signature {
    fn is_by(&self, certificate: &Certificate, message: &str) -> bool {
        match self.version {
            1 => certificate.verifies_sha1(message.as_bytes(), &self.bytes),
            _ => certificate.verifies_sha256(message.as_bytes(), &self.bytes),
        }
    }
}

/// The certificate that the envelope names, if its address is Amazon's and it is valid now.
fn fetched(
    url: &str,
    now: i64,
    certificate: &FindCertificate<'_>,
    trace: &mut Trace,
) -> Result<Arc<Certificate>, Refusal> {
    const NAME: &str = "certificate";
    if !address::is_certificate(url) {
        trace.failed(NAME, || format!("{url:?} is no address of Amazon SNS"));
        return Err(Refusal::UntrustedCertificateUrl);
    }
    let Some(certificate) = certificate(url) else {
        trace.failed(NAME, || format!("{url} could not be had"));
        return Err(Refusal::CertificateNeeded(url.to_owned()));
    };
    if !certificate.is_valid_at(now) {
        trace.failed(NAME, || format!("{url} is not valid now"));
        return Err(Refusal::CertificateInvalid);
    }
    trace.passed(NAME, || url.to_owned());
    Ok(certificate)
}

/// Whether this is an SES record without its envelope, as raw message delivery posts it. The names
/// of the two begin with letters of another case, so one is never the other.
fn is_bare_record(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Bare<'a> {
        #[serde(borrow, default, alias = "notificationType", deserialize_with = "json::word")]
        event_type: Option<Text<'a>>,
    }
    json::body::<Bare<'_>>(body).is_ok_and(|record| record.event_type.is_some())
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
