//! Schemes with a private key: SendGrid and Postal.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{EcdsaKeyPair, RSA_PKCS1_SHA256, RsaEncoding, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use num_bigint::BigUint;
use sha1::{Digest, Sha1};

use super::{SignedBody, SigningFailed};

/// Signs for Twilio SendGrid: ECDSA P-256 with SHA-256 over `timestamp ‖ body`, ASN.1 DER, base64.
///
/// # Errors
/// If the key cannot sign.
pub fn sendgrid(
    key: &EcdsaKeyPair,
    body: Bytes,
    now_unix: i64,
) -> Result<SignedBody, SigningFailed> {
    let timestamp = now_unix.to_string();
    let message = [timestamp.as_bytes(), &body].concat();
    let signature = key.sign(&SystemRandom::new(), &message).map_err(|_| SigningFailed)?;
    let headers = [
        ("content-type", "application/json"),
        ("user-agent", "SendGrid Event API"),
        ("x-twilio-email-event-webhook-timestamp", &timestamp),
        ("x-twilio-email-event-webhook-signature", &STANDARD.encode(signature)),
    ];
    Ok(SignedBody::new(&headers, body))
}

/// Signs for Postal: RSA PKCS#1 v1.5 over the body, with SHA-1 and with SHA-256, base64.
///
/// # Errors
/// If the key cannot sign.
pub fn postal(key: &RsaKeyPair, key_id: &str, body: Bytes) -> Result<SignedBody, SigningFailed> {
    let headers = [
        ("content-type", "application/json"),
        ("user-agent", "Postal/3.3"),
        ("x-postal-signature", &rsa_sha1(key, &body)?),
        ("x-postal-signature-256", &rsa(key, &RSA_PKCS1_SHA256, &body)?),
        ("x-postal-signature-kid", key_id),
    ];
    Ok(SignedBody::new(&headers, body))
}

/// Returns an RSA PKCS#1 v1.5 signature in base64.
pub(super) fn rsa(
    key: &RsaKeyPair,
    encoding: &'static dyn RsaEncoding,
    message: &[u8],
) -> Result<String, SigningFailed> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(encoding, &SystemRandom::new(), message, &mut signature).map_err(|_| SigningFailed)?;
    Ok(STANDARD.encode(signature))
}

/// The DER `DigestInfo` that precedes a SHA-1 digest in a PKCS#1 v1.5 signature (RFC 8017 §9.2,
/// note 1).
const SHA1_DIGEST_INFO: [u8; 15] =
    [0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14];

/// Returns an RSA PKCS#1 v1.5 signature with SHA-1 in base64. The cryptographic library no longer
/// signs with SHA-1, but Postal and SNS do. This computation does not take constant time, so it is
/// for test requests only.
pub(super) fn rsa_sha1(key: &RsaKeyPair, message: &[u8]) -> Result<String, SigningFailed> {
    let pkcs8: Pkcs8V1Der<'_> = key.as_der().map_err(|_| SigningFailed)?;
    let (modulus, exponent) = private_numbers(pkcs8.as_ref()).ok_or(SigningFailed)?;
    let length = key.public_modulus_len();
    let digest = Sha1::digest(message);
    let tail = [&[0x00], &SHA1_DIGEST_INFO[..], &digest].concat();
    let filler = length.checked_sub(tail.len() + 2).ok_or(SigningFailed)?;
    let block = [&[0x00, 0x01], &*vec![0xff; filler], &tail].concat();
    let signature = BigUint::from_bytes_be(&block).modpow(&exponent, &modulus).to_bytes_be();
    let leading = length.checked_sub(signature.len()).ok_or(SigningFailed)?;
    Ok(STANDARD.encode([vec![0; leading], signature].concat()))
}

/// Returns modulus and private exponent of an RSA key in DER: a PKCS#8 `PrivateKeyInfo` (RFC 5208
/// §5) is a sequence of version, algorithm and an octet string, which contains an `RSAPrivateKey`
/// (RFC 8017 §A.1.2), a sequence of version, modulus, public exponent, private exponent and more.
fn private_numbers(pkcs8: &[u8]) -> Option<(BigUint, BigUint)> {
    let (info, _) = value(pkcs8)?;
    let key = nth(info, 2)?;
    let (numbers, _) = value(key)?;
    let number = |n| nth(numbers, n).map(BigUint::from_bytes_be);
    Some((number(1)?, number(3)?))
}

/// Returns the value of the `n`th element, counted from 0.
fn nth(elements: &[u8], n: usize) -> Option<&[u8]> {
    let rest = (0..n).try_fold(elements, |rest, _| value(rest).map(|(_, rest)| rest))?;
    value(rest).map(|(value, _)| value)
}

/// Returns the value of the first DER element, and the bytes after it.
fn value(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.get(1..)?.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // The low bits are the number of bytes of a length beyond 127.
        _ => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
    };
    rest.split_at_checked(length)
}
