//! Test data for Mailpulse: webhook requests exactly as the providers form and sign them, and
//! traffic with a known expected result.
//!
//! * [`Credentials`]: the keys of every provider, and the configuration that trusts them.
//! * [`MailEvent`]: something that happened to one message at one recipient. [`payloads`] writes it
//!   in the provider's format.
//! * [`sign`]: signed HTTP requests with these payloads.
//! * [`signers`]: the providers' signature schemes, with any key.
//! * [`Traffic`]: hours of mail from a seed and a [`Plan`], and the [`Expected`] result.
//! * [`load`]: millions of events for load tests.
//!
//! This crate uses none of the crates under test, only the vocabulary of `event`. Otherwise the
//! same mistake on both sides would go unnoticed. It reads no clock: times are arguments.

mod credentials;
mod expected;
pub mod load;
mod mail_event;
pub mod payloads;
pub mod rates;
mod shuffled;
pub mod sign;
pub mod signers;
mod time_formats;
mod traffic;

pub use credentials::{Credentials, PROVIDERS, SOURCES};
pub use expected::{Expected, ExpectedAlert, ExpectedSource};
pub use mail_event::MailEvent;
pub use traffic::{Burst, Plan, Traffic};

use bytes::Bytes;

/// One webhook request, ready for posting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRequest {
    /// Such as `/webhooks/sendgrid/acme`.
    pub path: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The signed bytes.
    pub body: Bytes,
}

impl SignedRequest {
    /// Returns the value of a header by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}
