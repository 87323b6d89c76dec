//! The real binary, real requests over TCP, real Kafka.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use devstack::process::{self, Child};
use event::{Kind, Provider};
use record::{RawHeaders, Topics, names};
use stream::feed::{Feed, Item};
use stream::{ClusterSettings, Connection};
use testkit::{Credentials, Plan, SignedRequest, Traffic};

const DEADLINE: Duration = Duration::from_secs(30);

/// An ingress of its own, with topics of its own.
struct Ingress {
    child: Child,
    address: String,
    credentials: Credentials,
    topics: Topics,
    connection: Connection,
    _directory: tempfile::TempDir,
}

impl Ingress {
    fn start(kafka: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = process::free_port().unwrap();
        let admin = format!("127.0.0.1:{}", process::free_port().unwrap());
        let address = format!("127.0.0.1:{port}");
        let prefix = format!("t{}.", uuid::Uuid::new_v4().simple());
        let credentials = Credentials::new(&format!("http://{address}"));
        credentials.write_certificates(directory.path()).unwrap();
        let config: PathBuf = directory.path().join("mailpulse.toml");
        let toml = format!(
            "[kafka]\nbootstrap = {kafka:?}\nprefix = {prefix:?}\n\
             [topics]\nrecipient_partitions = 2\nscope_partitions = 1\nreplication = 1\n\
             [ingress]\nlisten = {address:?}\nadmin = {admin:?}\nread_timeout = \"1s\"\n\
             ack_timeout = \"2s\"\nsns_certificates = {:?}\n{}",
            directory.path(),
            credentials.sources_toml()
        );
        std::fs::write(&config, toml).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ingress"));
        command.arg("--config").arg(&config);
        let log = directory.path().join("ingress.log");
        let mut child = process::spawn(command, &log).unwrap();
        let deadline = Instant::now() + DEADLINE;
        while !get(&admin, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            assert!(child.is_running(), "{}", process::tail(&log, 30));
            assert!(Instant::now() < deadline, "{}", process::tail(&log, 30));
            std::thread::sleep(Duration::from_millis(20));
        }
        let cluster: ClusterSettings = serde_json::from_value(serde_json::json!({
            "bootstrap": kafka, "prefix": prefix, "group_protocol": "consumer",
            "compression": "lz4", "properties": {},
        }))
        .unwrap();
        Self {
            child,
            address,
            credentials,
            topics: cluster.topics(),
            connection: cluster.connect("test", false),
            _directory: directory,
        }
    }

    fn post(&self, request: &SignedRequest) -> Answer {
        self.send("POST", &request.path, &request.headers, &request.body)
    }

