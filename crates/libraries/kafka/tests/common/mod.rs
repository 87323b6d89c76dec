//! Topics of one test, and a stage whose batches can be made to fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part")]

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use harness::{Cluster, DEADLINE, Producer, eventually, layout, seen};
use kafka::positions::PositionsTopic;
use kafka::stage::{LoopSettings, run_until};
use kafka::{
    AfterRollback, BatchSettings, Connection, Inputs, Kept, Outcome, Outgoing, Output, Record,
    Restore, Stage, TopicPartition,
};
use rdkafka::error::KafkaError;
use record::Reason;

/// Returns topics of one test; the names get the test's prefix.
pub fn cluster(topics: &[(&str, i32)]) -> Cluster {
    let cluster = Cluster::without_topics("kafka", layout(1, 1));
    cluster.create_plain(topics);
    cluster
}

pub fn connection(cluster: &Cluster) -> Connection {
    Connection {
        bootstrap: cluster.bootstrap.clone(),
        instance: "member".to_owned(),
        group_protocol: "consumer".to_owned(),
        compression: "lz4".to_owned(),
        properties: cluster.properties(),
        ..Connection::default()
    }
}

pub fn numbers(range: Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Produces numbers as text to partition 0 of a topic, and returns when all are acknowledged.
pub fn put(cluster: &Cluster, producer: &Producer, topic: &str, range: Range<usize>) {
    put_to(cluster, producer, (topic, 0), range);
}

pub fn put_to(
    cluster: &Cluster,
    producer: &Producer,
    (topic, partition): (&str, i32),
    range: Range<usize>,
) {
    let topic = cluster.name(topic);
    let record = |number| harness::Outgoing::new(&topic, "k", number).on(partition);
    let records: Vec<_> = numbers(range).into_iter().map(record).collect();
    producer.produce(&records);
}

/// Returns the values of a topic that are committed now, as text.
pub fn values(cluster: &Cluster, topic: &str) -> Vec<String> {
    cluster.read(&cluster.name(topic)).iter().map(|record| record.text().to_owned()).collect()
}

/// Returns the values of a topic, as text, when no transaction is open on it.
pub fn settled_values(cluster: &Cluster, topic: &str) -> Vec<String> {
    let records = cluster.read_settled(&cluster.name(topic));
    records.iter().map(|record| record.text().to_owned()).collect()
}

/// What happens to one record, or to the batch that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The record is passed.
    None,
    /// The stage returns an error for the record, and the batch is rolled back.
    Fails,
    /// The state of the stage fails, and the loop ends.
    StateFails,
    /// Another producer takes over the transactional id before the commit.
    Fenced,
    /// The record is dropped.
    Drops,
    /// The record is counted.
    Counts,
    /// The record becomes a dead letter.
    DeadLetters,
}

/// What the loop called.
#[derive(Debug, Default)]
pub struct Calls {
    pub committed: usize,
    pub rolled_back: usize,
    /// How many times a partition was reported as idle.
    pub idle: usize,
    pub metadata: Vec<String>,
    pub restored: Vec<Vec<String>>,
}

/// What a stage does with some of its records.
pub struct Behaviour {
    /// One for each call of `process`; no faults after the last.
    pub faults: Vec<Fault>,
    /// Whether a number always becomes a dead letter.
    pub is_unreadable: fn(usize) -> bool,
    /// To how many bytes a number grows in `out`, if it grows.
    pub grows_to: fn(usize) -> Option<usize>,
    /// Whether dead letters keep neither key nor value of a record that is unfit.
    pub keeps_nothing: bool,
    /// The value of `kafka.max_message_bytes`.
    pub max_message_bytes: usize,
    /// The size at which a batch is full.
    pub batch_bytes: usize,
    /// Whether positions are written to the topic `positions`.
    pub positions: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            faults: Vec::new(),
            is_unreadable: |_| false,
            grows_to: |_| None,
            keeps_nothing: false,
            max_message_bytes: Connection::default().max_message_bytes,
            batch_bytes: 1 << 20,
            positions: false,
        }
    }
}

/// Copies `in` to `out`, and the records of each batch as one record to `log`, its changelog.
pub struct Copy {
    cluster: Cluster,
    pub calls: Arc<Mutex<Calls>>,
    /// One for each call of `process`; no faults after the last.
    faults: VecDeque<Fault>,
    /// Whether a number always becomes a dead letter.
    is_unreadable: fn(usize) -> bool,
    grows_to: fn(usize) -> Option<usize>,
    keeps_nothing: bool,
    fence: bool,
    batch: Vec<String>,
}

impl Copy {
    fn apply(&mut self, fault: Fault, number: usize) -> Result<(), kafka::Error> {
        match fault {
            Fault::Fails => Err(KafkaError::Canceled.into()),
            Fault::StateFails => Err(kafka::Error::state("broken")),
            Fault::Fenced => {
                self.fence = true;
                Ok(())
            }
            Fault::None | Fault::Drops | Fault::Counts | Fault::DeadLetters => {
                self.batch.push(number.to_string());
                Ok(())
            }
        }
    }
}

impl Stage for Copy {
    const STAGE: record::Stage = record::Stage::Dedupe;

    fn inputs(&self) -> Inputs {
        Inputs { topics: vec![self.cluster.name("in")], partitions: 1 }
    }

    fn restore(&mut self, p: &TopicPartition, restore: &Restore<'_>) -> Result<(), kafka::Error> {
        let mut log = Vec::new();
        restore.changelog(&self.cluster.name("log"), p.partition, None, |_, value| {
            log.push(String::from_utf8(value.unwrap().to_vec()).unwrap());
            Ok(())
        })?;
        let mut calls = self.calls.lock().unwrap();
        calls.metadata.push(restore.metadata().to_owned());
        calls.restored.push(log);
        Ok(())
    }

