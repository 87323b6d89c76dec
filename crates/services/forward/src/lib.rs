//! `forward` sends events of `mail.events` to the systems of integrators.
//!
//! Each `[[forward]]` ([`settings`]) has a consumer group, a thread ([`forwarder`]) and a receiver of its
//! own, so that none of them waits for another.
//!
//! 1. [`filter`] decides which events match.
//! 2. [`partition`] forms batches of them. Where a batch ends is committed before it is sent, so that the
//!    batches are the same after a restart.
//! 3. [`batch`] is what is sent: [`body`] makes its body, and its id follows from its offsets.
//! 4. The library `courier` delivers: a batch waits for all earlier ones with one of its recipients.
//!
//! What the receiver does not accept becomes dead letters, one for each event. An offset is committed once
//! everything before it was delivered or is a dead letter.

pub mod batch;
pub mod body;
pub mod filter;
pub mod forwarder;
pub mod forwards;
pub mod observer;
pub mod outcome;
pub mod partition;
pub mod settings;
