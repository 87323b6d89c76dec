//! Deliveries to people and to other systems: what they have in common, whatever is delivered.
//!
//! 1. [`Endpoint`] makes HTTP requests and [`Smtp`] sends e-mails, both only to addresses that
//!    [`AddressGuard`] allows. [`signed_headers`] signs requests as Standard Webhooks.
//! 2. [`Attempts`] decides when the attempts of one receiver are made: with the pauses of [`Retry`], a
//!    circuit [`breaker`], a rate limit and a number of concurrent attempts.
//! 3. [`Worker`] delivers to one receiver, in [`order`] where deliveries share a key.
//! 4. [`Progress`] remembers which records are done, and [`write_dead_letters`] keeps what no receiver
//!    accepted.
//!
//! A delivery is made at least once: after a crash, the next process makes it again. Receivers recognise
//! it by its id, which is the same in all attempts.

mod address_guard;
mod attempts;
pub mod backoff;
pub mod breaker;
mod dead_letters;
mod endpoint;
pub mod order;
mod progress;
mod signature;
mod smtp;
mod worker;

pub use address_guard::{AddressError, AddressGuard};
pub use attempts::{AttemptSettings, Attempts, Job, Observer, Postponed, Verdict};
pub use backoff::{Retry, RetrySettings};
pub use breaker::{BreakerChange, BreakerSettings};
pub use dead_letters::write_dead_letters;
pub use endpoint::{ClientSettings, DeliveryError, Endpoint, EndpointError};
pub use progress::{Admission, Position, Progress};
pub use signature::{InvalidSecret, SigningKey, signed_headers};
pub use smtp::{Encryption, Smtp, SmtpSettings};
pub use worker::{Delivery, Worker};
