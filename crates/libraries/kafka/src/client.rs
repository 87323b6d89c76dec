use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::BaseProducer;
use rdkafka::{ClientConfig, ClientContext};

use crate::group_protocol::Protocol;
use crate::{Error, Obstacle};

/// How long one request to the cluster may take.
pub(crate) const KAFKA_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The default of [`Connection::max_message_bytes`].
pub(crate) const MAX_MESSAGE_BYTES: usize = 20 << 20;

/// The default of [`Connection::session_timeout`].
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// The size at which librdkafka closes a batch of records.
const PRODUCER_BATCH_BYTES: usize = 1 << 20;

/// How to reach the cluster, and under which name.
#[derive(Clone)]
pub struct Connection {
    /// Bootstrap servers: `host:port`, separated by commas.
    pub bootstrap: String,
    /// The name of this member.
    pub instance: String,
    /// Whether the operator chose `instance`, so that it stays the same after a restart. The
    /// member's open transaction then ends as soon as it is back, and under the classic protocol it
    /// keeps its place in the group.
    pub static_member: bool,
    /// `consumer` (KIP-848), `classic`, or `auto`: what the broker supports.
    pub group_protocol: String,
    /// Under the classic protocol, the time after which a silent member loses its partitions.
    pub session_timeout: Duration,
    /// The compression of produced records.
    pub compression: String,
    /// The largest record, in bytes: the value of `max.message.bytes` of the topics.
    pub max_message_bytes: usize,
    /// More librdkafka properties. `Debug` shows only the names, because values may be secrets.
    pub properties: BTreeMap<String, String>,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            bootstrap: String::new(),
            instance: String::new(),
            static_member: false,
            group_protocol: String::new(),
            session_timeout: SESSION_TIMEOUT,
            compression: String::new(),
            max_message_bytes: MAX_MESSAGE_BYTES,
            properties: BTreeMap::new(),
        }
    }
}

/// The librdkafka property for the longest time between two polls, in milliseconds. A member that
/// does not poll for longer loses its partitions.
const MAX_POLL_INTERVAL: &str = "max.poll.interval.ms";

/// How many KiB of fetched records one consumer may buffer, over all partitions. This bounds the
/// memory of a process, however many records are unread.
const FETCH_BUFFER_KIB: usize = 48 * 1024;

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("bootstrap", &self.bootstrap)
            .field("instance", &self.instance)
            .field("static_member", &self.static_member)
            .field("group_protocol", &self.group_protocol)
            .field("session_timeout", &self.session_timeout)
            .field("compression", &self.compression)
            .field("properties", &self.properties.keys())
            .finish()
    }
}

impl Connection {
    /// Constructs a client of each kind and drops it, without waiting for a connection. librdkafka then
    /// rejects properties that it does not know or cannot use, such as a file that does not exist or a
    /// SASL mechanism that it was built without.
    ///
    /// # Errors
    /// [`Error::Settings`].
    pub fn check(&self) -> Result<(), Error> {
        let settings = |error: KafkaError| Error::settings(&error);
        let (group, mut config) = ("mailpulse-check", self.consumer("check", "mailpulse-check", 1));
        let protocol = Protocol::configured(self).unwrap_or(Protocol::Consumer);
        protocol.set(self, group, &mut config);
        let _consumer: BaseConsumer = config.create().map_err(settings)?;
        let _producer: BaseProducer = self
            .producer("check")
            .set("transactional.id", "mailpulse-check")
            .create()
            .map_err(settings)?;
        Ok(())
    }

    /// Returns the configuration that all clients share. `component` becomes part of the client id.
    pub(crate) fn client(&self, component: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", format!("mailpulse-{component}-{}", self.instance))
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // A producer rejects larger records. A consumer accepts responses of at least this size.
            .set("message.max.bytes", self.max_message_bytes.to_string())
            // A client that has lost a partition's leader finds it again with this refresh. After a
            // broker restart, we have seen librdkafka 2.12 read leaders from uninitialised memory.
            // With its default of five minutes, the client would read no record for that long.
            .set("topic.metadata.refresh.interval.ms", "30000");
        for (key, value) in &self.properties {
            config.set(key, value);
        }
        config
    }

    /// Returns the configuration of a group member that reads committed records, without the
    /// [group protocol](Protocol). Only explicit calls commit offsets.
    pub(crate) fn consumer(&self, component: &str, group: &str, partitions: usize) -> ClientConfig {
        let mut config = self.client(component);
        let buffer = (FETCH_BUFFER_KIB / partitions.max(1)).clamp(128, 8 * 1024);
        // A response may come while the buffer is almost full, and records are about four times as long
        // when they are decompressed.
        let response = (buffer * 1024 / 4).min(1 << 20);
        let configured_interval = self.properties.get(MAX_POLL_INTERVAL).map(String::as_str);
        config
            .set("group.id", group)
            .set("isolation.level", "read_committed")
            // An offset that is lost or outside of the partition is an error; see `positions.rs`. A
            // partition without an offset starts at its first record; see `group.rs`.
            .set("auto.offset.reset", "error")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "20")
            .set("fetch.queue.backoff.ms", "20")
            .set("queued.min.messages", "20000")
            .set("queued.max.messages.kbytes", buffer.to_string())
            .set("max.partition.fetch.bytes", response.to_string())
            .set(MAX_POLL_INTERVAL, configured_interval.unwrap_or("300000"));
        config
    }

    /// Returns the configuration of a consumer that reads committed records and joins no group. It
    /// starts at the beginning unless the caller assigns an offset. `group` is the group whose
    /// committed offsets it can read.
    pub(crate) fn reader(&self, component: &str, group: &str) -> ClientConfig {
        let mut config = self.client(component);
        config
            .set("group.id", group)
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "10");
        config
    }

    /// Returns the configuration of a producer. The broker acknowledges a record when it is durable.
    /// Keys select the same partitions as with Kafka's Java producer.
    pub(crate) fn producer(&self, component: &str) -> ClientConfig {
        let mut config = self.client(component);
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("compression.type", &self.compression)
            .set("batch.num.messages", "10000")
            // The broker compares a whole batch with the limit of the topic.
            .set("batch.size", PRODUCER_BATCH_BYTES.min(self.max_message_bytes).to_string())
            .set("queue.buffering.max.messages", "1000000");
        config
    }
}

/// Logs an error that librdkafka reports outside of any call.
pub(crate) fn log_client_error(client: &'static str, error: &KafkaError, reason: &str) {
    // Polling also returns the end of a partition, and its caller expects it.
    let Some(code) = error.rdkafka_error_code().filter(|&it| it != RDKafkaErrorCode::PartitionEOF)
    else {
        return;
    };
    match Obstacle::find(code, reason) {
        Some(obstacle) => {
            let (code, fix) = (obstacle.code(), obstacle.fix());
            tracing::warn!(%error, reason, client, code, fix, "Kafka client reported an error");
        }
        None => tracing::warn!(%error, reason, client, "Kafka client reported an error"),
    }
}

/// The context of a consumer that is in no group.
pub(crate) struct ReaderContext;

impl ClientContext for ReaderContext {
    fn error(&self, error: KafkaError, reason: &str) {
        log_client_error("reader", &error, reason);
    }
}

impl ConsumerContext for ReaderContext {}
