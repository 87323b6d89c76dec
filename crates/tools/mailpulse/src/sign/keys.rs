//! Parses the keys in secret files.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::InputError;

/// Parses a P-256 key: PKCS#8, or the format of `openssl ecparam` (SEC 1, RFC 5915).
pub(super) fn p256(text: &str) -> Result<EcdsaKeyPair, InputError> {
    const ALGORITHM: &aws_lc_rs::signature::EcdsaSigningAlgorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let der = private_der(text).ok_or_else(|| not_a_key("a P-256 private key in PEM (PKCS#8)"))?;
    EcdsaKeyPair::from_pkcs8(ALGORITHM, &der)
        .or_else(|_| EcdsaKeyPair::from_private_key_der(ALGORITHM, &der))
        .map_err(|_| not_a_key("a P-256 private key in PEM (PKCS#8)"))
}

/// Parses an RSA key: PKCS#8, or PKCS#1, the format of older tools.
pub(super) fn rsa(text: &str) -> Result<RsaKeyPair, InputError> {
    const WHAT: &str = "an RSA private key of 2048 bits or more in PEM (PKCS#8)";
    let der = private_der(text).ok_or_else(|| not_a_key(WHAT))?;
    RsaKeyPair::from_pkcs8(&der)
        .or_else(|_| RsaKeyPair::from_der(&der))
        .map_err(|_| not_a_key(WHAT))
}

/// A signing key of Standard Webhooks.
pub(super) enum WebhookSecret {
    Hmac(Vec<u8>),
    Ed25519(Ed25519KeyPair),
}

/// Parses `whsec_…` (or only its base64), `whsk_…`, or an Ed25519 private key in PEM.
pub(super) fn webhook(text: &str) -> Result<WebhookSecret, InputError> {
    const WHAT: &str = "`whsec_` or `whsk_` and base64, or an Ed25519 private key in PEM (PKCS#8)";
    let invalid = || not_a_key(WHAT);
    if let Some(der) = private_der(text) {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| invalid())?;
        return Ok(WebhookSecret::Ed25519(pair));
    }
    if let Some(private) = text.strip_prefix("whsk_") {
        // The seed, followed by the public key, which can be derived from it.
        let bytes = STANDARD.decode(private).map_err(|_| invalid())?;
        let seed = bytes.get(..32).ok_or_else(invalid)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| invalid())?;
        return Ok(WebhookSecret::Ed25519(pair));
    }
    let secret = STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text));
    let secret = secret.map_err(|_| invalid())?;
    if secret.is_empty() { Err(invalid()) } else { Ok(WebhookSecret::Hmac(secret)) }
}

/// Returns the first private key of a PEM text (RFC 7468), in which parameters may precede it.
fn private_der(text: &str) -> Option<Vec<u8>> {
    let mut lines = text.lines().skip_while(|line| {
        !(line.starts_with("-----BEGIN ") && line.trim_end().ends_with("PRIVATE KEY-----"))
    });
    lines.next()?;
    let base64: String =
        lines.take_while(|line| !line.starts_with("-----END")).map(str::trim).collect();
    STANDARD.decode(base64).ok()
}

fn not_a_key(expected: &str) -> InputError {
    InputError(format!("the secret file must contain {expected}; --generate-key makes one"))
}
