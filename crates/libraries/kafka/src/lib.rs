//! Kafka, and nothing but Kafka: the only crate that imports rdkafka.
//!
//! - [`Publisher`]: the ingress's idempotent producer; a request is done when every record is
//!   acknowledged by all in-sync replicas.
//! - [`step`]: consume, process, produce and commit in one Kafka transaction; `enrich`, `dedupe` and
//!   both halves of `monitor` are steps.
//! - [`ranges`]: fixed offset ranges with the pending one recorded in the group's offset metadata;
//!   `archive` is built on it.
//! - [`feed`]: at-least-once, for `notify`.
//! - [`tally`]: what became of each partition's records, committed with their offsets.
//! - [`admin`] creates and checks the topics.
//! - [`inspect`]: what is there, for tests and the operator's tool.
//! - [`letters`]: the dead letters and their way back, for the operator's tool.
//! - [`bare`]: producing with nothing around it, for the benchmarks.
//! - [`ClusterSettings`] and [`TopicSettings`]: the sections `[kafka]` and `[topics]`.

pub mod admin;
pub mod bare;
mod changelog;
mod cluster;
mod connection;
mod error;
pub mod feed;
mod guard;
pub mod inspect;
pub mod letters;
mod output;
mod own;
mod publisher;
pub mod ranges;
mod rebalance;
mod record;
pub mod step;
pub mod tally;
mod transaction;
mod watch;

pub use changelog::{Restore, Restored};
pub use cluster::{ClusterSettings, Compression, GroupProtocol, TopicSettings};
pub use connection::Connection;
pub use error::StreamError;
pub use output::{Outgoing, Output};
pub use own::Cluster;
pub use publisher::{Batch, PreparedHeaders, PublishError, Publisher, PublisherSettings};
pub use record::{HeaderLookup, OwnedRecord, Record, TopicPartition};

/// The allocator of every binary, and by its unprefixed names of librdkafka too. librdkafka
/// allocates on one thread and frees on another, for which glibc's allocator takes half of all CPU
/// between a consumer and a producer.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
