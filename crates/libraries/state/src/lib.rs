//! What `dedupe` remembers: the ids of the events it let through, and what became of each message at
//! each recipient, per partition.
//!
//! Truth is a changelog topic; the files here are a cache of it that a member may lose at any time.
//!
//! - A round's new ids are an overlay in memory, consulted first. [`Store::changelog`] puts them
//!   into words for the changelog, which commits with the round's outputs and offsets in one Kafka
//!   transaction; only then does [`Store::commit`] write them to disk. So the files can be behind
//!   the changelog and never ahead.
//! - A partition that comes to this member is brought up to the changelog's end first
//!   ([`Store::take_over`]). Files that are not a true prefix of this changelog are thrown away.
//! - Ids lie on disk behind the hour their event occurred in. A retry carries the same time, so it
//!   looks in the same place, and what is older than the horizon lies together and goes together.
//!
//! What "older than the horizon" means is told at [`Sight::BeyondHorizon`].

mod changelog;
mod clock;
mod engagement;
mod error;
mod expiry;
mod files;
mod hour;
mod overlay;
mod partition;
mod replay;
mod store;

pub use changelog::{Entry, MalformedEntry};
pub use clock::CLOCK_SAMPLES;
pub use engagement::Engagement;
pub use error::StateError;
pub use hour::Hour;
pub use partition::{Partition, Sight};
pub use store::Store;
