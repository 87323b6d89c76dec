use serde::{Deserialize, Serialize};

use crate::Text;

/// How the message reached the recipient's server, as the provider reports it. Unknown fields are
/// absent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Delivery<'a> {
    /// The name or address of the receiving server.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Text<'a>>,
    /// Its answer.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Text<'a>>,
    /// Whether the connection was encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
    /// From the start of sending to the answer, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub millis: Option<u64>,
}

impl Delivery<'_> {
    /// Returns true if nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Delivery::default()
    }
}
