/// Why a request was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request comes from an address that is not on the source's list.
    #[error("the address that it comes from is not on the source's list")]
    AddressNotAllowed,
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
    /// Mailgun: the signature is good, and was used before for another event.
    #[error("the signature was used before for other content")]
    Replayed,
    /// SES: raw message delivery is on, which leaves the envelope and its signature out.
    #[error("raw message delivery is on, which carries no signature: turn it off")]
    RawDelivery,
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
            Self::AddressNotAllowed => "address_not_allowed",
            Self::MissingSignature => "missing_signature",
            Self::MalformedSignature(_) => "malformed_signature",
            Self::WrongSignature => "wrong_signature",
            Self::Stale { .. } => "stale_signature",
            Self::Replayed => "replayed_signature",
            Self::RawDelivery => "raw_delivery",
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
