//! What Mailpulse is tested with: webhook requests exactly as the providers sign and shape them,
//! and traffic whose truth is known.
//!
//! * [`Credentials`]: the keys of every provider, and the configuration that trusts them.
//! * [`Fact`]: something that happened to one message at one recipient; [`shape`] says it in a
//!   provider's words.
//! * [`sign`]: those words as a signed HTTP request.
//! * [`seal`]: the schemes of the providers under any keys.
//! * [`Traffic`]: hours of mail from a seed and a [`Plan`], with its [`Truth`].
//! * [`load`]: events by the million for load tests.
//!
//! Nothing here uses the crates under test (only the vocabulary of `event`), so a mistake in them
//! cannot hide behind the same mistake here. Nothing reads a clock: times are arguments.

mod clock;
mod credentials;
mod deck;
mod fact;
pub mod load;
pub mod rates;
pub mod seal;
pub mod shape;
pub mod sign;
mod traffic;
mod truth;

pub use credentials::{Credentials, SOURCES};
pub use fact::Fact;
pub use traffic::{Burst, Plan, Traffic};
pub use truth::{ExpectedAlert, SourceTruth, Truth};

use bytes::Bytes;

/// One webhook request, ready to be posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRequest {
    /// The path to post to, such as `/webhooks/sendgrid/acme`.
    pub path: String,
    /// Header names (lower case) and values.
    pub headers: Vec<(String, String)>,
    /// The bytes that were signed.
    pub body: Bytes,
}

impl SignedRequest {
    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}