    fn idle(&mut self, _: &TopicPartition, _: Duration) {
        self.calls.lock().unwrap().idle += 1;
    }

    fn process(
        &mut self,
        record: &Record<'_>,
        out: &mut Output<'_>,
    ) -> Result<Outcome, kafka::Error> {
        let number = std::str::from_utf8(record.value().unwrap()).ok().and_then(|n| n.parse().ok());
        let Some(number) = number else {
            return out.dead_letter(record, Reason::NotUtf8, "not a number");
        };
        let fault = self.faults.pop_front().unwrap_or(Fault::None);
        if fault == Fault::DeadLetters || (self.is_unreadable)(number) {
            return out.dead_letter(record, Reason::NotJson, "unreadable");
        }
        self.apply(fault, number)?;
        match fault {
            Fault::Drops => Ok(Outcome::Dropped),
            Fault::Counts => Ok(Outcome::Counted),
            _ => {
                let topic = self.cluster.name("out");
                match (self.grows_to)(number) {
                    None => out.forward(record, &topic, 0, &[])?,
                    Some(bytes) => {
                        // Compression must not make it small.
                        let value = incompressible(bytes);
                        out.forward_as(record, &topic, 0, (record.key(), Some(&value)), &[])?;
                    }
                }
                Ok(Outcome::Passed)
            }
        }
    }

    fn kept<'r>(&self, record: &Record<'r>) -> Kept<'r> {
        if self.keeps_nothing {
            return Kept { key: b"nobody".into(), value: None };
        }
        Kept::all(record)
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        if !self.batch.is_empty() {
            let (topic, value) = (self.cluster.name("log"), self.batch.join(","));
            let value = Some(value.as_bytes());
            out.send(Outgoing {
                topic: &topic,
                partition: Some(0),
                key: b"",
                value,
                headers: &[],
            })?;
        }
        if std::mem::take(&mut self.fence) {
            self.cluster.transactional_producer(&self.cluster.name("copy-member"));
        }
        Ok(())
    }

    fn offset_metadata(&self, _: &TopicPartition) -> String {
        format!("after {}", self.batch.last().map_or("nothing", String::as_str))
    }

    fn committed(&mut self) -> Result<(), kafka::Error> {
        self.batch.clear();
        self.calls.lock().unwrap().committed += 1;
        Ok(())
    }

    fn rolled_back(&mut self) -> AfterRollback {
        self.batch.clear();
        self.calls.lock().unwrap().rolled_back += 1;
        AfterRollback::Keep
    }
}

/// Returns bytes that no compression makes smaller: the low bytes of a linear congruential generator
/// (constants of Knuth's MMIX).
pub fn incompressible(bytes: usize) -> Vec<u8> {
    let mut state = bytes as u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(&mut next).take(bytes).collect()
}

/// A loop that runs on a new thread. It is stopped when dropped.
pub struct Running {
    pub calls: Arc<Mutex<Calls>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), kafka::Error>>>,
}

impl Running {
    /// Starts a stage with these faults, one for each record.
    pub fn start(cluster: &Cluster, faults: Vec<Fault>) -> Self {
        Self::start_with(cluster, Behaviour { faults, ..Behaviour::default() })
    }

    pub fn start_with(cluster: &Cluster, behaviour: Behaviour) -> Self {
        let Behaviour {
            faults,
            is_unreadable,
            grows_to,
            keeps_nothing,
            max_message_bytes,
            batch_bytes,
            positions,
        } = behaviour;
        let calls = Arc::<Mutex<Calls>>::default();
        let mut stage = Copy {
            cluster: cluster.clone(),
            calls: Arc::clone(&calls),
            faults: faults.into(),
            is_unreadable,
            grows_to,
            keeps_nothing,
            fence: false,
            batch: Vec::new(),
        };
        let settings = LoopSettings {
            group: cluster.name("copy"),
            inputs: stage.inputs(),
            dead_letter_topic: cluster.name("dead"),
            positions: positions
                .then(|| PositionsTopic { name: cluster.name("positions"), partitions: 1 }),
            batch: BatchSettings {
                records: 100,
                bytes: batch_bytes,
                wait: Duration::from_millis(20),
                refusal_limit: 150,
            },
        };
        let connection = Connection { max_message_bytes, ..connection(cluster) };
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let stop = || stopped.load(Ordering::Relaxed);
            run_until(&connection, &settings, &mut stage, &stop, &|_| {})
        });
        Self { calls, stop, thread: Some(thread) }
    }

    /// Stops the loop and returns its result.
    pub fn stop(mut self) -> Result<(), kafka::Error> {
        self.stop.store(true, Ordering::Relaxed);
        self.result()
    }

    /// Waits until the loop ends by itself, and returns its result.
    pub fn result(&mut self) -> Result<(), kafka::Error> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits until `out` has at least `count` committed records.
pub fn await_output(cluster: &Cluster, count: usize) {
    let what = format!("{count} committed records in out");
    eventually(&what, DEADLINE, || seen(values(cluster, "out").len(), |found| *found >= count));
}

/// Returns the committed counts of `in`: read, passed, dropped, dead letters, redriven.
pub fn ledger(cluster: &Cluster) -> String {
    let committed = cluster.committed(&cluster.name("copy"), &cluster.name("in"));
    let metadata = committed.into_iter().flatten().next().unwrap().metadata;
    metadata.rsplit_once('@').unwrap().1.to_owned()
}
