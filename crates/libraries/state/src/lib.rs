//! The state of `dedupe`, per partition: the ids of the events it passed on, and the engagement
//! of each recipient with each message.
//!
//! The changelog topic is the source of truth. The local files are a cache of it and may be lost at
//! any time.
//!
//! - The ids and engagements of an open batch are in an overlay in memory, which look-ups read
//!   first. [`Store::changelog`] encodes the overlay as changelog records, which commit in one
//!   Kafka transaction with the batch's outputs and offsets. [`Store::commit`] writes the overlay
//!   to disk only after that commit. The files can therefore lag behind the changelog, but they
//!   never contain anything that it lacks.
//! - When a partition is assigned, [`Store::restore`] first reads the changelog to its end. Files
//!   that are not a prefix of this changelog are discarded.
//! - On disk, each id is prefixed with the hour in which its event occurred. A duplicate carries
//!   the same time, so it is looked up under the same key. Ids older than the horizon are next to
//!   each other and are deleted together.
//!
//! [`Seen::BeyondHorizon`] explains what happens to events older than the horizon.

mod changelog;
mod engagement;
mod error;
mod event_hour;
mod expiry;
mod files;
mod hour;
mod overlay;
mod partition;
mod restore;
mod store;

pub use changelog::{Entry, MalformedEntry};
pub use engagement::Engagement;
pub use error::StateError;
pub use event_hour::MEDIAN_SAMPLES;
pub use hour::Hour;
pub use partition::{Partition, Seen};
pub use store::Store;
