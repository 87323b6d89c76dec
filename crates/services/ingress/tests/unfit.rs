//! Requests that Kafka can never accept as they are, and spools with entries that cannot be published
//! or read. None of them stops the requests after it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod numbered;

use std::io::Write;
use std::path::{Path, PathBuf};

use common::{Ingress, generic_source, genuine, now_unix};
use event::{Provider, ReceivedAt};
use flate2::Compression;
use flate2::write::GzEncoder;
use harness::{Reader, Record};
use numbered::{Numbered, own_kafka};
use record::RawHeaders;
use spool::{Parts, Spool};
use testkit::load::event_batch;
use testkit::{SignedRequest, sign};

const MIB: usize = 1 << 20;

/// Returns a Resend event with this number of recipients, of about this length.
fn resend(recipients: usize, bytes: usize) -> Vec<u8> {
    let to: Vec<_> = (0..recipients).map(|n| format!("\"reader-{n}@example.com\"")).collect();
    let padding = " ".repeat(bytes.saturating_sub(to.iter().map(String::len).sum()));
    format!(
        r#"{{"type":"email.delivered","created_at":"2025-11-10T15:15:04.000Z","data":{{"email_id":"6f2d9a54","to":[{}]}}{padding}}}"#,
        to.join(",")
    )
    .into_bytes()
}

/// Returns a Postmark delivery to an address of this length.
fn postmark(address_bytes: usize) -> Vec<u8> {
    let local = "a".repeat(address_bytes - "@example.com".len());
    format!(
        r#"{{"RecordType":"Delivery","MessageID":"2f1d6c1e-8f6b-4a39-9d0c-0d1f6f3a7b52","Recipient":"{local}@example.com","DeliveredAt":"2025-11-10T15:15:00.1234567Z"}}"#
    )
    .into_bytes()
}

/// Returns the source that the tests configure for a provider.
fn source(provider: Provider) -> &'static str {
    let named = |(other, name)| (other == provider).then_some(name);
    testkit::SOURCES.into_iter().find_map(named).unwrap()
}

fn post_gzip(ingress: &Ingress, request: &SignedRequest) -> (usize, harness::Response) {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&request.body).unwrap();
    let zipped = encoder.finish().unwrap();
    let mut headers = request.headers.clone();
    headers.push(("content-encoding".into(), "gzip".into()));
    (zipped.len(), ingress.send("POST", &request.path, &headers, &zipped))
}

fn text<'r>(record: &'r Record, header: &str) -> &'r str {
    std::str::from_utf8(record.header(header).unwrap_or_default()).unwrap()
}

/// Posts a genuine request and waits until its event is in Kafka.
fn assert_serves(ingress: &Ingress) {
    let request = genuine(ingress, Provider::Mailgun);
    let response = ingress.post(&request);
    assert_eq!(response.status, 200, "{}", response.text);
    let raw: Vec<&str> = ingress.cluster.topics.all_raw().collect();
    let records = ingress.records(&raw, 1);
    assert!(records.iter().any(|record| text(record, "provider") == "mailgun"), "{records:?}");
    ingress.service.await_metric("mailpulse_ingress_spooling", &[], |spooling| spooling == 0.0);
    assert!(ingress.service.is_ready());
}

fn dead_letters(ingress: &Ingress, count: usize) -> Vec<Record> {
    ingress.records(&[&ingress.cluster.topics.dead_letters], count)
}

fn assert_over_limit(ingress: &Ingress, limit: &str, detail: &str, body: &[u8]) {
    let dead_letters = dead_letters(ingress, 1);
    assert_eq!(dead_letters.len(), 1);
    let dead_letter = &dead_letters[0];
    assert_eq!((text(dead_letter, "reason"), text(dead_letter, "stage")), ("too_large", "ingress"));
    assert!(text(dead_letter, "detail").contains(detail), "{}", text(dead_letter, "detail"));
    assert_eq!(dead_letter.value(), body);
    assert_eq!(dead_letter.header("truncated"), None);
    let bodies = "mailpulse_ingress_over_limit_bodies_total";
    ingress.service.await_metric(bodies, &[("limit", limit)], |count| count == 1.0);
}

