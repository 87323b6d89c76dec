//! Bodies in gzip, bodies that blow up, and more bodies than there is memory for.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{Answer, DEADLINE, Ingress, genuine};
use event::Provider;
use flate2::Compression;
use flate2::write::GzEncoder;
use testkit::{Credentials, SignedRequest};

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// Sends a request's body in gzip; what is signed is the body itself.
fn post_gzip(ingress: &Ingress, request: &SignedRequest, zipped: &[u8]) -> Answer {
    let mut headers = request.headers.clone();
    headers.push(("content-encoding".into(), "gzip".into()));
    ingress.send("POST", &request.path, &headers, zipped)
}

#[test]
fn a_body_in_gzip_is_verified_and_published_as_it_was_before() {
    let ingress = Ingress::start(devstack::shared_kafka());
    let request = genuine(&ingress, Provider::Postmark);
    let zipped = gzip(&request.body);
    let answer = post_gzip(&ingress, &request, &zipped);
    assert_eq!(answer.status, 200, "{}", answer.text);
    let records = ingress.records(&ingress.all_topics(), 1);
    assert_eq!(records[0].value.as_deref(), Some(&request.body[..]));

    let verdict = |zipped: &[u8]| post_gzip(&ingress, &request, zipped).verdict();
    assert_eq!(verdict(&zipped[..zipped.len() - 9]), (400, "broken_encoding".into()));
    assert_eq!(verdict(&request.body), (400, "broken_encoding".into()));
    assert_eq!(verdict(b""), (400, "broken_encoding".into()));
    assert_eq!(verdict(&zipped.repeat(2)), (400, "broken_encoding".into()));
    let mut flipped = zipped.clone();
    let crc = flipped.len() - 8;
    flipped[crc] ^= 1;
    assert_eq!(verdict(&flipped), (400, "broken_encoding".into()));
}

/// A gzip body of empty blocks (RFC 1951 §3.2.4) without an end, in chunks.
fn post_nothing_for_ever(ingress: &Ingress, request: &SignedRequest) -> Answer {
    let mut stream = TcpStream::connect(&ingress.address).unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-encoding: gzip\r\n\
         transfer-encoding: chunked\r\n\r\na\r\n",
        request.path
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(b"\x1f\x8b\x08\0\0\0\0\0\0\xff\r\n").unwrap();
    let blocks = b"\0\0\0\xff\xff".repeat(1 << 16);
    let chunk = [format!("{:x}\r\n", blocks.len()).as_bytes(), &blocks, b"\r\n"].concat();
    // 20 MiB, unless the answer comes before.
    let _ = (0..64).try_for_each(|_| stream.write_all(&chunk));
    Answer::read(stream)
}

#[test]
fn a_bomb_is_refused_when_it_has_reached_the_limit() {
    let ingress = Ingress::start(devstack::shared_kafka());
    // 64 MiB of nothing in 64 KiB, for a source whose bodies have 16 MiB at most.
    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 100_000);
    let request = genuine(&ingress, Provider::Postmark);
    assert_eq!(post_gzip(&ingress, &request, &bomb).verdict(), (413, "body_too_large".into()));
    assert_eq!(post_nothing_for_ever(&ingress, &request).verdict(), (413, "body_too_large".into()));
    let answer = ingress.post_body(&request.path, &[("content-encoding", "br")], b"x");
    assert_eq!(answer.verdict(), (415, "encoded_body".into()));
    assert_eq!(answer.header("accept-encoding").as_deref(), Some("gzip"));
    assert_eq!(ingress.post(&request).status, 200);
}

/// The least that may be set: what the longest body takes.
const BODY_BYTES: usize = 16 << 20;

/// Opens a request of which all but the last byte is sent, and waits until its body takes up the
/// whole budget.
fn hog(ingress: &Ingress) -> TcpStream {
    let path = genuine(ingress, Provider::Postmark).path;
    let mut stream = TcpStream::connect(&ingress.address).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {BODY_BYTES}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![b' '; BODY_BYTES - 1]).unwrap();
    let deadline = Instant::now() + DEADLINE;
    while ingress.metric("mailpulse_ingress_body_bytes") < (BODY_BYTES - 1) as f64 {
        assert!(Instant::now() < deadline, "the body is not read");
        std::thread::sleep(Duration::from_millis(5));
    }
    stream
}

#[test]
fn without_room_a_body_waits_and_is_served_when_there_is_some() {
    let keys = format!("body_bytes = {BODY_BYTES}\nread_timeout = \"20s\"\n");
    let ingress = Ingress::start_with(devstack::shared_kafka(), &keys);
    let mut hog = hog(&ingress);
    let request = genuine(&ingress, Provider::Postmark);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ingress.post(&request));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!waiting.is_finished(), "there is no room");
        hog.write_all(b" ").unwrap();
        assert_eq!(waiting.join().unwrap().status, 200);
    });
    assert_eq!(Answer::read(hog).verdict(), (401, "missing_credentials".into()));
    assert_eq!(ingress.metric("mailpulse_ingress_body_bytes"), 0.0);
}

#[test]
fn without_room_for_long_the_provider_is_asked_to_come_again() {
    // Postal waits five seconds for an answer, so its bodies do not wait longer for room; who has
    // the room may keep it for ten.
    let postal = Credentials::new("http://x").source_toml(Provider::Postal, "rails");
    let keys = format!("body_bytes = {BODY_BYTES}\nread_timeout = \"20s\"\n{postal}");
    let ingress = Ingress::start_with(devstack::shared_kafka(), &keys);
    let hog = hog(&ingress);
    let answer = ingress.post_body("/webhooks/postal/rails", &[], b"{\"event\":\"x\"}");
    assert_eq!(answer.verdict(), (503, "no_room_for_body".into()));
    assert_eq!(answer.header("retry-after").as_deref(), Some("5"));
    drop(hog);
    assert_eq!(ingress.post(&genuine(&ingress, Provider::Postmark)).status, 200);
}
