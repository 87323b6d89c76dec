use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::Options;
use super::sns::{MessageType, SnsMessage};
use super::sns_url;
use crate::json::{self, LenientText};
use crate::{
    Certificate, FindCertificate, ReceivedRequest, Rejection, SettingsError, SourceSettings, Trace,
    Verified, freshness, times,
};

/// The base64 length of a signature by the longest accepted RSA key, 8192 bits.
const MAX_SIGNATURE: usize = 1_368;

/// Verifies the RSA PKCS#1 v1.5 signature of selected fields of the SNS envelope, by a certificate
/// that the envelope names. A good signature proves that Amazon sent the message, but any customer
/// of Amazon can create a topic; therefore the list of topics is checked too. Secrets, if there are
/// any, are certificates in PEM.
#[derive(Debug)]
pub(crate) struct Verifier {
    topics: Vec<String>,
    min_version: u8,
    tolerance_seconds: Option<u64>,
    /// If there are any, only these are trusted and no certificate is fetched.
    pinned: Vec<Certificate>,
}

/// The decoded signature of the envelope.
struct Signature {
    version: u8,
    bytes: Vec<u8>,
}

impl Verifier {
    pub(crate) fn new(settings: &SourceSettings, options: &Options) -> Result<Self, SettingsError> {
        let min_version = options.signature_version.unwrap_or(1);
        if !(1..=2).contains(&min_version) {
            return Err(settings.bad_option("signature_version", "must be 1 or 2"));
        }
        if options.topics.iter().any(|topic| !topic.starts_with("arn:")) {
            return Err(settings.bad_option("topics", "must be TopicArns such as arn:aws:sns:…"));
        }
        let fix = "give none, or signing certificates of Amazon SNS in PEM";
        let pinned = match settings.secrets[..] {
            [] => Vec::new(),
            _ => {
                settings.read_secrets(fix, |pem| Certificate::parse(pem.trim().as_bytes()).ok())?
            }
        };
        Ok(Self {
            topics: options.topics.clone(),
            min_version,
            tolerance_seconds: options.tolerance_seconds,
            pinned,
        })
    }

    /// The signature is in the body, so nothing can be checked without it.
    pub(crate) const fn check_head(&self, _: &ReceivedRequest<'_>) -> Result<(), Rejection> {
        Ok(())
    }

