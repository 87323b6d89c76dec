use aws_lc_rs::signature::{
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256,
};
use x509_cert::der::{DecodePem, Encode};

/// An SNS signing certificate: its public key and the dates it is good between.
///
/// The chain above it is not checked: its trust comes from having been fetched over TLS from the
/// host that [`crate::Authenticator::verify`] had checked.
#[derive(Debug)]
pub struct Certificate {
    sha1: ParsedPublicKey,
    sha256: ParsedPublicKey,
    not_before: i64,
    not_after: i64,
}

/// The PEM text is not a certificate that SNS could have signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not a PEM block with an X.509 certificate.
    #[error("not an X.509 certificate in PEM")]
    NotACertificate,
    /// The public key is not RSA of 2048 to 8192 bits.
    #[error("the certificate's key is not RSA of 2048 to 8192 bits")]
    UnusableKey,
}

impl Certificate {
    /// Reads the first certificate of a PEM text.
    pub fn parse(pem: &[u8]) -> Result<Self, CertificateError> {
        const BROKEN: CertificateError = CertificateError::NotACertificate;
        let certificate = x509_cert::Certificate::from_pem(pem).map_err(|_| BROKEN)?;
        let signed = certificate.tbs_certificate();
        let key = signed.subject_public_key_info().to_der().map_err(|_| BROKEN)?;
        let seconds = |time: &x509_cert::time::Time| {
            i64::try_from(time.to_unix_duration().as_secs()).map_err(|_| BROKEN)
        };
        let dates = signed.validity();
        Self::of_key(&key, seconds(&dates.not_before)?, seconds(&dates.not_after)?)
    }

    /// From a DER SubjectPublicKeyInfo and the first and last unix second it is good at.
    pub(crate) fn of_key(
        key: &[u8],
        not_before: i64,
        not_after: i64,
    ) -> Result<Self, CertificateError> {
        let unusable = |_| CertificateError::UnusableKey;
        Ok(Self {
            sha1: ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, key)
                .map_err(unusable)?,
            sha256: ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).map_err(unusable)?,
            not_before,
            not_after,
        })
    }

    /// Whether it is good at a moment in unix seconds.
    pub fn is_valid_at(&self, now: i64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// The unix seconds it is good between, both included.
    pub fn validity(&self) -> (i64, i64) {
        (self.not_before, self.not_after)
    }

    /// Signature version 1: RSA PKCS#1 v1.5 with SHA-1.
    pub(crate) fn verifies_sha1(&self, message: &[u8], signature: &[u8]) -> bool {
        self.sha1.verify_sig(message, signature).is_ok()
    }

    /// Signature version 2: RSA PKCS#1 v1.5 with SHA-256.
    pub(crate) fn verifies_sha256(&self, message: &[u8], signature: &[u8]) -> bool {
        self.sha256.verify_sig(message, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA: &str = include_str!("ses/certificates/rsa.pem");
    const P256: &str = include_str!("ses/certificates/p256.pem");

    #[test]
    fn dates_and_key_are_read() {
        let certificate = Certificate::parse(RSA.as_bytes()).unwrap();
        let (first, last) = (1_795_267_909, 1_826_803_909);
        assert_eq!(certificate.validity(), (first, last));
        assert!(certificate.is_valid_at(first) && certificate.is_valid_at(last));
        assert!(!certificate.is_valid_at(first - 1) && !certificate.is_valid_at(last + 1));
    }

    #[test]
    fn anything_else_is_refused() {
        let error = |pem: &str| Certificate::parse(pem.as_bytes()).unwrap_err();
        assert_eq!(error(""), CertificateError::NotACertificate);
        assert_eq!(error(&RSA[..200]), CertificateError::NotACertificate);
        assert_eq!(
            error(&RSA.replace("CERTIFICATE", "PRIVATE KEY")),
            CertificateError::NotACertificate
        );
        assert_eq!(error(P256), CertificateError::UnusableKey);
    }
}
