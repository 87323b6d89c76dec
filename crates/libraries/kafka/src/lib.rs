//! Everything that talks to Kafka. No service and no other library imports rdkafka; only the test
//! harness does, so that tests do not check this crate with itself.
//!
//! Consuming:
//! - [`Stage`] and [`run`]: consume, process, produce and commit in one Kafka transaction. `enrich`,
//!   `dedupe` and the two stages of `monitor` are built on it.
//! - [`ranges`]: fixed offset ranges, recorded in the group's offset metadata before their records
//!   are written elsewhere. `archive` is built on it.
//! - [`feed`]: at-least-once consumption, for `notify`.
//! - [`cuts`]: the same in batches that have the same bounds after a restart, for `forward`.
//! - [`tail`]: whole topics without a group, for `console`.
//! - [`follow`]: a small topic that a process must know completely, such as `mail.erased`.
//! - [`changes`]: a compacted topic from given offsets, for `suppress`.
//!
//! Producing:
//! - [`Publisher`]: an idempotent producer; a batch is complete when all in-sync replicas have
//!   acknowledged each of its records.
//! - [`DeadLetterWriter`]: dead letters of services that do not run a [`Stage`].
//!
//! Everything else:
//! - [`ledger`]: counts of each partition's records by outcome, committed with their offsets.
//! - [`positions`]: a second record of what each stage has read, and how it differs from the offsets.
//! - [`topics`] creates and checks topics.
//! - [`inspect`] and [`dead_letters`] read whole topics, for tests and the operator's tool.
//! - [`survey`] examines the brokers and the settings of topics, for the operator's tool.
//! - [`baseline`]: a producer without any of our code around it, for the benchmarks.
//! - [`ClusterSettings`] and [`TopicSettings`]: the sections `[kafka]` and `[topics]`.

pub mod baseline;
pub mod changes;
mod client;
mod cluster;
pub mod cuts;
pub mod dead_letters;
mod error;
pub mod feed;
pub mod follow;
mod group;
mod group_protocol;
pub mod inspect;
mod lag;
pub mod ledger;
mod obstacle;
pub mod positions;
mod properties;
mod publisher;
pub mod ranges;
mod record;
mod refusals;
mod restore;
mod settings;
pub mod stage;
pub mod survey;
pub mod tail;
mod topic_ids;
pub mod topics;
mod transaction;

pub use ::record::{NextOffset, Offset};
pub use client::Connection;
pub use cluster::Cluster;
pub use dead_letters::{DeadLetterWriter, FailedRecord};
pub use error::{Error, WrongTopicSetting};
pub use obstacle::Obstacle;
pub use publisher::{Batch, PreparedHeaders, PublishError, Publisher, PublisherSettings};
pub use record::{HeaderLookup, OwnedRecord, Record, TopicPartition};
pub use refusals::{ManyRefusals, Refusals};
pub use restore::{Restore, Restored};
pub use settings::{ClusterSettings, Compression, GroupProtocol, TopicSettings};
pub use stage::{
    AfterRollback, Alignment, BatchSettings, CommittedCounter, Inputs, Kept, Lead, Outcome,
    Outgoing, Output, Stage, run, run_all, run_two,
};

/// The allocator of every service. It also serves librdkafka, by its unprefixed names. librdkafka
/// allocates on one thread and frees on another; with glibc's allocator this took a third of the CPU
/// time of a process that consumes and produces.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Makes the allocator give memory back that has been free for some seconds, from a thread of its own. Otherwise it
/// does so only while it is called, so that a process keeps what it needed to start.
pub fn give_back_memory() {
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::warn!(%error, "the allocator has no thread of its own, so free memory is given back late");
    }
}
