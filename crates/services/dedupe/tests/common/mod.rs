//! A cluster with topics of its own, traffic with repeats, members as processes, and the judgement.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, dead_code)]

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use event::{EventId, Kind};
use record::{EnrichedHeaders, FirstSight, Topics, names};
use kafka::{
    Connection, OwnedRecord, PreparedHeaders, Publisher, PublisherSettings, TopicSettings, admin,
    inspect,
};
use tempfile::TempDir;

pub const PARTITIONS: i32 = 3;
const PATIENCE: Duration = Duration::from_secs(150);

/// Topics under a prefix of their own.
pub struct Cluster {
    pub connection: Connection,
    pub topics: Topics,
    publisher: Publisher,
    runtime: tokio::runtime::Runtime,
}

/// One record of `mail.enriched`.
#[derive(Debug, Clone)]
pub struct Event {
    pub key: String,
    pub id: u64,
    pub kind: Kind,
    pub engagement: u64,
    pub occurred_at: i64,
}

impl Cluster {
    pub fn new() -> Self {
        let prefix = format!("dedupe-{}.", uuid::Uuid::new_v4().simple());
        let connection = Connection {
            bootstrap: devstack::shared_kafka().to_owned(),
            instance: "test".to_owned(),
            group_protocol: "consumer".to_owned(),
            compression: "lz4".to_owned(),
            ..Connection::default()
        };
        let topics = Topics::new(&prefix);
        let layout = TopicSettings {
            recipient_partitions: PARTITIONS,
            scope_partitions: 1,
            replication: 1,
            create: true,
        };
        layout.prepare(&connection, &topics, 72).unwrap();
        let settings = PublisherSettings {
            linger: Duration::from_millis(2),
            queue_bytes: 64 << 20,
            ack_timeout: Some(Duration::from_secs(30)),
        };
        let publisher = Publisher::open(&connection, settings).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { connection, topics, publisher, runtime }
    }

    /// Returns when all are durable, in this order for each key.
    pub fn produce(&self, events: &[Event]) {
        let batch = self.publisher.batch();
        for event in events {
            let occurred_at = event.occurred_at.to_string();
            let (id, engagement) = (id(event.id), id(event.engagement));
            let mut headers: Vec<(&str, &[u8])> = vec![
                (names::PROVIDER, b"sendgrid"),
                (names::EVENT_ID, id.as_bytes()),
                (names::KIND, event.kind.as_str().as_bytes()),
                (names::OCCURRED_AT, occurred_at.as_bytes()),
            ];
            if event.kind.is_engagement() {
                headers.push((names::ENGAGEMENT_ID, engagement.as_bytes()));
            }
            let value = format!("value of {}", event.id);
            let headers = PreparedHeaders::new(&headers);
            let key = event.key.as_bytes();
            batch.send(&self.topics.enriched, key, value.as_bytes(), &headers).unwrap();
        }
        self.runtime.block_on(batch.acknowledged()).unwrap();
    }

    /// A record without headers.
    pub fn produce_bare(&self, key: &str) {
        self.produce_one(key, b"bare", &[]);
    }

    /// One record as it is.
    pub fn produce_one(&self, key: &str, value: &[u8], headers: &[(&str, &[u8])]) {
        let batch = self.publisher.batch();
        let headers = PreparedHeaders::new(headers);
        batch.send(&self.topics.enriched, key.as_bytes(), value, &headers).unwrap();
        self.runtime.block_on(batch.acknowledged()).unwrap();
    }

    pub fn read(&self, topic: &str) -> Vec<OwnedRecord> {
        inspect::committed_records(&self.connection, topic, PATIENCE).unwrap()
    }

    /// Returns when the group has committed the end of its input.
    pub fn await_all_read(&self) {
        let enriched = &self.topics.enriched;
        let ends = admin::watermarks(&self.connection, enriched, PARTITIONS).unwrap();
        let wanted: i64 = ends.iter().map(|(_, end)| end).sum();
        wait_until("the group to read all", || self.committed() >= wanted);
    }

    /// Returns when the group has committed this many records since the beginning.
    pub fn await_committed(&self, wanted: i64) {
        wait_until("the group to commit", || self.committed() >= wanted);
    }

