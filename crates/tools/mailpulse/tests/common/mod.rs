//! Topics of a test's own on real Kafka, dead letters in them, and the tool as a process.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use record::{Topics, names};
use kafka::{
    Connection, OwnedRecord, PreparedHeaders, Publisher, PublisherSettings, TopicSettings, inspect,
};
use tempfile::TempDir;

pub const PARTITIONS: i32 = 3;
const PATIENCE: Duration = Duration::from_secs(120);

/// A dead letter to be written.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    pub key: &'a str,
    pub value: &'a [u8],
    pub provider: &'a str,
    pub source: &'a str,
    pub stage: &'a str,
    pub reason: &'a str,
    pub origin: &'a str,
}

impl Default for Letter<'_> {
    fn default() -> Self {
        Self {
            key: "ada@example.com",
            value: b"{}",
            provider: "postmark",
            source: "receipts",
            stage: "enrich",
            reason: "missing_time",
            origin: "",
        }
    }
}

/// What a run of the tool said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub bytes: Vec<u8>,
    pub err: String,
}

pub struct Place {
    pub connection: Connection,
    pub topics: Topics,
    publisher: Publisher,
    runtime: tokio::runtime::Runtime,
    home: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let connection = Connection {
            bootstrap: devstack::shared_kafka().to_owned(),
            instance: "test".to_owned(),
            group_protocol: "consumer".to_owned(),
            compression: "lz4".to_owned(),
            ..Connection::default()
        };
        let topics = Topics::new(&format!("letters-{}.", uuid::Uuid::new_v4().simple()));
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
        let home = tempfile::tempdir().unwrap();
        let (bootstrap, prefix) = (&connection.bootstrap, &topics.prefix);
        let text = format!("[kafka]\nbootstrap = {bootstrap:?}\nprefix = {prefix:?}\n");
        std::fs::write(home.path().join("mailpulse.toml"), text).unwrap();
        Self { connection, topics, publisher, runtime, home }
    }

    pub fn config(&self) -> PathBuf {
        self.home.path().join("mailpulse.toml")
    }

    /// The headers that a letter's record had before it died.
    pub fn original_headers(letter: &Letter<'_>) -> Vec<(String, Vec<u8>)> {
        [
            (names::PROVIDER, letter.provider.as_bytes()),
            (names::SOURCE, letter.source.as_bytes()),
            (names::RECEIVED_AT, b"1800000000000000"),
            (names::REQUEST_ID, b"r1"),
            // Not text, as event ids are.
            ("x", b"\0\xff"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_vec()))
        .to_vec()
    }

    /// Writes letters as the services do; returns when all are durable.
    pub fn write(&self, letters: &[Letter<'_>]) {
        let batch = self.publisher.batch();
        for letter in letters {
            let original = Self::original_headers(letter);
            let mut headers: Vec<(&str, &[u8])> =
                original.iter().map(|(name, value)| (name.as_str(), &value[..])).collect();
            headers.extend([
                (names::REASON, letter.reason.as_bytes()),
                (names::DETAIL, b"in so \x1b[31mmany words"),
                (names::STAGE, letter.stage.as_bytes()),
                (names::ORIGIN, letter.origin.as_bytes()),
            ]);
            let headers = PreparedHeaders::new(&headers);
            let topic = &self.topics.dead_letters;
            batch.send(topic, letter.key.as_bytes(), letter.value, &headers).unwrap();
        }
        self.runtime.block_on(batch.acknowledged()).unwrap();
    }

    /// The id of the letter with this value, which must be the only one.
    pub fn id(&self, value: &[u8]) -> String {
        let all = self.read(&self.topics.dead_letters);
        let mut with = all.iter().filter(|record| record.value.as_deref() == Some(value));
        let record = with.next().unwrap();
        assert!(with.next().is_none());
        format!("{}/{}", record.partition, record.offset)
    }

    pub fn read(&self, topic: &str) -> Vec<OwnedRecord> {
        read(&self.connection, topic)
    }

    /// What was sent back so far: of every topic that letters may go to.
    pub fn sent_back(&self) -> Vec<OwnedRecord> {
        let Topics { enriched, events, rates, alerts, .. } = &self.topics;
        let others = [enriched, events, rates, alerts].map(String::as_str);
        let topics: Vec<&str> = self.topics.all_raw().chain(others).collect();
        // All at once: opening and closing a consumer takes longer than reading.
        std::thread::scope(|scope| {
            let reading: Vec<_> = topics
                .into_iter()
                .map(|topic| scope.spawn(move || read(&self.connection, topic)))
                .collect();
            reading.into_iter().flat_map(|topic| topic.join().unwrap()).collect()
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailpulse"));
        command.args(["dead-letters"]).args(arguments).arg("--config").arg(self.config());
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Starts `mailpulse dead-letters …`. Its standard output goes to a file, which unlike a pipe
    /// takes all of it while nobody reads.
    pub fn start(&self, arguments: &[&str]) -> Started {
        let out = self.home.path().join(format!("out-{}", uuid::Uuid::new_v4().simple()));
        let child = self.command(arguments).stdout(File::create(&out).unwrap()).spawn().unwrap();
        Started { child, out }
    }

    /// Runs `mailpulse dead-letters …` to its end.
    pub fn run(&self, arguments: &[&str]) -> Said {
        self.start(arguments).end()
    }
}

/// A run of the tool.
pub struct Started {
    child: Child,
    out: PathBuf,
}

impl Started {
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGKILL, wherever it is; it may have ended by itself.
    pub fn kill(mut self) -> Said {
        self.child.kill().unwrap();
        self.end()
    }

    /// Waits for its end.
    pub fn end(self) -> Said {
        let output = self.child.wait_with_output().unwrap();
        Said::new(&output, std::fs::read(self.out).unwrap())
    }
}

impl Said {
    /// `code` is -1 for a run that was killed.
    fn new(output: &Output, out: Vec<u8>) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&out).into_owned(),
            bytes: out,
            err: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    pub fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }

    /// The only line that begins with this letter's id.
    pub fn line(&self, id: &str) -> &str {
        let of_it = |line: &&&str| line.split_whitespace().next() == Some(id);
        let lines = self.lines();
        let found: Vec<_> = lines.iter().filter(of_it).collect();
        assert_eq!(found.len(), 1, "{id} in {self:?}");
        found[0]
    }
}

/// Every committed record of a topic; asked for again while the broker is too busy to answer.
fn read(connection: &Connection, topic: &str) -> Vec<OwnedRecord> {
    let until = Instant::now() + PATIENCE;
    loop {
        match inspect::committed_records(connection, topic, PATIENCE) {
            Ok(records) => return records,
            Err(error) => assert!(Instant::now() < until, "{topic}: {error}"),
        }
    }
}

pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
