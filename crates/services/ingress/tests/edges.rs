//! Clients that mean harm, or do not know better: each gets a clear answer, and the others are
//! served meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Answer, DEADLINE, Ingress, genuine, now_unix};
use event::Provider;
use testkit::{SignedRequest, sign};

fn connect(ingress: &Ingress) -> TcpStream {
    let stream = TcpStream::connect(&ingress.address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Sends these bytes and reads until the connection is closed.
fn say(ingress: &Ingress, bytes: &[u8]) -> Answer {
    let mut stream = connect(ingress);
    // The answer may come, and the door be shut, before all was said.
    let _ = stream.write_all(bytes);
    Answer::read(stream)
}

/// A request that the generic source signed over this body.
fn signed(ingress: &Ingress, body: Vec<u8>) -> SignedRequest {
    let named = |(provider, name)| (provider == Provider::Generic).then_some(name);
    let source = testkit::SOURCES.into_iter().find_map(named).unwrap();
    sign::generic_body(&ingress.credentials, source, Bytes::from(body), now_unix())
}

fn assert_serves(ingress: &Ingress) {
    assert_eq!(ingress.post(&genuine(ingress, Provider::Postmark)).status, 200);
}

#[test]
fn a_head_that_trickles_in_is_not_waited_for() {
    let ingress = Ingress::start_with(devstack::shared_kafka(), "max_connections = 8");
    let mut slow: Vec<_> = (0..7).map(|_| connect(&ingress)).collect();
    let started = Instant::now();
    let mut open = slow.len();
    // A byte now and then keeps no connection alive longer than a whole head may take.
    while open > 0 {
        assert!(started.elapsed() < DEADLINE, "{open} connections are still held");
        assert_serves(&ingress);
        slow.retain_mut(|stream| {
            stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            let mut nothing = [0];
            let is_closed = matches!(stream.read(&mut nothing), Ok(0));
            !is_closed && stream.write_all(b"x").is_ok()
        });
        open = slow.len();
    }
}

#[test]
fn more_connections_than_are_allowed_wait_and_are_served() {
    let ingress = Ingress::start_with(devstack::shared_kafka(), "max_connections = 2");
    let idle = [connect(&ingress), connect(&ingress)];
    // Served when the idle ones have been given up on, after `read_timeout`.
    assert_serves(&ingress);
    drop(idle);
}

#[test]
fn heads_out_of_all_proportion_are_refused() {
    let ingress = Ingress::start(devstack::shared_kafka());
    let path = genuine(&ingress, Provider::Postmark).path;
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n");
    let many: String = (0..500).map(|n| format!("x-{n}: 1\r\n")).collect();
    assert_eq!(say(&ingress, format!("{head}{many}\r\n").as_bytes()).status, 431);
    let long = format!("{head}x: {}\r\n\r\n", "y".repeat(300_000));
    assert_eq!(say(&ingress, long.as_bytes()).status, 431);
    assert_serves(&ingress);
}

#[test]
fn a_body_has_one_length() {
    let ingress = Ingress::start(devstack::shared_kafka());
    let path = genuine(&ingress, Provider::Postmark).path;
    let hidden = "GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n";
    for framing in [
        "content-length: 5\r\ncontent-length: 6\r\n".to_owned(),
        "content-length: +5\r\n".to_owned(),
        "content-length: 5, 6\r\n".to_owned(),
        "transfer-encoding: chunked, identity\r\n".to_owned(),
        "transfer-encoding: xchunked\r\n".to_owned(),
    ] {
        let bytes = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{framing}\r\n0\r\n\r\n{hidden}");
        let answer = say(&ingress, bytes.as_bytes());
        assert_eq!(answer.status, 400, "{framing}: {}", answer.text);
        assert_eq!(answer.text.matches("HTTP/1.1 ").count(), 1, "{framing}: {}", answer.text);
    }
    // With both, what a proxy may have taken for the body is never read as a request.
    let both = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n\
         0\r\n\r\n{hidden}",
        5 + hidden.len()
    );
    let answer = say(&ingress, both.as_bytes());
    assert!(matches!(answer.status, 400 | 401), "{}", answer.text);
    assert_eq!(answer.text.matches("HTTP/1.1 ").count(), 1, "{}", answer.text);
    assert_serves(&ingress);
}

#[test]
fn a_chunked_body_is_measured_as_it_comes() {
    let ingress = Ingress::start(devstack::shared_kafka());
    let path = genuine(&ingress, Provider::Postmark).path;
    let mut stream = connect(&ingress);
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
    for _ in 0..20 {
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let answer = Answer::read(stream);
    assert_eq!((answer.status, answer.json()["code"].as_str()), (413, Some("body_too_large")));
    assert_serves(&ingress);
}

#[test]
fn json_without_end_is_a_dead_letter() {
    let ingress = Ingress::start(devstack::shared_kafka());
    for open in ["[", "{\"a\":", "[{\"a\":["] {
        let answer = ingress.post(&signed(&ingress, open.repeat(200_000).into_bytes()));
        assert_eq!(answer.status, 200, "{open}: {}", answer.text);
        assert_eq!(answer.json()["dead_lettered"], 1, "{open}: {}", answer.text);
    }
    let deep = format!("{}1{}", "[".repeat(200_000), "]".repeat(200_000));
    let answer = ingress.post(&signed(&ingress, deep.into_bytes()));
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_serves(&ingress);
}
