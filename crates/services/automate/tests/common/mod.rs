//! What the tests of automate share.
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part")]

use event::{EventId, Kind};
use harness::{Cluster, Launch, Outgoing, Record, Service, layout};
use record::names;
use serde_json::{Value, json};

/// In microseconds.
pub const HOUR: i64 = 3_600_000_000;
/// 2027-01-15 08:00:00 UTC.
pub const T0: i64 = 1_800_000_000_000_000;
/// The partitions of topics keyed by recipient.
pub const PARTITIONS: i32 = 3;

/// One step of the log.
#[derive(Debug, Clone)]
pub enum Step {
    Event(TestEvent),
    /// A time record in every partition.
    Time(i64),
}

/// An event of a recipient with a number.
#[derive(Debug, Clone)]
pub struct TestEvent {
    pub number: u64,
    pub kind: Kind,
    pub recipient: u64,
    pub message: u64,
    pub human: bool,
    pub authentic: bool,
    /// UTC microseconds.
    pub at: i64,
}

impl TestEvent {
    pub fn new(number: u64, kind: Kind, recipient: u64, at: i64) -> Self {
        Self { number, kind, recipient, message: recipient, human: true, authentic: true, at }
    }

    pub fn id(&self) -> EventId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.number.to_be_bytes());
        EventId(id)
    }

    pub fn address(&self) -> String {
        format!("r{}@example.com", self.recipient)
    }

    pub fn campaign(&self) -> String {
        format!("c{}", self.message % 3)
    }

    fn record(&self, cluster: &Cluster) -> Outgoing {
        let mut value = json!({
            "event_id": self.id().to_string(), "kind": self.kind.as_str(), "provider": "ses",
            "source": "acme", "occurred_at": self.at, "received_at": self.at,
            "recipient": self.address(), "message_id": format!("m{}", self.message),
            "campaign": self.campaign(), "url": "https://acme.example/offer", "provider_event": "x",
            "request_id": "r1", "authentic": self.authentic, "raw": {"a": 1},
        });
        if !self.human {
            value["automation"] = json!({"reason": "scanner", "confidence": 1.0});
        }
        let key = (self.id(), self.kind, self.at);
        let record = harness::records::event(
            &cluster.topics,
            &self.address(),
            value.to_string(),
            key,
            "kind",
        )
        .header(names::RECEIVED_AT, self.at.to_string())
        .header(names::SOURCE, "acme")
        .on(i32::try_from(self.recipient).unwrap() % PARTITIONS);
        let record = if self.authentic { record } else { record.header(names::UNAUTHENTIC, "") };
        if self.human { record } else { record.header(names::MACHINE, "") }
    }
}

/// Returns the records of steps.
pub fn records(cluster: &Cluster, steps: &[Step]) -> Vec<Outgoing> {
    let mut records = Vec::new();
    for step in steps {
        match step {
            Step::Event(event) => records.push(event.record(cluster)),
            Step::Time(time) => records.extend((0..PARTITIONS).map(|partition| {
                Outgoing::new(&cluster.topics.events, "", "")
                    .header(names::TIME, time.to_string())
                    .on(partition)
            })),
        }
    }
    records
}

pub fn cluster(name: &str) -> Cluster {
    Cluster::new(&format!("automate-{name}"), layout(PARTITIONS, 2))
}

pub fn member(cluster: &Cluster, rules: &str, instance: &str) -> Service {
    launch(cluster, rules, instance).start()
}

pub fn launch(cluster: &Cluster, rules: &str, instance: &str) -> Launch {
    Launch::new("automate", env!("CARGO_BIN_EXE_automate"), cluster)
        .config(rules)
        .instance(instance)
}

/// Waits until a stage has read every record of a topic.
pub fn await_read(cluster: &Cluster, stage: &str, topic: &str) {
    let mut ends = std::collections::BTreeMap::new();
    for record in cluster.read_settled(topic) {
        ends.insert(record.partition, record.offset + 1);
    }
    let group = cluster.topics.group(stage);
    let what = format!("{group} to read {topic}");
    harness::eventually(&what, harness::DEADLINE, || {
        let committed = cluster.committed(&group, topic);
        harness::seen(format!("{committed:?} of {ends:?}"), |_| {
            ends.iter().all(|(partition, end)| {
                let committed = &committed[usize::try_from(*partition).unwrap()];
                committed.as_ref().is_some_and(|committed| committed.offset >= *end)
            })
        })
    });
}

/// Waits until everything that follows from `mail.events` is decided. Returns `mail.intents` and `mail.actions`.
pub fn decided(cluster: &Cluster) -> (Vec<Record>, Vec<Record>) {
    let topics = &cluster.topics;
    await_read(cluster, "automate-match", &topics.events);
    await_read(cluster, "automate-limit", &topics.intents);
    (cluster.read_settled(&topics.intents), cluster.read_settled(&topics.actions))
}

/// Returns the ids of actions, sorted.
pub fn action_ids(actions: &[Record]) -> Vec<String> {
    let ids = actions.iter().map(|action| text(&action.json()["action_id"]));
    let mut ids: Vec<_> = ids.collect();
    ids.sort();
    ids
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}
