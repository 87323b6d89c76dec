//! Topics of a test's own, records in and out, and a step whose rounds can be made to fail.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use record::{Reason, TopicSpec};
use kafka::step::{Step, StepSettings, run};
use kafka::{Connection, Outgoing, Output, Record, Restore, StreamError, TopicPartition};
use kafka::{admin, inspect};

pub const PATIENCE: Duration = Duration::from_secs(60);

/// A prefix of this test's own on the shared Kafka.
pub struct Place {
    pub connection: Connection,
    prefix: String,
}

impl Place {
    /// One that another process has made.
    pub fn existing(prefix: String) -> Self {
        let connection = Connection {
            bootstrap: devstack::shared_kafka().to_owned(),
            instance: "member".to_owned(),
            group_protocol: "consumer".to_owned(),
            compression: "lz4".to_owned(),
            ..Connection::default()
        };
        Self { connection, prefix }
    }

    pub fn new(topics: &[(&str, i32)]) -> Self {
        let place = Self::existing(format!("t{}.", uuid::Uuid::new_v4().simple()));
        let specs: Vec<_> = topics
            .iter()
            .map(|&(name, partitions)| TopicSpec {
                name: place.name(name),
                partitions,
                replication: 1,
                settings: Vec::new(),
            })
            .collect();
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(admin::create_topics(&place.connection, &specs, PATIENCE))
            .unwrap();
        place
    }

    pub fn name(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }

    pub fn settings(&self, batch_records: usize) -> StepSettings {
        StepSettings {
            job: "copy",
            group: self.name("copy"),
            inputs: vec![self.name("in")],
            input_partitions: 1,
            dead_letters: self.name("dead"),
            batch_records,
            batch_wait: Duration::from_millis(20),
            refusals_to_hold: 150,
        }
    }

    /// A producer outside of the library; transactional when it is given an id.
    pub fn producer(&self, transactional_id: Option<&str>) -> BaseProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.connection.bootstrap).set("linger.ms", "0");
        if let Some(id) = transactional_id {
            config.set("transactional.id", id);
        }
        let producer: BaseProducer = config.create().unwrap();
        if transactional_id.is_some() {
            producer.init_transactions(PATIENCE).unwrap();
        }
        producer
    }

    /// Numbers as text to one partition, durable when this returns.
    pub fn put(&self, producer: &BaseProducer, topic: &str, numbers: std::ops::Range<usize>) {
        let topic = self.name(topic);
        for number in numbers {
            let text = number.to_string();
            let record = BaseRecord::to(&topic).partition(0).key("k").payload(&text);
            producer.send(record).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    }

    pub fn read(&self, topic: &str) -> Vec<String> {
        let records =
            inspect::committed_records(&self.connection, &self.name(topic), PATIENCE).unwrap();
        records.into_iter().map(|r| String::from_utf8(r.value.unwrap()).unwrap()).collect()
    }

    /// What became of the records of `in`, as committed.
    pub fn tally(&self) -> String {
        let (group, topic) = (self.name("copy"), self.name("in"));
        let offsets = inspect::committed_offsets(&self.connection, &group, &topic, 1).unwrap();
        let (_, metadata) = offsets.into_iter().flatten().next().unwrap();
        metadata.rsplit_once('@').unwrap().1.to_owned()
    }

    pub fn await_output(&self, count: usize) {
        wait_until("the output", || self.read("out").len() >= count);
    }
}

/// What a test asks of a round, taken one a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// The step says no at this record.
    Fails,
    /// The step's own state fails: the loop must end.
    StateFails,
    /// The record is no good.
    Refuses,
    /// Somebody else takes our transactional id before the commit.
    Fenced,
}

/// What the loop told the step.
#[derive(Debug, Default)]
pub struct Calls {
    pub committed: usize,
    pub rolled_back: usize,
    pub metadata: Vec<String>,
    pub restored: Vec<Vec<String>>,
}

/// Copies `in` to `out` and, as a changelog, each round's records in one to `log`.
pub struct Copy {
    place: Arc<Place>,
    pub calls: Arc<Mutex<Calls>>,
    pub troubles: Arc<Mutex<VecDeque<Trouble>>>,
    fence: bool,
    round: Vec<String>,
}

impl Copy {
    pub fn new(place: &Arc<Place>, troubles: impl IntoIterator<Item = Trouble>) -> Self {
        Self {
            place: Arc::clone(place),
            calls: Arc::default(),
            troubles: Arc::new(Mutex::new(troubles.into_iter().collect())),
            fence: false,
            round: Vec::new(),
        }
    }
}

impl Step for Copy {
    fn assigned(&mut self, p: &TopicPartition, restore: &Restore<'_>) -> Result<(), StreamError> {
        let mut log = Vec::new();
        restore.changelog(&self.place.name("log"), p.partition, None, |_, value| {
            log.push(String::from_utf8(value.unwrap().to_vec()).unwrap());
            Ok(())
        })?;
        let mut calls = self.calls.lock().unwrap();
        calls.metadata.push(restore.metadata().to_owned());
        calls.restored.push(log);
        Ok(())
    }

    fn revoked(&mut self, _: &TopicPartition) {}

    fn record(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), StreamError> {
        let trouble = self.troubles.lock().unwrap().pop_front().unwrap_or(Trouble::None);
        match trouble {
            Trouble::None => {}
            Trouble::Fails => return Err(KafkaError::Canceled.into()),
            Trouble::StateFails => return Err(StreamError::state("broken")),
            Trouble::Refuses => return out.dead_letter(record, Reason::NotJson, "refused"),
            Trouble::Fenced => self.fence = true,
        }
        self.round.push(String::from_utf8(record.value().unwrap().to_vec()).unwrap());
        out.forward(record, &self.place.name("out"), 0, &[])
    }

    fn end_of_round(&mut self, out: &mut Output<'_>) -> Result<(), StreamError> {
        if !self.round.is_empty() {
            let (topic, value) = (self.place.name("log"), self.round.join(","));
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
            let id = format!("{}-{}", self.place.name("copy"), self.place.connection.instance);
            self.place.producer(Some(&id));
        }
        Ok(())
    }

    fn offset_metadata(&self, _: &TopicPartition) -> String {
        format!("after {}", self.round.last().map_or("nothing", String::as_str))
    }

    fn committed(&mut self) -> Result<(), StreamError> {
        self.round.clear();
        self.calls.lock().unwrap().committed += 1;
        Ok(())
    }

    fn rolled_back(&mut self) {
        self.round.clear();
        self.calls.lock().unwrap().rolled_back += 1;
    }
}

/// A loop in a thread of its own, stopped when asked or dropped.
pub struct Running {
    pub calls: Arc<Mutex<Calls>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), StreamError>>>,
}

impl Running {
    pub fn start(place: &Arc<Place>, batch_records: usize, troubles: Vec<Trouble>) -> Self {
        let (place, stop) = (Arc::clone(place), Arc::<AtomicBool>::default());
        let mut step = Copy::new(&place, troubles);
        let calls = Arc::clone(&step.calls);
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let settings = place.settings(batch_records);
            let stop = || stopped.load(Ordering::Relaxed);
            run(&place.connection, &settings, &mut step, &stop, &|_| {})
        });
        Self { calls, stop, thread: Some(thread) }
    }

    /// Asks it to stop, and returns how it ended.
    pub fn stop(mut self) -> Result<(), StreamError> {
        self.stop.store(true, Ordering::Relaxed);
        self.ended()
    }

    /// How it ended by itself.
    pub fn ended(&mut self) -> Result<(), StreamError> {
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

pub fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