    pub(crate) fn verify(
        &self,
        request: &ReceivedRequest<'_>,
        certificates: &FindCertificate<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Rejection> {
        let is_raw = request.header("x-amz-sns-rawdelivery") == Some("true");
        let sns: Result<SnsMessage<'_>, _> = json::body(request.body);
        let is_envelope = sns.as_ref().is_ok_and(|sns| sns.type_name.is_some());
        if is_raw || !is_envelope && is_bare_event(request.body) {
            trace
                .failed("signature", || "raw message delivery leaves out the signature".to_owned());
            return Err(Rejection::RawDelivery);
        }
        let sns =
            sns.map_err(|_| Rejection::MalformedSignature("the body is not an SNS envelope"))?;
        let signature = self.read(&sns, trace)?;
        // Before a certificate is fetched, so that a stranger cannot cause fetches.
        self.check_topic(&sns, trace)?;
        let key = self.check_signature(&signature, &sns, request.now, certificates, trace)?;
        self.check_age(&sns, request.now, trace)?;
        Ok(Verified { key, single_use: None })
    }

    fn check_topic(&self, sns: &SnsMessage<'_>, trace: &mut Trace) -> Result<(), Rejection> {
        let topic = sns.topic_arn.as_deref().unwrap_or_default();
        if !self.topics.iter().any(|allowed| allowed == topic) {
            trace.failed("topic", || format!("{topic} is not in `topics`"));
            return Err(Rejection::TopicNotAllowed);
        }
        trace.passed("topic", || topic.to_owned());
        Ok(())
    }

    /// The time is that of publication, also on retries and on messages that a dead-letter queue
    /// delivers days later.
    fn check_age(
        &self,
        sns: &SnsMessage<'_>,
        now: i64,
        trace: &mut Trace,
    ) -> Result<(), Rejection> {
        let Some(tolerance) = self.tolerance_seconds else {
            trace.skipped("timestamp", || {
                let published = sns.timestamp.as_deref().unwrap_or_default();
                format!("published {published}; any age passes unless `tolerance_seconds` is set")
            });
            return Ok(());
        };
        let published = times::rfc3339(sns.timestamp.as_deref())
            .map_err(|_| Rejection::MalformedSignature("its time is not in RFC 3339"))?;
        freshness::check(published.micros().div_euclid(1_000_000), now, tolerance, trace)
    }

    /// Returns the index of the pinned certificate, if one is used.
    fn check_signature(
        &self,
        signature: &Signature,
        sns: &SnsMessage<'_>,
        now: i64,
        certificates: &FindCertificate<'_>,
        trace: &mut Trace,
    ) -> Result<Option<usize>, Rejection> {
        let message = canonical(sns)
            .ok_or(Rejection::MalformedSignature("a field that it covers is missing"))?;
        trace.signed(&[message.as_bytes()]);
        if !self.pinned.is_empty() {
            // The operator decides how long a pinned certificate is valid, so its dates are
            // ignored: old messages from a queue may be signed by an expired certificate.
            let key = self.pinned.iter().position(|pinned| signature.is_by(pinned, &message));
            trace.key(key, self.pinned.len());
            return key.map(Some).ok_or(Rejection::WrongSignature);
        }
        let url = sns.signing_cert_url.as_deref().unwrap_or_default();
        let certificate = self.fetched(url, now, certificates, trace)?;
        if signature.is_by(&certificate, &message) {
            trace.passed("key", || "the certificate's key made it".to_owned());
            return Ok(None);
        }
        trace.failed("key", || "the certificate's key did not make it".to_owned());
        Err(Rejection::WrongSignature)
    }

    /// Returns the certificate that the envelope names, if its URL belongs to Amazon SNS in the region of one
    /// of the topics and it is valid now.
    fn fetched(
        &self,
        url: &str,
        now: i64,
        certificates: &FindCertificate<'_>,
        trace: &mut Trace,
    ) -> Result<Arc<Certificate>, Rejection> {
        const NAME: &str = "certificate";
        if !sns_url::is_certificate(url, self.topics.iter().map(String::as_str)) {
            trace.failed(NAME, || {
                format!("{url:?} does not belong to Amazon SNS in a region of `topics`")
            });
            return Err(Rejection::UntrustedCertificateUrl);
        }
        let Some(certificate) = certificates(url) else {
            trace.failed(NAME, || format!("{url} is not available"));
            return Err(Rejection::CertificateNeeded(url.to_owned()));
        };
        if !certificate.is_valid_at(now) {
            trace.failed(NAME, || format!("{url} is not valid now"));
            return Err(Rejection::CertificateInvalid);
        }
        trace.passed(NAME, || url.to_owned());
        Ok(certificate)
    }

    fn read(&self, sns: &SnsMessage<'_>, trace: &mut Trace) -> Result<Signature, Rejection> {
        let Some(encoded) = sns.signature.as_deref() else {
            trace.failed("signature", || "the envelope has no `Signature`".to_owned());
            return Err(Rejection::MissingSignature);
        };
        let named = sns.signature_version.as_deref();
        let version = match named {
            Some("1") => 1,
            Some("2") => 2,
            _ => 0,
        };
        if version < self.min_version {
            trace.failed("signature", || {
                format!("version {named:?}; the source accepts {} or higher", self.min_version)
            });
            return Err(Rejection::SignatureVersionNotAllowed);
        }
        trace.passed("signature", || {
            let hash = if version == 1 { "SHA-1" } else { "SHA-256" };
            format!("`Signature`, version {version} (RSA with {hash}): {encoded}")
        });
        const MALFORMED: Rejection =
            Rejection::MalformedSignature("it is not base64 of 1024 bytes at most");
        if encoded.len() > MAX_SIGNATURE {
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

/// True for an SES event without its envelope, as raw message delivery posts it. Its keys begin in
/// lower case and those of an envelope in upper case, so they cannot be confused.
fn is_bare_event(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct BareEvent<'a> {
        #[serde(borrow, alias = "notificationType")]
        event_type: LenientText<'a>,
    }
    json::body::<BareEvent<'_>>(body).is_ok_and(|event| event.event_type.is_some())
}

/// Returns the signed text: the covered fields ordered by name, each as `name\nvalue\n`. `None` if
/// a field is missing.
fn canonical(sns: &SnsMessage<'_>) -> Option<String> {
    let message = sns.message.as_deref()?;
    let mut text = String::with_capacity(message.len() + 512);
    let mut field = |name: &str, value: &str| {
        for line in [name, value] {
            text.push_str(line);
            text.push('\n');
        }
    };
    let message_type = sns.message_type()?;
    field("Message", message);
    field("MessageId", sns.message_id.as_deref()?);
    match message_type {
        // An empty subject is covered; a subject that is null counts as missing.
        MessageType::Notification => {
            if let Some(subject) = sns.subject.as_deref() {
                field("Subject", subject);
            }
        }
        MessageType::SubscriptionConfirmation | MessageType::UnsubscribeConfirmation => {
            field("SubscribeURL", sns.subscribe_url.as_deref()?);
        }
    }
    field("Timestamp", sns.timestamp.as_deref()?);
    if message_type != MessageType::Notification {
        field("Token", sns.token.as_deref()?);
    }
    field("TopicArn", sns.topic_arn.as_deref()?);
    field("Type", sns.type_name.as_deref()?);
    Some(text)
}