#[test]
fn a_small_request_that_would_become_a_gigabyte_is_one_dead_letter() {
    let ingress = Ingress::start_with("max_recipients = 2000");
    let body = resend(1000, 1_000_000);
    let request = sign::resend_body(
        &ingress.credentials,
        source(Provider::Resend),
        body.clone().into(),
        now_unix(),
    );
    let (length, response) = post_gzip(&ingress, &request);
    assert!(length < 5000, "{length} bytes");
    assert_eq!(response.status, 200, "{}", response.text);
    let receipt = response.json();
    assert_eq!((&receipt["accepted"], &receipt["dead_lettered"]), (&0.into(), &1.into()));
    assert_serves(&ingress);
    assert_over_limit(
        &ingress,
        "published_bytes",
        "more than `ingress.max_published_bytes`",
        &body,
    );
}

#[test]
fn an_event_with_too_many_recipients_is_one_dead_letter() {
    let ingress = Ingress::start();
    let body = resend(501, 0);
    let name = source(Provider::Resend);
    let request = sign::resend_body(&ingress.credentials, name, body.clone().into(), now_unix());
    assert_eq!(ingress.post(&request).status, 200);
    assert_serves(&ingress);
    assert_over_limit(&ingress, "recipients", "501 recipients, more than", &body);
}

#[test]
fn a_million_empty_events_are_one_dead_letter() {
    let ingress = Ingress::start();
    let body = [b"[".as_slice(), &b"{},".repeat(999_999), b"{}]"].concat();
    let request =
        sign::generic_body(&ingress.credentials, generic_source(), body.clone().into(), now_unix());
    let response = ingress.post(&request);
    assert_eq!(response.status, 200, "{}", response.text);
    assert_serves(&ingress);
    assert_over_limit(&ingress, "events", "at least 100001 events, more than", &body);
}

