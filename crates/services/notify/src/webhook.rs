//! The channel `webhook`, which sends one POST request per change of an incident. The signature follows Standard
//! Webhooks 1.0 (<https://github.com/standard-webhooks/standard-webhooks>).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::json;
use sha2::Sha256;

use crate::endpoint::{DeliveryError, Endpoint};
use crate::message::Message;

/// Posts incidents to a URL.
///
/// The body is `{"type":"incident.opened","timestamp":…,"data":…,"page":…}`. `type` is
/// `incident.opened`, `incident.escalated`, `incident.reminder`, `incident.digest` or
/// `incident.resolved`, `timestamp` is the event time of the change in the format of RFC 3339, `data` is
/// the incident as in `mail.incidents`, and `page` is the text for people. Every attempt sends the same
/// body and the same `webhook-id`.
#[derive(Debug)]
pub struct Webhook {
    endpoint: Endpoint,
    key: SigningKey,
}

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

impl Webhook {
    /// Returns a webhook that posts to the endpoint.
    pub const fn new(endpoint: Endpoint, key: SigningKey) -> Self {
        Self { endpoint, key }
    }

    /// Posts the message once. `now` is the current time, which is part of the signature.
    ///
    /// # Errors
    /// Fails if the receiver does not accept it.
    pub async fn send(&self, message: &Message, now: Timestamp) -> Result<(), DeliveryError> {
        let Some(body) = body(message) else { return Ok(()) };
        let id = format!("incident_{}", message.id);
        let seconds = now.as_second();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", self.key.sign(&id, seconds, &body)),
            ("webhook-id", id),
        ] {
            // The values consist of ASCII characters, so this never fails.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        self.endpoint.post(headers, body).await
    }
}

/// Returns the body. A message about several incidents has none: this channel has no quiet hours.
fn body(message: &Message) -> Option<Vec<u8>> {
    let received = &message.delivery.as_ref()?.received;
    let body = json!({
        "type": format!("incident.{}", message.kind.as_str()),
        "timestamp": received.at.to_string(),
        "data": received.incident,
        "page": message.page.text(),
    });
    Some(body.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_equals_that_of_openssl() {
        // printf 'msg_1.1700000000.{"test": 1}' |
        //   openssl dgst -sha256 -mac HMAC -macopt hexkey:000102…1f -binary | base64
        let key = SigningKey::parse("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        assert_eq!(
            key.sign("msg_1", 1_700_000_000, br#"{"test": 1}"#),
            "v1,LROpUCOUDQY+qMnEhW5FCglfTcNzxMlFsGpUt95zgKk="
        );
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