    /// Sum of the group's offsets.
    pub fn committed(&self) -> i64 {
        let (group, topic) = (self.topics.group("dedupe"), &self.topics.enriched);
        let until = Instant::now() + PATIENCE;
        let offsets = loop {
            match inspect::committed_offsets(&self.connection, &group, topic, PARTITIONS) {
                Ok(offsets) => break offsets,
                // On a busy machine a broker may take longer than one call is given.
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
        };
        offsets.iter().flatten().map(|(offset, _)| offset).sum()
    }

    /// The output is the input without its repeats: each partition in the order it was, the bytes
    /// as they were, and every open and click with what it is the first of.
    pub fn judge(&self) -> usize {
        let (input, output) = (self.read(&self.topics.enriched), self.read(&self.topics.events));
        let mut seen = HashSet::new();
        let mut marks = HashMap::<EventId, u8>::new();
        let mut output_left = output.iter();
        let mut passed = 0;
        for record in &input {
            let event = EnrichedHeaders::read(&|name| record.header(name)).unwrap();
            if !seen.insert(event.event_id) {
                continue;
            }
            let out = output_left.next().expect("an event was lost");
            let place = format!("input {}/{}", record.partition, record.offset);
            assert_eq!(out.partition, record.partition, "{place}");
            assert_eq!(out.header(names::EVENT_ID), record.header(names::EVENT_ID), "{place}");
            assert_eq!((&out.key, &out.value), (&record.key, &record.value), "{place}");
            assert_eq!(out.headers[..record.headers.len()], record.headers, "{place}");
            let first = out.header(names::FIRST).map(|v| FirstSight::from_header(v).unwrap());
            assert_eq!(first, expected_first(&event, &mut marks), "{place}");
            passed += 1;
        }
        assert_eq!(output_left.next(), None, "something passed twice");
        passed
    }
}

fn expected_first(event: &EnrichedHeaders, marks: &mut HashMap<EventId, u8>) -> Option<FirstSight> {
    let bit = match event.kind {
        Kind::Opened => 1,
        Kind::Clicked => 2,
        _ => return None,
    };
    let bits = marks.entry(event.engagement_id.unwrap()).or_default();
    let first = FirstSight { of_kind: *bits & bit == 0, of_engagement: *bits == 0 };
    *bits |= bit;
    Some(first)
}

/// Events of 300 recipients, a fifth of them repeats: some of the one just before, some from long
/// ago, all with the time of what they repeat.
pub fn traffic(count: usize, seed: u64) -> Vec<Event> {
    let mut state = seed;
    let mut random = move |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut events: Vec<Event> = Vec::with_capacity(count);
    for number in 0..count {
        let repeated = match random(10) {
            0 => events.last().cloned(),
            1 if number > 0 => Some(events[random(number)].clone()),
            _ => None,
        };
        events.push(repeated.unwrap_or_else(|| {
            let recipient = random(300);
            Event {
                key: format!("r{recipient}@example.com"),
                id: seed << 32 | number as u64,
                kind: Kind::ALL[random(8)],
                // Two messages to each recipient.
                engagement: (1 << 60) + (recipient * 2 + random(2)) as u64,
                occurred_at: 1_780_000_000_000_000 + number as i64 * 1_000_000,
            }
        }));
    }
    events
}

/// Well spread, as digests are.
pub fn id(seed: u64) -> EventId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    id[8..].copy_from_slice(&seed.to_be_bytes());
    EventId(id)
}

/// The real binary.
pub struct Member {
    process: Child,
    admin: u16,
    home: TempDir,
}

impl Member {
    /// Starts one; `settings` are lines added to `[dedupe]`.
    pub fn start(cluster: &Cluster, instance: &str, settings: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), cluster, instance, settings)
    }

    fn start_in(home: TempDir, cluster: &Cluster, instance: &str, settings: &str) -> Self {
        let admin = devstack::process::free_port().unwrap();
        let config = home.path().join("mailpulse.toml");
        let (bootstrap, prefix) = (&cluster.connection.bootstrap, &cluster.topics.prefix);
        let directory = home.path().join("state");
        let text = format!(
            "[service]\ninstance = {instance:?}\n\
             [kafka]\nbootstrap = {bootstrap:?}\nprefix = {prefix:?}\n\
             [topics]\nrecipient_partitions = {PARTITIONS}\nscope_partitions = 1\nreplication = 1\n\
             [dedupe]\nadmin = \"127.0.0.1:{admin}\"\ndirectory = {directory:?}\n{settings}\n"
        );
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(home.path().join("log"))
            .unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_dedupe"))
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { process, admin, home }
    }

    /// SIGKILL: no destructor runs, no group is left. Returns the home it leaves behind.
    pub fn kill(mut self) -> TempDir {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::mem::replace(&mut self.home, tempfile::tempdir().unwrap())
    }

    /// SIGTERM; it must end well.
    pub fn stop(mut self) -> TempDir {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.log());
        std::mem::replace(&mut self.home, tempfile::tempdir().unwrap())
    }

    /// Starts again with the same name and what is left of its home.
    pub fn resume(home: TempDir, cluster: &Cluster, instance: &str, settings: &str) -> Self {
        Self::start_in(home, cluster, instance, settings)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap()
    }

    /// Waits until it has partitions.
    pub fn await_ready(&mut self) {
        wait_until("the member to be ready", || {
            assert!(self.process.try_wait().unwrap().is_none(), "it ended\n{}", self.log());
            self.get("/readyz").starts_with("HTTP/1.1 200")
        });
    }

    /// The sum of a counter over its labels.
    pub fn counter(&self, name: &str) -> f64 {
        let text = self.get("/metrics");
        let samples = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    fn get(&self, path: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.admin)) {
            let request =
                format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
            if stream.write_all(request.as_bytes()).is_ok() {
                let _ = stream.read_to_string(&mut answer);
            }
        }
        answer
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of the member on {}:\n{}", self.admin, self.log());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn wipe(home: &Path) {
    std::fs::remove_dir_all(home.join("state")).unwrap();
}

pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
