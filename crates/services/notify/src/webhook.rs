//! The channel `webhook`, which sends one POST request per change of an incident. The signature follows Standard
//! Webhooks 1.0 (<https://github.com/standard-webhooks/standard-webhooks>).

use courier::{DeliveryError, Endpoint, SigningKey, signed_headers};
use jiff::Timestamp;
use serde_json::json;

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
        let keys = std::slice::from_ref(&self.key);
        let headers = signed_headers(keys, &id, now.as_second(), &body);
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
