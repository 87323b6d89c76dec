//! The state of `dedupe`, per partition: the ids of the events it passed on, and what it remembers of
//! each message at each recipient.
//!
//! The changelog topic is the source of truth. The local files are a cache of it and may be lost at
//! any time.
//!
//! - The memories and the list of ids of an open batch are in an overlay in memory, which look-ups read
//!   first. [`Store::changelog`] encodes the overlay as changelog records, which commit in one
//!   Kafka transaction with the batch's outputs and offsets. Only after that commit,
//!   [`Store::commit`] makes the overlay part of what is pending.
//! - What is pending is in hash tables in memory. When there is enough, and when the partition is
//!   released, it is written to files. A crash loses it, and then it is read from the changelog. The
//!   files can therefore lag behind the changelog, but they contain nothing that it lacks.
//! - When a partition is assigned, [`Store::restore`] first reads the changelog to its end. Files
//!   that are not a prefix of this changelog are discarded.
//! - On disk, each id is prefixed with the hour in which its event occurred. A duplicate carries
//!   the same time, so it is looked up under the same key. Ids older than the horizon are next to
//!   each other and are deleted together.
//! - Memories have a horizon of their own. `contributions.rs` has the rules for what a message counts for.
//!
//! [`Seen::BeyondHorizon`] explains what happens to events older than the horizon.

mod changelog;
mod contributions;
mod error;
mod event_hour;
mod expiry;
mod files;
mod hour;
mod memory;
mod memory_bytes;
mod overlay;
mod partition;
mod pending;
mod restore;
mod store;
mod time;

pub use changelog::{Entry, MalformedEntry};
pub use contributions::{Effect, Observation};
pub use error::StateError;
pub use event_hour::MEDIAN_SAMPLES;
pub use hour::Hour;
pub use memory::MessageMemory;
pub use partition::{Horizons, Partition, Seen};
#[doc(hidden)]
pub use pending::PendingLimits;
pub use store::Store;
