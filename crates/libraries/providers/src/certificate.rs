use aws_lc_rs::signature::{
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256,
};
use x509_cert::der::{DecodePem, Encode};

/// A signing certificate of Amazon SNS: its public key and its period of validity.
///
/// The certificate chain is not checked. The certificate is trusted because it was fetched over TLS
/// from a host that [`crate::Authenticator::verify`] had checked, or because it was configured.
#[derive(Debug)]
pub struct Certificate {
    sha1: ParsedPublicKey,
    sha256: ParsedPublicKey,
    not_before: i64,
    not_after: i64,
}

/// Why a PEM text is not a certificate that SNS could have signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("not an X.509 certificate in PEM")]
    NotACertificate,
    #[error("the certificate's key is not RSA of 2048 to 8192 bits")]
    UnusableKey,
}

impl Certificate {
    /// Reads a PEM text that contains one certificate.
    pub fn parse(pem: &[u8]) -> Result<Self, CertificateError> {
        const BROKEN: CertificateError = CertificateError::NotACertificate;
        let certificate = x509_cert::Certificate::from_pem(pem).map_err(|_| BROKEN)?;
        let signed = certificate.tbs_certificate();
        let key = signed.subject_public_key_info().to_der().map_err(|_| BROKEN)?;
        let seconds = |time: &x509_cert::time::Time| {
            i64::try_from(time.to_unix_duration().as_secs()).map_err(|_| BROKEN)
        };
        let dates = signed.validity();
        Self::from_key(&key, seconds(&dates.not_before)?, seconds(&dates.not_after)?)
    }

    /// Builds a certificate from a DER SubjectPublicKeyInfo and the first and last unix second of
    /// its validity.
    pub(crate) fn from_key(
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

    /// True if the certificate is valid at this unix second.
    pub fn is_valid_at(&self, now: i64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// Returns the first and the last unix second of the validity.
    pub fn validity(&self) -> (i64, i64) {
        (self.not_before, self.not_after)
    }

    /// Verifies a signature of version 1: RSA PKCS#1 v1.5 with SHA-1.
    pub(crate) fn verifies_sha1(&self, message: &[u8], signature: &[u8]) -> bool {
        self.sha1.verify_sig(message, signature).is_ok()
    }

    /// Verifies a signature of version 2: RSA PKCS#1 v1.5 with SHA-256.
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
    fn anything_else_is_an_error() {
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