    fn send(&self, method: &str, path: &str, headers: &[(String, String)], body: &[u8]) -> Answer {
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
    fn records(&self, topics: &[&str], count: usize) -> Vec<Item> {
        let group = format!("{}test-{}", self.topics.prefix, uuid::Uuid::new_v4().simple());
        let mut feed = Feed::open(&self.connection, &group, topics).unwrap();
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

    fn all_topics(&self) -> Vec<&str> {
        self.topics.all_raw().chain([self.topics.dead_letters.as_str()]).collect()
    }
}

struct Answer {
    status: u16,
    text: String,
}

impl Answer {
    fn read(mut stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        let status = text.split(' ').nth(1).unwrap_or("0").parse().unwrap();
        Self { status, text }
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.text.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn now_unix() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

fn traffic(ingress: &Ingress) -> Traffic {
    Traffic::new(1, Plan::small(&ingress.credentials, now_unix()))
}

/// The first genuine request of a provider.
fn genuine(ingress: &Ingress, provider: Provider) -> SignedRequest {
    let path = format!("/webhooks/{provider}/");
    let traffic = traffic(ingress);
    traffic.requests().find(|request| request.path.starts_with(&path)).unwrap()
}

#[test]
fn events_of_every_provider_are_published_by_kind_and_keyed_by_recipient() {
    let ingress = Ingress::start(devstack::shared_kafka());
    let sources = testkit::SOURCES.map(|(provider, name)| (provider, name.to_owned())).to_vec();
    let plan = Plan { sources, ..Plan::small(&ingress.credentials, now_unix()) };
    let traffic = Traffic::new(1, plan);
    let mut accepted = 0;
    for request in traffic.requests() {
        let answer = ingress.post(&request);
        assert_eq!(answer.status, 200, "{}", answer.text);
        accepted += answer.json()["accepted"].as_u64().unwrap();
    }
    let truth = traffic.truth();
    assert_eq!(accepted, truth.accepted_total());

    let records = ingress.records(&ingress.all_topics(), usize::try_from(accepted).unwrap());
    let mut found: BTreeMap<(Provider, Kind), u64> = BTreeMap::new();
    let mut partitions: BTreeMap<Vec<u8>, i32> = BTreeMap::new();
    for record in &records {
        let headers = RawHeaders::read(&|name| record.header(name)).unwrap();
        let kind = record.topic.rsplit_once('.').unwrap().1.parse().unwrap();
        *found.entry((headers.provider, kind)).or_default() += 1;
        assert!((headers.received_at.micros() / 1_000_000 - now_unix()).abs() < 120);
        assert!(!headers.request_id.is_empty());
        let key = std::str::from_utf8(&record.key).unwrap();
        assert!(key.contains('@') && key == key.to_lowercase(), "{key}");
        let partition = partitions.entry(record.key.clone()).or_insert(record.partition);
        assert_eq!(*partition, record.partition, "{key} lies on two partition numbers");
    }
    assert_eq!(found, truth.accepted);
}

#[test]
fn a_wrong_signature_gets_a_problem_document_and_publishes_nothing() {
    let ingress = Ingress::start(devstack::shared_kafka());
    for provider in [
        Provider::SendGrid,
        Provider::Mailgun,
        Provider::Postmark,
        Provider::Ses,
        Provider::Mandrill,
    ] {
        let traffic = Traffic::new(
            1,
            Plan {
                credentials: ingress.credentials.impostor(),
                ..Plan::small(&ingress.credentials, now_unix())
            },
        );
        let path = format!("/webhooks/{provider}/");
        let forged = traffic.requests().find(|r| r.path.starts_with(&path)).unwrap();
        let answer = ingress.post(&forged);
        let expected = if provider == Provider::Mailgun { 406 } else { 401 };
        assert_eq!(answer.status, expected, "{provider}: {}", answer.text);
        assert!(answer.text.contains("application/problem+json"));
        let problem = answer.json();
        assert_eq!(problem["status"], expected);
        assert!(problem["code"].as_str().is_some_and(|code| code.contains("wrong_")), "{problem}");
    }
    // A genuine one after them is the only thing published.
    assert_eq!(ingress.post(&genuine(&ingress, Provider::Postmark)).status, 200);
    assert_eq!(ingress.records(&ingress.all_topics(), 1).len(), 1);
}

#[test]
fn a_verified_body_of_garbage_is_taken_and_found_whole_in_dead_letters() {
    let ingress = Ingress::start(devstack::shared_kafka());
    let mut request = genuine(&ingress, Provider::Postmark);
    request.body = bytes::Bytes::from_static(b"\x00 not { json \xff");
    let answer = ingress.post(&request);
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["accepted"], 0);
    assert_eq!(answer.json()["dead_lettered"], 1);
    let records = ingress.records(&ingress.all_topics(), 1);
    assert_eq!(records.len(), 1);
    let letter = &records[0];
    assert_eq!(letter.topic, ingress.topics.dead_letters);
    assert_eq!(letter.value.as_deref(), Some(&b"\x00 not { json \xff"[..]));
    assert!(matches!(letter.header(names::REASON), Some(b"not_utf8" | b"not_json")));
    assert_eq!(letter.header(names::STAGE), Some(&b"ingress"[..]));
    assert_eq!(letter.header(names::PROVIDER), Some(&b"postmark"[..]));
}

#[test]
fn what_is_not_a_webhook_is_told_why() {
    let ingress = Ingress::start(devstack::shared_kafka());
    let genuine = genuine(&ingress, Provider::Postmark);
    let code = |answer: &Answer| answer.json()["code"].as_str().unwrap().to_owned();

    for path in ["/webhooks/fax/acme", "/webhooks/postmark/nobody", "/", "/webhooks"] {
        let answer = ingress.send("POST", path, &[], b"{}");
        assert_eq!((answer.status, code(&answer).as_str()), (404, "unknown_source"), "{path}");
    }
    let answer = ingress.send("GET", &genuine.path, &[], b"");
    assert_eq!((answer.status, code(&answer).as_str()), (405, "method_not_allowed"));
    assert_eq!(ingress.send("HEAD", &genuine.path, &[], b"").status, 200);

    let mut headers = genuine.headers.clone();
    headers.push(("content-encoding".into(), "gzip".into()));
    let answer = ingress.send("POST", &genuine.path, &headers, &genuine.body);
    assert_eq!((answer.status, code(&answer).as_str()), (415, "encoded_body"));

    let oversize = vec![b' '; 16 * 1024 * 1024 + 1];
    let answer = ingress.send("POST", &genuine.path, &genuine.headers, &oversize);
    assert_eq!((answer.status, code(&answer).as_str()), (413, "body_too_large"));
}

#[test]
fn a_body_that_does_not_arrive_is_not_waited_for() {
    let ingress = Ingress::start(devstack::shared_kafka());
    let path = genuine(&ingress, Provider::Postmark).path;
    let mut stream = TcpStream::connect(&ingress.address).unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n123");
    stream.write_all(head.as_bytes()).unwrap();
    let answer = Answer::read(stream);
    assert_eq!(answer.status, 408);
    assert_eq!(answer.json()["code"], "read_timeout");
}

#[test]
fn without_kafka_the_provider_is_asked_to_come_again() {
    let dirs = devstack::Dirs::new().unwrap();
    let mut kafka = devstack::Kafka::start_own(&dirs).unwrap();
    let ingress = Ingress::start(kafka.bootstrap());
    let request = genuine(&ingress, Provider::Postmark);
    assert_eq!(ingress.post(&request).status, 200);
    kafka.kill().unwrap();
    let answer = ingress.post(&request);
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert_eq!(answer.json()["code"], "ack_timeout");
    assert!(answer.text.to_ascii_lowercase().contains("retry-after: "));
    kafka.restart().unwrap();
    let deadline = Instant::now() + DEADLINE;
    while ingress.post(&request).status != 200 {
        assert!(Instant::now() < deadline, "kafka is back and nothing is taken");
    }
}

#[test]
fn a_request_under_way_is_finished_when_the_process_is_told_to_stop() {
    let mut ingress = Ingress::start(devstack::shared_kafka());
    let request = genuine(&ingress, Provider::Postmark);
    let mut stream = TcpStream::connect(&ingress.address).unwrap();
    let mut head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n",
        request.path,
        request.body.len()
    );
    for (name, value) in &request.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let (first, rest) = request.body.split_at(10);
    stream.write_all((head + "\r\n").as_bytes()).unwrap();
    stream.write_all(first).unwrap();
    // The head is surely read once another request, sent after it, is answered.
    assert_eq!(ingress.post(&request).status, 200);
    let rest = rest.to_vec();
    let finishing = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        stream.write_all(&rest).unwrap();
        Answer::read(stream)
    });
    let status = ingress.child.terminate(Duration::from_secs(20)).unwrap();
    let answer = finishing.join().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(status.success(), "{status}");
    assert!(TcpStream::connect(&ingress.address).is_err());
}