/// Asserts that these records include the event of [`postmark`]. The key, which is its address, is cut.
fn assert_address_is_cut(records: &[Record]) {
    let event = records.iter().find(|record| text(record, "provider") == "postmark").unwrap();
    assert!(event.key.starts_with(b"aaaa") && event.key.len() == 320, "{}", event.key.len());
    assert!(event.value().starts_with(br#"{"RecordType":"Delivery""#));
    assert!(event.value().len() > 11 * MIB, "the raw bytes are complete");
}

#[test]
fn an_oversized_address_accepted_while_kafka_is_down_blocks_nothing() {
    let (_dirs, mut kafka) = own_kafka();
    let ingress = Ingress::start_on(kafka.bootstrap(), "read_timeout = \"20s\"");
    let mut events = Numbered::new(&ingress);
    kafka.kill().unwrap();
    assert_eq!(events.post(&ingress), 200);
    let name = source(Provider::Postmark);
    let body = postmark(11 * MIB).into();
    let request = sign::postmark_body(&ingress.credentials, name, body);
    assert_eq!(ingress.post(&request).status, 200);
    assert_eq!(events.post(&ingress), 200);
    assert!(ingress.service.is_ready());
    kafka.restart().unwrap();
    ingress.service.await_metric("mailpulse_ingress_spool_bytes", &[], |bytes| bytes == 0.0);
    assert_serves(&ingress);
    let raw: Vec<&str> = ingress.cluster.topics.all_raw().collect();
    assert_address_is_cut(&ingress.records(&raw, 4));
}

#[test]
fn an_oversized_address_is_cut_while_kafka_works() {
    // On a slow machine the body, which is long, may need more than the default time.
    let ingress = Ingress::start_with("ack_timeout = \"60s\"");
    let name = source(Provider::Postmark);
    let body = postmark(11 * MIB).into();
    let request = sign::postmark_body(&ingress.credentials, name, body);
    assert_eq!(ingress.post(&request).status, 200);
    let raw: Vec<&str> = ingress.cluster.topics.all_raw().collect();
    assert_address_is_cut(&ingress.records(&raw, 1));
    assert_serves(&ingress);
    assert_eq!(ingress.service.metric("mailpulse_ingress_spooled_requests_total", &[]), 0.0);
}

/// Writes the spool of a stopped ingress.
struct SpoolBuilder {
    directory: PathBuf,
    spool: Spool,
    /// The number of the next event.
    next: u64,
}

impl SpoolBuilder {
    fn new(ingress: &Ingress) -> Self {
        let directory = ingress.service.home().join("spool");
        let (spool, _) = Spool::open(&directory, u64::MAX).unwrap();
        Self { directory, spool, next: 0 }
    }

    fn add(&mut self, provider: Provider, body: &[u8]) {
        let headers = RawHeaders {
            provider,
            source: source(provider),
            received_at: ReceivedAt(1_795_255_200_000_000),
            request_id: "r1",
            authentic: true,
        };
        self.spool.append(&[spool::request::encode(&headers, body).unwrap()]).unwrap();
    }

    /// Adds an entry with this number of good events.
    fn add_good(&mut self, count: usize) {
        let body = event_batch("s", self.next, count, 1_795_255_200_000);
        self.add(Provider::Generic, &body);
        self.next += count as u64;
    }

    /// Adds an entry whose headers no release can read.
    fn add_unreadable(&mut self) {
        self.spool.append(&[b"\x09\0\0\0{\"x\":\"y\"}body"]).unwrap();
    }

    /// Adds an entry and changes one byte of it.
    fn add_damaged(&mut self) {
        self.add(Provider::Generic, b"{\"event\":\"opened\"}");
        let segments = spool::pending_segments(&self.directory).unwrap();
        let path = segment_path(&self.directory, *segments.last().unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        let (offset, _) = Parts::of(&bytes).last().unwrap();
        bytes[offset + 60] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
    }
}

fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}.spool"))
}

/// Returns the numbers of the good events by partition, in the order of the partition.
fn numbers(records: &mut [Record]) -> Vec<u64> {
    records
        .sort_by(|a, b| (&a.topic, a.partition, a.offset).cmp(&(&b.topic, b.partition, b.offset)));
    let of = |record: &Record| {
        let id = record.json()["id"].as_str()?.strip_prefix("s-")?.parse().ok();
        assert!(id.is_some(), "{record:?}");
        id
    };
    records.iter().filter_map(of).collect()
}

#[test]
fn a_spool_with_good_unfit_and_unreadable_entries_is_drained_completely() {
    let mut ingress = Ingress::start();
    ingress.service.kill();
    let mut spool = SpoolBuilder::new(&ingress);
    spool.add_good(3);
    spool.add_unreadable();
    spool.add_good(3);
    spool.add_damaged();
    spool.add_good(1);
    spool.add(Provider::Postmark, &postmark(11 * MIB));
    spool.add_good(12_000); // more than one window
    spool.add(Provider::Generic, &[b"[".as_slice(), &b"{},".repeat(20_000), b"{}]"].concat());
    spool.add(Provider::Resend, &resend(50, 900_000)); // more than the queue of the producer
    spool.add_good(2);
    let good = spool.next;
    drop(spool);
    ingress.service.restart();

    ingress.service.await_metric("mailpulse_ingress_spool_bytes", &[], |bytes| bytes == 0.0);
    assert_serves(&ingress);
    let raw: Vec<&str> = ingress.cluster.topics.all_raw().collect();
    let mut reader: Reader = ingress.cluster.reader(&raw);
    let mut records = reader.records(good as usize + 50 + 2);
    assert_eq!(records.len(), good as usize + 50 + 2, "each record exactly once");
    common_order(&records);
    let found = numbers(&mut records);
    let mut sorted = found;
    sorted.sort_unstable();
    assert_eq!(sorted, (0..good).collect::<Vec<_>>());

    assert_address_is_cut(&records);
    let dead_letters = dead_letters(&ingress, 1);
    assert_eq!(dead_letters.len(), 1);
    assert!(text(&dead_letters[0], "detail").contains("20001 events"));

    for cause in ["damaged", "bad_headers"] {
        let moved =
            ingress.service.metric("mailpulse_ingress_quarantined_total", &[("cause", cause)]);
        assert_eq!(moved, 1.0, "{cause}");
    }
    ingress.kill_and_start();
    let items = ingress.service.metric("mailpulse_ingress_quarantined_items", &[]);
    assert_eq!(items, 2.0, "the alert survives a restart");
    assert_serves(&ingress);
}

/// Asserts that the good events of each recipient are in the order in which they were spooled.
fn common_order(records: &[Record]) {
    let generic = |record: &&Record| text(record, "provider") == "generic";
    let good: Vec<Record> = records.iter().filter(generic).cloned().collect();
    numbered::assert_in_order(&good);
}
