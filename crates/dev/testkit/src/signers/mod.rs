//! The providers' signature schemes, with any key. Each function returns the headers and the body
//! as they are sent. [`crate::sign`] uses them with the keys of [`crate::Credentials`].
//!
//! Except for ECDSA, which is random, the same body signed for the same second gives the same
//! bytes, like a provider's retry.

mod asymmetric;
mod hmac;
mod sns;

pub use asymmetric::{postal, sendgrid};
pub use hmac::{
    GenericScheme, Hash, WebhookKey, mailersend, mailgun, mailgun_form, mandrill, standard_webhooks,
};
pub use sns::{ENVELOPE_FIELDS, SnsSigner, sns};

pub(crate) use hmac::keyed_sha256;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

/// A body and the headers that prove its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBody {
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// May contain the signature.
    pub body: Bytes,
}

/// The key is too short for the scheme's hash, or the system has no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key cannot sign")]
pub struct SigningFailed;

impl SignedBody {
    fn new(headers: &[(&str, &str)], body: Bytes) -> Self {
        let headers =
            headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { headers, body }
    }
}

/// The credentials in a request of a provider without signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login<'a> {
    /// `user:password` of HTTP basic authentication.
    Basic(&'a str),
    Bearer(&'a str),
    /// The name and the value of a custom header.
    Header(&'a str, &'a str),
}

/// Adds credentials to any JSON body. Postmark, SparkPost, Brevo and Mailjet have no signatures.
pub fn login(login: Login<'_>, user_agent: &str, body: Bytes) -> SignedBody {
    let (name, value) = match login {
        Login::Basic(user) => ("authorization", format!("Basic {}", STANDARD.encode(user))),
        Login::Bearer(token) => ("authorization", format!("Bearer {token}")),
        Login::Header(name, value) => (name, value.to_owned()),
    };
    let name = name.to_ascii_lowercase();
    let headers =
        [("content-type", "application/json"), ("user-agent", user_agent), (&*name, &*value)];
    SignedBody::new(&headers, body)
}

#[cfg(test)]
mod tests;
