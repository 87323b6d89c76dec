//! Signatures of Standard Webhooks 1.0 (<https://github.com/standard-webhooks/standard-webhooks>).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{HeaderMap, HeaderValue};
use sha2::Sha256;

/// The shared secret with which requests are signed.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

/// The secret does not have the form that Standard Webhooks requires.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be whsec_ followed by 24 to 64 bytes in base64; create one with \
     `echo whsec_$(openssl rand -base64 32)`"
)]
pub struct InvalidSecret;

impl SigningKey {
    /// Reads a key in base64. The prefix `whsec_` is optional.
    ///
    /// # Errors
    /// Fails if the text is not base64, or if the key has fewer than 24 or more than 64 bytes.
    pub fn parse(secret: &str) -> Result<Self, InvalidSecret> {
        let encoded = secret.strip_prefix("whsec_").unwrap_or(secret);
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(InvalidSecret);
        }
        Hmac::new_from_slice(&bytes).map(Self).map_err(|_| InvalidSecret)
    }

    /// Returns the value of `webhook-signature`: `v1,` followed by the HMAC-SHA256 of
    /// `id.timestamp.body` in base64. The timestamp is in Unix seconds.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(hidden)")
    }
}

/// Returns the headers `webhook-id`, `webhook-timestamp` and `webhook-signature`. With several keys, the
/// last one has a signature of each, separated by spaces: a receiver accepts the request if it has one of
/// the keys, so that a secret can be replaced without a gap. `id` must consist of visible ASCII
/// characters other than the full stop.
pub fn signed_headers(keys: &[SigningKey], id: &str, timestamp: i64, body: &[u8]) -> HeaderMap {
    let signatures: Vec<_> = keys.iter().map(|key| key.sign(id, timestamp, body)).collect();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", timestamp.to_string()),
        ("webhook-signature", signatures.join(" ")),
    ] {
        // The values consist of ASCII characters, so this never fails.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    #[test]
    fn the_signature_equals_that_of_openssl() {
        // printf 'msg_1.1700000000.{"test": 1}' |
        //   openssl dgst -sha256 -mac HMAC -macopt hexkey:000102…1f -binary | base64
        let key = SigningKey::parse(SECRET).unwrap();
        assert_eq!(
            key.sign("msg_1", 1_700_000_000, br#"{"test": 1}"#),
            "v1,LROpUCOUDQY+qMnEhW5FCglfTcNzxMlFsGpUt95zgKk="
        );
    }

    #[test]
    fn the_headers_have_a_signature_of_each_key() {
        let other = format!("whsec_{}", STANDARD.encode([7; 32]));
        let keys = [SigningKey::parse(SECRET).unwrap(), SigningKey::parse(&other).unwrap()];
        let headers = signed_headers(&keys, "msg_1", 1_700_000_000, br#"{"test": 1}"#);
        assert_eq!(headers["webhook-id"], "msg_1");
        assert_eq!(headers["webhook-timestamp"], "1700000000");
        let signatures = headers["webhook-signature"].to_str().unwrap();
        let (first, second) = signatures.split_once(' ').unwrap();
        assert_eq!(first, "v1,LROpUCOUDQY+qMnEhW5FCglfTcNzxMlFsGpUt95zgKk=");
        assert_eq!(second, keys[1].sign("msg_1", 1_700_000_000, br#"{"test": 1}"#));
    }

    #[test]
    fn the_prefix_is_optional_and_the_length_is_checked() {
        let bytes = |n: usize| STANDARD.encode(vec![7; n]);
        assert!(SigningKey::parse(&bytes(24)).is_ok());
        assert!(SigningKey::parse(&format!("whsec_{}", bytes(64))).is_ok());
        for secret in [bytes(23), bytes(65), "whsec_".into(), "whsec_not base64".into()] {
            assert_eq!(SigningKey::parse(&secret).unwrap_err(), InvalidSecret);
        }
    }
}
