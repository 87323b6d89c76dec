//! The schemes by which providers authenticate their requests, under keys of the caller's choice:
//! one function per scheme, each giving the headers and the body as they go over the wire.
//!
//! [`crate::sign`] uses them with the keys of [`crate::Credentials`]. All but ECDSA, which is
//! random by design, are functions of their arguments: the same body sealed for the same second
//! gives the same bytes, as a provider's retry does.

mod asymmetric;
mod hmac;
mod sns;

pub use asymmetric::{postal, sendgrid};
pub use hmac::{
    Generic, Hash, WebhookKey, mailersend, mailgun, mailgun_form, mandrill, standard_webhooks,
};
pub use sns::{ENVELOPE_FIELDS, SnsSigner, sns};

pub(crate) use hmac::keyed_sha256;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

/// A body and the headers by which its receiver knows it to be genuine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Header names (lower case) and values.
    pub headers: Vec<(String, String)>,
    /// The body to post, which the signature may be a part of.
    pub body: Bytes,
}

/// The key could not sign: it is too short for the scheme's hash, or the system has no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key cannot sign")]
pub struct CannotSign;

impl Sealed {
    fn new(headers: &[(&str, &str)], body: Bytes) -> Self {
        let headers =
            headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { headers, body }
    }
}

/// What a request says who it comes from, where the provider signs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login<'a> {
    /// HTTP basic authentication, `user:password`.
    Basic(&'a str),
    /// A bearer token.
    Bearer(&'a str),
    /// A header of the operator's own, and its value.
    Header(&'a str, &'a str),
}

/// Any JSON body with credentials: Postmark, SparkPost, Brevo and Mailjet sign nothing.
pub fn login(login: Login<'_>, user_agent: &str, body: Bytes) -> Sealed {
    let (name, value) = match login {
        Login::Basic(user) => ("authorization", format!("Basic {}", STANDARD.encode(user))),
        Login::Bearer(token) => ("authorization", format!("Bearer {token}")),
        Login::Header(name, value) => (name, value.to_owned()),
    };
    let name = name.to_ascii_lowercase();
    let headers =
        [("content-type", "application/json"), ("user-agent", user_agent), (&*name, &*value)];
    Sealed::new(&headers, body)
}

#[cfg(test)]
mod tests;
