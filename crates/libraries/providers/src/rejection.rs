/// Why a request was rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("the client's address is not in the source's `allow_ips`")]
    AddressNotAllowed,
    /// The signature, or the time that it covers, is not where the provider puts it.
    #[error("the request carries no signature")]
    MissingSignature,
    #[error("the signature cannot be read: {0}")]
    MalformedSignature(&'static str),
    /// No secret of the source made this signature over these bytes.
    #[error("the signature does not match this body under any of the source's secrets")]
    WrongSignature,
    /// The signature is good, and its time is too far from now.
    #[error("the signed time is {skew_seconds} s away from now")]
    Stale {
        /// Now minus the signed time: positive if the request is old.
        skew_seconds: i64,
    },
    /// Mailgun: the signature is good, and another event used it before.
    #[error("the signature was used before for other content")]
    Replayed,
    /// SES: raw message delivery leaves out the envelope, and with it the signature.
    #[error("raw message delivery is on, so there is no signature; turn it off at Amazon SNS")]
    RawDelivery,
    /// SES: the address of the certificate does not belong to Amazon SNS.
    #[error("the certificate's address does not belong to Amazon SNS")]
    UntrustedCertificateUrl,
    /// SES: the caller must fetch the certificate at this URL and verify again. This is not the final
    /// result.
    #[error("the certificate at {0} is needed")]
    CertificateNeeded(String),
    /// SES: the certificate is expired or not yet valid.
    #[error("the signing certificate is not valid now")]
    CertificateInvalid,
    /// SES: the source does not accept the message's signature version, or it is unknown.
    #[error("the source does not accept this signature version")]
    SignatureVersionNotAllowed,
    /// SES: the message is genuine, and its topic is not on the source's list.
    #[error("the topic is not in the source's `topics`")]
    TopicNotAllowed,
    /// The provider does not sign, and the request has no credentials.
    #[error("the request carries no credentials")]
    MissingCredentials,
    #[error("the credentials do not match any of the source's secrets")]
    WrongCredentials,
}

impl Rejection {
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
