//! Compressed bodies, bodies that expand beyond the limit, and more bodies than there is memory for.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use common::{Ingress, genuine, header_lines, outcome};
use event::Provider;
use flate2::Compression;
use flate2::write::GzEncoder;
use harness::{Response, holds_for};
use testkit::{Credentials, SignedRequest};

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// Sends `zipped` in place of the body, whose signature stays as it is.
fn post_gzip(ingress: &Ingress, request: &SignedRequest, zipped: &[u8]) -> Response {
    let mut headers = request.headers.clone();
    headers.push(("content-encoding".into(), "gzip".into()));
    ingress.send("POST", &request.path, &headers, zipped)
}

#[test]
fn a_gzip_body_is_verified_and_published_uncompressed() {
    let ingress = Ingress::start();
    let request = genuine(&ingress, Provider::Postmark);
    let zipped = gzip(&request.body);
    let response = post_gzip(&ingress, &request, &zipped);
    assert_eq!(response.status, 200, "{}", response.text);
    let records = ingress.records(&ingress.all_topics(), 1);
    assert_eq!(records[0].value.as_deref(), Some(&request.body[..]));

    let result = |zipped: &[u8]| outcome(&post_gzip(&ingress, &request, zipped));
    assert_eq!(result(&zipped[..zipped.len() - 9]), (400, "broken_encoding".into()));
    assert_eq!(result(&request.body), (400, "broken_encoding".into()));
    assert_eq!(result(b""), (400, "broken_encoding".into()));
    assert_eq!(result(&zipped.repeat(2)), (400, "broken_encoding".into()));
    let mut flipped = zipped.clone();
    let crc = flipped.len() - 8;
    flipped[crc] ^= 1;
    assert_eq!(result(&flipped), (400, "broken_encoding".into()));
}

/// Sends a gzip body of empty blocks (RFC 1951 §3.2.4) without an end, in chunks.
fn post_endless_gzip(ingress: &Ingress, request: &SignedRequest) -> Response {
    let mut stream = ingress.connect();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-encoding: gzip\r\n\
         transfer-encoding: chunked\r\n{}\r\na\r\n",
        request.path,
        header_lines(&request.headers)
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(b"\x1f\x8b\x08\0\0\0\0\0\0\xff\r\n").unwrap();
    let blocks = b"\0\0\0\xff\xff".repeat(1 << 16);
    let chunk = [format!("{:x}\r\n", blocks.len()).as_bytes(), &blocks, b"\r\n"].concat();
    // 20 MiB, unless the ingress responds earlier.
    let _ = (0..64).try_for_each(|_| stream.write_all(&chunk));
    Response::read(stream)
}

#[test]
fn a_gzip_bomb_is_rejected_at_the_limit() {
    let ingress = Ingress::start();
    // 64 MiB of spaces in 64 KiB, for a source whose bodies may have 16 MiB.
    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 100_000);
    let request = genuine(&ingress, Provider::Postmark);
    assert_eq!(outcome(&post_gzip(&ingress, &request, &bomb)), (413, "body_too_large".into()));
    assert_eq!(outcome(&post_endless_gzip(&ingress, &request)), (413, "body_too_large".into()));
    let mut headers = request.headers.clone();
    headers.push(("content-encoding".into(), "br".into()));
    let response = ingress.send("POST", &request.path, &headers, b"x");
    assert_eq!(outcome(&response), (415, "encoded_body".into()));
    assert_eq!(response.header("accept-encoding").as_deref(), Some("gzip"));
    assert_eq!(ingress.post(&request).status, 200);
}

/// The smallest permitted value: the length of the longest body.
const BODY_BYTES: usize = 16 << 20;

/// Sends all but the last byte of a request, and waits until its body occupies the memory.
fn occupy_memory(ingress: &Ingress) -> TcpStream {
    let SignedRequest { path, headers, .. } = genuine(ingress, Provider::Postmark);
    let mut stream = ingress.connect();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {BODY_BYTES}\r\n{}\r\n",
        header_lines(&headers)
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![b' '; BODY_BYTES - 1]).unwrap();
    // One sixteenth is kept for small bodies.
    let large = (BODY_BYTES - BODY_BYTES / 16) as f64;
    let is_awaited = |bytes| bytes >= large;
    ingress.service.await_metric("mailpulse_ingress_body_memory_bytes", &[], is_awaited);
    stream
}

#[test]
fn without_memory_a_body_waits_and_is_served_when_some_is_released() {
    let keys = format!("body_memory_bytes = {BODY_BYTES}\nread_timeout = \"20s\"\n");
    let ingress = Ingress::start_with(&keys);
    let mut first = occupy_memory(&ingress);
    let request = genuine(&ingress, Provider::Postmark);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ingress.post(&request));
        let half_a_second = Duration::from_millis(500);
        holds_for("the second body waits", half_a_second, || !waiting.is_finished());
        first.write_all(b" ").unwrap();
        assert_eq!(waiting.join().unwrap().status, 200);
    });
    assert_eq!(Response::read(first).status, 200);
    // Memory is released after the response has been sent.
    ingress.service.await_metric("mailpulse_ingress_body_memory_bytes", &[], |bytes| bytes == 0.0);
}

#[test]
fn without_memory_until_the_timeout_the_provider_is_asked_to_retry() {
    // Postal waits five seconds for a response, so its bodies wait no longer for memory. The body
    // that occupies the memory may take ten.
    let postal = Credentials::new("http://x").source_toml(Provider::Postal, "rails");
    let keys = format!("body_memory_bytes = {BODY_BYTES}\nread_timeout = \"20s\"\n{postal}");
    let ingress = Ingress::start_with(&keys);
    let first = occupy_memory(&ingress);
    let signature = [("x-postal-signature-256", "AAAA")];
    let response = ingress.post_body("/webhooks/postal/rails", &signature, b"{\"event\":\"x\"}");
    assert_eq!(outcome(&response), (503, "no_room_for_body".into()));
    assert_eq!(response.header("retry-after").as_deref(), Some("5"));
    drop(first);
    assert_eq!(ingress.post(&genuine(&ingress, Provider::Postmark)).status, 200);
}
