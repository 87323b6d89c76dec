use std::collections::BTreeMap;

use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext};

/// How to reach the cluster, and who we are there.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// Bootstrap servers, `host:port` separated by commas.
    pub bootstrap: String,
    /// This member's name. Stable over restarts when `static_member` is set.
    pub instance: String,
    /// Whether `instance` was given by the operator and comes back after a restart: its open
    /// transaction is then ended by name at once, and under the classic protocol it keeps its place
    /// in the group.
    pub static_member: bool,
    /// `consumer` (KIP-848) or `classic`.
    pub group_protocol: String,
    /// Compression of what we produce.
    pub compression: String,
    /// Further librdkafka properties.
    pub properties: BTreeMap<String, String>,
}

/// Milliseconds after which a member that does not poll is held to hang, and loses its partitions.
const MAX_POLL_INTERVAL: &str = "max.poll.interval.ms";

/// Bytes of fetched records one consumer may hold before it is asked for them, all partitions
/// together: what keeps a process small whatever the backlog.
const FETCHED_AHEAD_KIB: usize = 48 * 1024;

impl Connection {
    /// What every client shares.
    pub(crate) fn client(&self, job: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", format!("mailpulse-{job}-{}", self.instance))
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // How a client that has lost sight of a partition's leader finds it again. librdkafka
            // 2.12 was seen to take garbage for leaders after a broker's restart; its default, five
            // minutes, would be that long without a record.
            .set("topic.metadata.refresh.interval.ms", "30000");
        for (key, value) in &self.properties {
            config.set(key, value);
        }
        config
    }

    /// A consumer of committed records in a group, offsets committed by us alone.
    pub(crate) fn consumer(&self, job: &str, group: &str, partitions: usize) -> ClientConfig {
        let mut config = self.client(job);
        let ahead = (FETCHED_AHEAD_KIB / partitions.max(1)).clamp(512, 8 * 1024);
        let own_patience = self.properties.get(MAX_POLL_INTERVAL).map(String::as_str);
        config
            .set("group.id", group)
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "20")
            .set("fetch.queue.backoff.ms", "20")
            .set("queued.min.messages", "20000")
            .set("queued.max.messages.kbytes", ahead.to_string())
            .set("max.partition.fetch.bytes", "1048576")
            .set(MAX_POLL_INTERVAL, own_patience.unwrap_or("300000"));
        if self.group_protocol == "classic" {
            config
                .set("group.protocol", "classic")
                .set("session.timeout.ms", "10000")
                .set("partition.assignment.strategy", "cooperative-sticky");
            if self.static_member {
                config.set("group.instance.id", format!("{group}-{}", self.instance));
            }
        } else {
            // No group.instance.id: under KIP-848 a static member that was killed is refused
            // (UNRELEASED_INSTANCE_ID, fatal) until its session has expired; a new dynamic one
            // joins at once and is given the partitions when it has.
            config.set("group.protocol", "consumer");
        }
        config
    }

    /// A consumer of committed records outside any group, from the beginning unless told otherwise.
    /// The group's name is for reading its offsets.
    pub(crate) fn reader(&self, job: &str, group: &str) -> ClientConfig {
        let mut config = self.client(job);
        config
            .set("group.id", group)
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "10");
        config
    }

    /// A producer whose acknowledgements mean durable, partitioned as JVM producers do.
    pub(crate) fn producer(&self, job: &str) -> ClientConfig {
        let mut config = self.client(job);
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("compression.type", &self.compression)
            .set("message.max.bytes", (20 << 20).to_string())
            .set("batch.num.messages", "10000")
            .set("batch.size", "1048576")
            .set("queue.buffering.max.messages", "1000000");
        config
    }
}

/// Logs what librdkafka reports outside of any call.
pub(crate) fn log_error(client: &'static str, error: &KafkaError, reason: &str) {
    // Reported here too, though it is a result of polling that was asked for.
    if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
        tracing::warn!(%error, reason, client, "kafka");
    }
}

/// The context of a consumer that is not in a group.
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        log_error("reader", &error, reason);
    }
}

impl ConsumerContext for Quiet {}
