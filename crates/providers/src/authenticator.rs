use std::sync::Arc;

use event::Provider;
use http::HeaderMap;

use crate::{
    Certificate, SettingsError, SourceSettings, generic, mailgun, mandrill, postmark, sendgrid, ses,
};

/// Proves that a request comes from the provider of one source. Built once; its keys are parsed.
#[derive(Debug)]
pub struct Authenticator(Verifier);

#[derive(Debug)]
enum Verifier {
    SendGrid(sendgrid::Verifier),
    Mailgun(mailgun::Verifier),
    Postmark(postmark::Verifier),
    Ses(ses::Verifier),
    Mandrill(mandrill::Verifier),
    Generic(generic::Verifier),
}

/// One request as it came in.
pub(crate) struct Request<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    /// Unix seconds, by the caller's clock.
    pub(crate) now: i64,
}

impl Request<'_> {
    /// A header's value where it is visible ASCII.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why a request was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The signature, or the time it covers, is not where the provider puts it.
    #[error("the request carries no signature")]
    MissingSignature,
    /// There is a signature, and it cannot be read.
    #[error("the signature cannot be read: {0}")]
    MalformedSignature(&'static str),
    /// No active secret made this signature of these bytes.
    #[error("the signature is not one of this body by any active secret")]
    WrongSignature,
    /// The signature is good and too far from now.
    #[error("the signature's time is {skew_seconds} s away from now")]
    Stale {
        /// Now minus the signed time: positive when the request is old.
        skew_seconds: i64,
    },
    /// SES: the certificate's address is not one of Amazon SNS.
    #[error("the certificate's address is not one of Amazon SNS")]
    UntrustedCertificateUrl,
    /// SES: fetch this certificate and call again. Not an answer to the provider.
    #[error("the certificate at {0} is needed")]
    CertificateNeeded(String),
    /// SES: the certificate is not valid now.
    #[error("the signing certificate is not valid now")]
    CertificateInvalid,
    /// SES: the message's signature version is not allowed for this source, or not known.
    #[error("signature version not allowed")]
    SignatureVersionNotAllowed,
    /// SES: genuine, of a topic that is not on the source's list.
    #[error("the topic is not on the source's list")]
    TopicNotAllowed,
    /// No credentials, where the provider has no signatures.
    #[error("the request carries no credentials")]
    MissingCredentials,
    /// Credentials that are not the source's.
    #[error("the credentials are not the source's")]
    WrongCredentials,
}

impl Refusal {
    /// The stable name: problem `code` and metric label.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::MissingSignature => "missing_signature",
            Self::MalformedSignature(_) => "malformed_signature",
            Self::WrongSignature => "wrong_signature",
            Self::Stale { .. } => "stale_signature",
            Self::UntrustedCertificateUrl => "untrusted_certificate_url",
            Self::CertificateNeeded(_) => "certificate_unavailable",
            Self::CertificateInvalid => "certificate_invalid",
            Self::SignatureVersionNotAllowed => "signature_version_not_allowed",
            Self::TopicNotAllowed => "topic_not_allowed",
            Self::MissingCredentials => "missing_credentials",
            Self::WrongCredentials => "wrong_credentials",
        }
    }
}

impl Authenticator {
    /// Checks a source's settings and parses its keys.
    pub fn new(settings: &SourceSettings) -> Result<Self, SettingsError> {
        settings.check_options()?;
        Ok(Self(match settings.provider {
            Provider::SendGrid => Verifier::SendGrid(sendgrid::Verifier::new(settings)?),
            Provider::Mailgun => Verifier::Mailgun(mailgun::Verifier::new(settings)?),
            Provider::Postmark => Verifier::Postmark(postmark::Verifier::new(settings)?),
            Provider::Ses => Verifier::Ses(ses::Verifier::new(settings)?),
            Provider::Mandrill => Verifier::Mandrill(mandrill::Verifier::new(settings)?),
            Provider::Generic => Verifier::Generic(generic::Verifier::new(settings)?),
        }))
    }

    /// Whether this request is the provider's, over the bytes as received.
    ///
    /// `now` is unix seconds. SES alone asks for `certificate`: it is given the address that the
    /// message names, already known to be one of Amazon SNS. When it answers `None`, the refusal
    /// is [`Refusal::CertificateNeeded`] with that address; fetch it and call again.
    pub fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: i64,
        certificate: &dyn Fn(&str) -> Option<Arc<Certificate>>,
    ) -> Result<(), Refusal> {
        let request = Request { headers, body, now };
        match &self.0 {
            Verifier::SendGrid(verifier) => verifier.verify(&request),
            Verifier::Mailgun(verifier) => verifier.verify(&request),
            Verifier::Postmark(verifier) => verifier.verify(&request),
            Verifier::Ses(verifier) => verifier.verify(&request, certificate),
            Verifier::Mandrill(verifier) => verifier.verify(&request),
            Verifier::Generic(verifier) => verifier.verify(&request),
        }
    }
}
