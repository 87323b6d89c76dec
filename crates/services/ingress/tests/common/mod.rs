//! An ingress of a test's own: the real binary, real requests over TCP, real Kafka.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, dead_code)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use devstack::process::{self, Child};
use event::Provider;
use record::Topics;
use kafka::feed::{Feed, Item};
use kafka::{ClusterSettings, Connection};
use testkit::{Credentials, Plan, SignedRequest, Traffic};

pub const DEADLINE: Duration = Duration::from_secs(30);

/// An ingress of its own, with topics of its own.
pub struct Ingress {
    pub child: Child,
    pub address: String,
    pub admin: String,
    pub credentials: Credentials,
    pub topics: Topics,
    connection: Connection,
    directory: tempfile::TempDir,
}

impl Ingress {
    pub fn start(kafka: &str) -> Self {
        Self::start_with(kafka, "")
    }

    /// With further keys of `[ingress]`, and after them further tables.
    pub fn start_with(kafka: &str, keys: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = process::free_port().unwrap();
        let admin = format!("127.0.0.1:{}", process::free_port().unwrap());
        let address = format!("127.0.0.1:{port}");
        let prefix = format!("t{}.", uuid::Uuid::new_v4().simple());
        let credentials = Credentials::new(&format!("http://{address}"));
        credentials.write_certificates(directory.path()).unwrap();
        let patience = if keys.contains("read_timeout") { "" } else { "read_timeout = \"1s\"" };
        let toml = format!(
            "[kafka]\nbootstrap = {kafka:?}\nprefix = {prefix:?}\n\
             [topics]\nrecipient_partitions = 2\nscope_partitions = 1\nreplication = 1\n\
             [ingress]\nlisten = {address:?}\nadmin = {admin:?}\n{patience}\n\
             ack_timeout = \"2s\"\ndrain_delay = \"200ms\"\nsns_certificates = {:?}\nspool_directory = {:?}\n{keys}\n{}",
            directory.path(),
            directory.path().join("spool"),
            credentials.sources_toml()
        );
        std::fs::write(directory.path().join("mailpulse.toml"), toml).unwrap();
        let cluster: ClusterSettings = serde_json::from_value(serde_json::json!({
            "bootstrap": kafka, "prefix": prefix, "group_protocol": "consumer",
            "compression": "lz4", "properties": {},
        }))
        .unwrap();
        let (topics, connection) = (cluster.topics(), cluster.connect("test", false));
        let child = spawn(&directory);
        let mut started =
            Self { child, address, admin, credentials, topics, connection, directory };
        started.await_ready();
        started
    }

    /// Killed with SIGKILL, and started again over what it left.
    pub fn kill_and_start(&mut self) {
        self.child.kill().unwrap();
        self.child = spawn(&self.directory);
        self.await_ready();
    }

    fn await_ready(&mut self) {
        let log = log(&self.directory);
        let deadline = Instant::now() + DEADLINE;
        while !self.is_ready() {
            assert!(self.child.is_running(), "{}", process::tail(&log, 30));
            assert!(Instant::now() < deadline, "{}", process::tail(&log, 30));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Every byte in its spool.
    pub fn spooled(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.directory.path().join("spool")).unwrap();
        files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        process::tail(&log(&self.directory), 100)
    }

    pub fn is_ready(&self) -> bool {
        get(&self.admin, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// The value of a metric, named with all its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text = get(&self.admin, "/metrics").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().parse().unwrap()
    }

    pub fn post(&self, request: &SignedRequest) -> Answer {
        self.send("POST", &request.path, &request.headers, &request.body)
    }

    /// Posts a body with these headers.
    pub fn post_body(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        self.send("POST", path, &headers.iter().map(owned).collect::<Vec<_>>(), body)
    }

    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Answer {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n",
            self.address,
            body.len()
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all((head + "\r\n").as_bytes()).unwrap();
        // An answer may come before the body was taken; what is left of it meets a closed door.
        let _ = stream.write_all(body);
        Answer::read(stream)
    }

    /// Everything in these topics, once there are `count` records.
    pub fn records(&self, topics: &[&str], count: usize) -> Vec<Item> {
        let group = format!("{}test-{}", self.topics.prefix, uuid::Uuid::new_v4().simple());
        let mut feed = Feed::open(&self.connection, "test", &group, topics).unwrap();
        let mut items = Vec::new();
        let deadline = Instant::now() + DEADLINE;
        // One poll past the last one, so that a record too many is seen.
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

    pub fn all_topics(&self) -> Vec<&str> {
        self.topics.all_raw().chain([self.topics.dead_letters.as_str()]).collect()
    }
}

pub struct Answer {
    pub status: u16,
    pub text: String,
}

impl Answer {
    pub fn read(mut stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        let status = text.split(' ').nth(1).unwrap_or("0").parse().unwrap();
        Self { status, text }
    }

    /// The status, and the code of a problem.
    pub fn verdict(&self) -> (u16, String) {
        (self.status, self.json()["code"].as_str().unwrap_or_default().to_owned())
    }

    /// The value of a header, in lower case.
    pub fn header(&self, name: &str) -> Option<String> {
        let head = self.text.split("\r\n\r\n").next()?.to_ascii_lowercase();
        let prefix = format!("{name}: ");
        head.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.text.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

fn spawn(directory: &tempfile::TempDir) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ingress"));
    command.arg("--config").arg(directory.path().join("mailpulse.toml"));
    process::spawn(command, &log(directory)).unwrap()
}

fn log(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("ingress.log")
}

pub fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

pub fn now_unix() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

pub fn traffic(ingress: &Ingress) -> Traffic {
    Traffic::new(1, Plan::small(&ingress.credentials, now_unix()))
}

/// The first genuine request of a provider.
pub fn genuine(ingress: &Ingress, provider: Provider) -> SignedRequest {
    let path = format!("/webhooks/{provider}/");
    let traffic = traffic(ingress);
    traffic.requests().find(|request| request.path.starts_with(&path)).unwrap()
}
