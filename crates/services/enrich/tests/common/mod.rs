//! The real binary on real Kafka, and what it asks.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part")]

pub mod dns;
pub mod mmdb;

use event::{Kind, Provider};
use harness::{Cluster, Launch, Record, Service, layout, records};
use testkit::SignedRequest;

/// Returns the provider and the source in the path of a request.
pub fn source(request: &SignedRequest) -> (Provider, &str) {
    let mut segments = request.path.split('/').skip(2);
    (segments.next().unwrap().parse().unwrap(), segments.next().unwrap())
}

/// The binary, and topics for one test.
pub struct Stage {
    pub enrich: Service,
    pub cluster: Cluster,
}

impl Stage {
    /// Starts enrich with further settings, such as a section `[enrich]`.
    pub fn start(settings: &str) -> Self {
        Self::launch(|launch| launch.config(settings))
    }

    pub fn launch(configure: impl FnOnce(Launch) -> Launch) -> Self {
        let cluster = Cluster::without_topics("enrich", layout(3, 1));
        let launch = Launch::new("enrich", env!("CARGO_BIN_EXE_enrich"), &cluster);
        let enrich = configure(launch).instance("a").start();
        Self { enrich, cluster }
    }

    /// Starts enrich on topics that exist, and returns before it is ready.
    pub fn start_unready(settings: &str) -> Self {
        let cluster = Cluster::new("enrich", layout(3, 1));
        let launch = Launch::new("enrich", env!("CARGO_BIN_EXE_enrich"), &cluster);
        let enrich = launch.config(settings).instance("a").spawn();
        Self { enrich, cluster }
    }

    /// Publishes a raw event as the ingress does.
    pub fn publish(
        &self,
        (provider, source): (Provider, &str),
        kind: Kind,
        recipient: &str,
        value: &[u8],
    ) {
        let topics = &self.cluster.topics;
        self.cluster.produce(&[records::raw(topics, provider, source, kind, recipient, value)]);
    }

    /// Publishes the raw events of a request as the ingress does, and returns their number.
    pub fn publish_request(&self, request: &SignedRequest) -> usize {
        let (provider, source) = source(request);
        let topics = &self.cluster.topics;
        let split = providers::split(provider, &request.body).unwrap();
        let raw_events = split.events();
        let records: Vec<_> = raw_events
            .map(|raw| records::raw(topics, provider, source, raw.kind, raw.recipient, raw.raw))
            .collect();
        self.cluster.produce(&records);
        split.len()
    }

    /// Returns all events, once there are `count` and a second has passed without a further one.
    pub fn enriched(&self, count: usize) -> Vec<Record> {
        self.cluster.reader(&[&self.cluster.topics.enriched]).records(count)
    }

    /// Returns all dead letters in the same way.
    pub fn dead_letters(&self, count: usize) -> Vec<Record> {
        self.cluster.reader(&[&self.cluster.topics.dead_letters]).records(count)
    }
}
