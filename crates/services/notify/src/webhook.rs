//! The channel `webhook`: one POST per transition, signed as Standard Webhooks 1.0 describes
//! (<https://github.com/standard-webhooks/standard-webhooks>).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::json;
use sha2::Sha256;

use crate::endpoint::{Endpoint, Failure};
use crate::transition::Transition;

/// Posts transitions to a URL.
///
/// The body is `{"type":"alert.fired","timestamp":…,"data":…}`: `type` is `alert.fired`,
/// `alert.escalated` or `alert.resolved`, `timestamp` the event time of the transition in RFC 3339,
/// `data` the alert as in `mail.alerts`. Body and `webhook-id` are the same in every try.
#[derive(Debug)]
pub struct Webhook {
    endpoint: Endpoint,
    key: SigningKey,
}

/// The secret both sides share.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

/// The secret is not one of Standard Webhooks.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be whsec_ followed by 24 to 64 bytes in base64; make one with \
     `echo whsec_$(openssl rand -base64 32)`"
)]
pub struct BadSecret;

impl SigningKey {
    /// Reads `whsec_` and base64; the prefix may be missing.
    ///
    /// # Errors
    /// When it is not base64, or too short or long for the specification.
    pub fn parse(secret: &str) -> Result<Self, BadSecret> {
        let encoded = secret.strip_prefix("whsec_").unwrap_or(secret);
        let bytes = STANDARD.decode(encoded).map_err(|_| BadSecret)?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(BadSecret);
        }
        Hmac::new_from_slice(&bytes).map(Self).map_err(|_| BadSecret)
    }

    /// The value of `webhook-signature`: `v1,` and the base64 of HMAC-SHA256 over
    /// `id.timestamp.body`, the timestamp in Unix seconds.
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

impl Webhook {
    /// A webhook at `endpoint`.
    pub const fn new(endpoint: Endpoint, key: SigningKey) -> Self {
        Self { endpoint, key }
    }

    /// Posts once, signed for the time `now`.
    ///
    /// # Errors
    /// When it is not taken.
    pub async fn send(&self, transition: &Transition, now: Timestamp) -> Result<(), Failure> {
        let (id, body) = (message_id(transition), body(transition));
        let seconds = now.as_second();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", self.key.sign(&id, seconds, &body)),
            ("webhook-id", id),
        ] {
            // All three are ASCII letters, digits and base64.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        self.endpoint.post(headers, body).await
    }
}

/// The same for every try of a transition, also after a crash: what receivers tell repeats by.
pub fn message_id(transition: &Transition) -> String {
    format!("alert_{}_{}", transition.episode(), transition.step().as_str())
}

fn body(transition: &Transition) -> Vec<u8> {
    let kind = format!("alert.{}", transition.step().as_str());
    json!({ "type": kind, "timestamp": transition.at.to_string(), "data": transition.alert })
        .to_string()
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_openssl_does() {
        // printf 'msg_1.1700000000.{"test": 1}' |
        //   openssl dgst -sha256 -mac HMAC -macopt hexkey:000102…1f -binary | base64
        let key = SigningKey::parse("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        assert_eq!(
            key.sign("msg_1", 1_700_000_000, br#"{"test": 1}"#),
            "v1,LROpUCOUDQY+qMnEhW5FCglfTcNzxMlFsGpUt95zgKk="
        );
    }

    #[test]
    fn the_prefix_is_optional_and_the_length_is_not() {
        let bytes = |n: usize| STANDARD.encode(vec![7; n]);
        assert!(SigningKey::parse(&bytes(24)).is_ok());
        assert!(SigningKey::parse(&format!("whsec_{}", bytes(64))).is_ok());
        for secret in [bytes(23), bytes(65), "whsec_".into(), "whsec_not base64".into()] {
            assert_eq!(SigningKey::parse(&secret).unwrap_err(), BadSecret);
        }
    }
}
