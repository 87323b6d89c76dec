//! Dead letters in topics of one test on real Kafka, and the tool as a process.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part")]

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use harness::{Cluster, Outgoing, Record, layout};
use record::{Topics, names};
use tempfile::TempDir;

pub const PARTITIONS: i32 = 3;

/// A dead letter to be written.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetter<'a> {
    pub key: &'a str,
    pub value: &'a [u8],
    pub provider: &'a str,
    pub source: &'a str,
    pub stage: &'a str,
    pub reason: &'a str,
    pub origin: &'a str,
}

impl Default for DeadLetter<'_> {
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

impl DeadLetter<'_> {
    /// Returns the headers that the record had before it became a dead letter.
    pub fn original_headers(&self) -> Vec<(String, Vec<u8>)> {
        [
            (names::PROVIDER, self.provider.as_bytes()),
            (names::SOURCE, self.source.as_bytes()),
            (names::RECEIVED_AT, b"1800000000000000"),
            (names::REQUEST_ID, b"r1"),
            // Bytes that are not text, as in event ids.
            ("x", b"\0\xff"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_vec()))
        .to_vec()
    }
}

/// Topics of one test, and a settings file for the tool.
pub struct Setup {
    pub cluster: Cluster,
    home: TempDir,
}

impl Setup {
    pub fn new() -> Self {
        let cluster = Cluster::new("dead-letters", layout(PARTITIONS, 1));
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("mailpulse.toml"), cluster.toml()).unwrap();
        Self { cluster, home }
    }

    pub fn config(&self) -> PathBuf {
        self.home.path().join("mailpulse.toml")
    }

    pub fn topics(&self) -> &Topics {
        &self.cluster.topics
    }

    /// Writes dead letters as the services do, and returns when all are acknowledged.
    pub fn write(&self, dead_letters: &[DeadLetter<'_>]) {
        let records = dead_letters.iter().map(|dead_letter| {
            let topic = &self.topics().dead_letters;
            let mut record = Outgoing::new(topic, dead_letter.key, dead_letter.value);
            record.headers = dead_letter.original_headers();
            record
                .header(names::REASON, dead_letter.reason)
                .header(names::DETAIL, "in so \x1b[31mmany words")
                .header(names::STAGE, dead_letter.stage)
                .header(names::ORIGIN, dead_letter.origin)
        });
        self.cluster.produce(&records.collect::<Vec<_>>());
    }

    /// Returns the id of the only dead letter that has this value.
    pub fn id(&self, value: &[u8]) -> String {
        let all = self.dead_letters();
        let mut found = all.iter().filter(|record| record.value.as_deref() == Some(value));
        let record = found.next().unwrap();
        assert!(found.next().is_none());
        format!("{}/{}", record.partition, record.offset)
    }

    /// Returns all records of a topic when no transaction is open on it.
    pub fn read(&self, topic: &str) -> Vec<Record> {
        self.cluster.read_settled(topic)
    }

    /// Returns all dead letters and markers.
    pub fn dead_letters(&self) -> Vec<Record> {
        self.read(&self.topics().dead_letters)
    }

    /// Returns what was redriven: all records of every topic that dead letters may be redriven to.
    pub fn redriven(&self) -> Vec<Record> {
        let Topics { enriched, events, rates, alerts, .. } = self.topics();
        let others = [enriched, events, rates, alerts].map(String::as_str);
        let topics: Vec<&str> = self.topics().all_raw().chain(others).collect();
        // At the same time, because opening and closing a consumer takes longer than reading.
        std::thread::scope(|scope| {
            let reading: Vec<_> =
                topics.into_iter().map(|topic| scope.spawn(move || self.read(topic))).collect();
            reading.into_iter().flat_map(|topic| topic.join().unwrap()).collect()
        })
    }

    /// Starts `mailpulse dead-letters …`. Its standard output is a file: unlike a pipe, a file accepts
    /// everything while nothing reads it.
    pub fn start(&self, arguments: &[&str]) -> Running {
        self.start_tool(&[&["dead-letters"], arguments].concat())
    }

    /// Starts `mailpulse …`.
    pub fn start_tool(&self, arguments: &[&str]) -> Running {
        let out = self.home.path().join(format!("out-{}", uuid::Uuid::new_v4().simple()));
        let error = out.with_extension("error");
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailpulse"));
        command.args(arguments).arg("--config").arg(self.config());
        command.stdin(Stdio::null());
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&error).unwrap());
        Running { child: command.spawn().unwrap(), out, error }
    }

    /// Runs `mailpulse dead-letters …` to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.start(arguments).end()
    }
}

/// A started tool. It is killed when dropped.
pub struct Running {
    child: Child,
    out: PathBuf,
    error: PathBuf,
}

impl Running {
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Kills it with SIGKILL. It may have ended by itself before.
    pub fn kill(mut self) -> Output {
        self.child.kill().unwrap();
        self.end()
    }

    /// Waits until it ends.
    pub fn end(mut self) -> Output {
        let status = self.child.wait().unwrap();
        let bytes = std::fs::read(&self.out).unwrap();
        Output {
            code: status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&bytes).into_owned(),
            bytes,
            err: std::fs::read_to_string(&self.error).unwrap(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the tool wrote.
#[derive(Debug)]
pub struct Output {
    /// The exit code; -1 if it was killed.
    pub code: i32,
    /// Standard output as text.
    pub out: String,
    /// Standard output.
    pub bytes: Vec<u8>,
    /// Standard error.
    pub err: String,
}

impl Output {
    pub fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }

    /// Returns the only line that begins with this id.
    pub fn line(&self, id: &str) -> &str {
        let begins = |line: &&&str| line.split_whitespace().next() == Some(id);
        let lines = self.lines();
        let found: Vec<_> = lines.iter().filter(begins).collect();
        assert_eq!(found.len(), 1, "{id} in {self:?}");
        found[0]
    }
}
