//! The binary on a real Kafka, and what it asks.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, missing_docs)]

pub mod dns;
pub mod mmdb;

use std::path::Path;
use std::time::{Duration, Instant};

use devstack::{Dirs, Running};
use event::Provider;
use record::{Topics, names};
use kafka::feed::{Feed, Item};
use kafka::{ClusterSettings, Connection, PreparedHeaders, Publisher, PublisherSettings};

pub const DEADLINE: Duration = Duration::from_secs(60);
pub const RECEIVED_AT: &str = "1800000000000000";

/// Whose a request is, from its path.
pub fn source(request: &testkit::SignedRequest) -> (Provider, &str) {
    let mut segments = request.path.split('/').skip(2);
    (segments.next().unwrap().parse().unwrap(), segments.next().unwrap())
}

/// The binary, and topics of its own.
pub struct Stage {
    pub enrich: Running,
    pub topics: Topics,
    connection: Connection,
    publisher: Publisher,
    _dirs: Dirs,
}

impl Stage {
    /// With further lines of settings, such as a section `[enrich]`.
    pub fn start(settings: &str) -> Self {
        let dirs = Dirs::new().unwrap();
        let kafka = devstack::shared_kafka();
        let prefix = format!("{}.", dirs.run.file_name().unwrap().to_str().unwrap());
        let toml = format!(
            "[kafka]\nbootstrap = {kafka:?}\nprefix = {prefix:?}\n\
             [topics]\nrecipient_partitions = 3\nscope_partitions = 1\nreplication = 1\n{settings}"
        );
        let binary = Path::new(env!("CARGO_BIN_EXE_enrich"));
        let named = [("MAILPULSE__SERVICE__INSTANCE", "a")];
        let enrich = Running::start_as(&dirs, binary, "enrich", &toml, &named).unwrap();
        let cluster: ClusterSettings = serde_json::from_value(serde_json::json!({
            "bootstrap": kafka, "prefix": prefix, "group_protocol": "consumer",
            "compression": "lz4", "properties": {},
        }))
        .unwrap();
        let connection = cluster.connect("test", false);
        let settings = PublisherSettings {
            linger: Duration::from_millis(1),
            queue_bytes: 64 << 20,
            ack_timeout: Some(DEADLINE),
        };
        let publisher = Publisher::open(&connection, settings).unwrap();
        Self { enrich, connection, topics: cluster.topics(), publisher, _dirs: dirs }
    }

    pub fn publish(&self, topic: &str, key: &[u8], value: &[u8], headers: &[(&str, &[u8])]) {
        let batch = self.publisher.batch();
        batch.send(topic, key, value, &PreparedHeaders::new(headers)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(batch.acknowledged()).unwrap();
    }

    /// Publishes a request's events as the ingress does.
    pub fn publish_request(&self, request: &testkit::SignedRequest) -> usize {
        let (provider, source) = source(request);
        let mut published = 0;
        providers::split(provider, &request.body, &mut |raw| {
            let headers = [
                (names::PROVIDER, provider.as_str().as_bytes()),
                (names::SOURCE, source.as_bytes()),
                (names::RECEIVED_AT, RECEIVED_AT.as_bytes()),
                (names::REQUEST_ID, b"r1"),
            ];
            self.publish(self.topics.raw(raw.kind), raw.recipient.as_bytes(), raw.raw, &headers);
            published += 1;
        })
        .unwrap();
        published
    }

    pub fn records(&self, topic: &str, count: usize) -> Vec<Item> {
        let group = format!("{}reader", self.topics.prefix);
        let mut feed = Feed::open(&self.connection, "test", &group, &[topic]).unwrap();
        let mut items = Vec::new();
        let deadline = Instant::now() + DEADLINE;
        let mut quiet = 0;
        while quiet < 10 {
            match feed.next(Duration::from_millis(100)).unwrap() {
                Some(item) => items.push(item),
                None if items.len() >= count => quiet += 1,
                None => assert!(Instant::now() < deadline, "{} of {count} records", items.len()),
            }
        }
        items
    }
}
