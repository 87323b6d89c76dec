//! Secrets as their files have them, made into keys.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Unusable;

/// A P-256 key: PKCS#8, or as `openssl ecparam` writes it (SEC 1, RFC 5915).
pub(super) fn p256(text: &str) -> Result<EcdsaKeyPair, Unusable> {
    const ALGORITHM: &aws_lc_rs::signature::EcdsaSigningAlgorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let der = private_der(text).ok_or_else(|| wanted("a P-256 private key in PEM (PKCS#8)"))?;
    EcdsaKeyPair::from_pkcs8(ALGORITHM, &der)
        .or_else(|_| EcdsaKeyPair::from_private_key_der(ALGORITHM, &der))
        .map_err(|_| wanted("a P-256 private key in PEM (PKCS#8)"))
}

/// An RSA key: PKCS#8, or PKCS#1 as older tools write it.
pub(super) fn rsa(text: &str) -> Result<RsaKeyPair, Unusable> {
    const WHAT: &str = "an RSA private key of 2048 bits or more in PEM (PKCS#8)";
    let der = private_der(text).ok_or_else(|| wanted(WHAT))?;
    RsaKeyPair::from_pkcs8(&der).or_else(|_| RsaKeyPair::from_der(&der)).map_err(|_| wanted(WHAT))
}

/// A key of Standard Webhooks, with which it signs.
pub(super) enum Webhook {
    Hmac(Vec<u8>),
    Ed25519(Ed25519KeyPair),
}

/// `whsec_…` (or its base64 alone), `whsk_…`, or an Ed25519 private key in PEM.
pub(super) fn webhook(text: &str) -> Result<Webhook, Unusable> {
    const WHAT: &str = "`whsec_` or `whsk_` and base64, or an Ed25519 private key in PEM (PKCS#8)";
    let unusable = || wanted(WHAT);
    if let Some(der) = private_der(text) {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| unusable())?;
        return Ok(Webhook::Ed25519(pair));
    }
    if let Some(private) = text.strip_prefix("whsk_") {
        // The seed, and behind it the public key, which follows from it.
        let bytes = STANDARD.decode(private).map_err(|_| unusable())?;
        let seed = bytes.get(..32).ok_or_else(unusable)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| unusable())?;
        return Ok(Webhook::Ed25519(pair));
    }
    let secret = STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text));
    let secret = secret.map_err(|_| unusable())?;
    if secret.is_empty() { Err(unusable()) } else { Ok(Webhook::Hmac(secret)) }
}

/// The first private key of a PEM text (RFC 7468); parameters may stand before it.
fn private_der(text: &str) -> Option<Vec<u8>> {
    let mut lines = text.lines().skip_while(|line| {
        !(line.starts_with("-----BEGIN ") && line.trim_end().ends_with("PRIVATE KEY-----"))
    });
    lines.next()?;
    let base64: String =
        lines.take_while(|line| !line.starts_with("-----END")).map(str::trim).collect();
    STANDARD.decode(base64).ok()
}

fn wanted(what: &str) -> Unusable {
    Unusable(format!("the secret file is not {what}; or make a pair with --generate-key"))
}
