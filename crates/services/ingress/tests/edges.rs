//! Malformed and hostile requests: each gets a clear response, and other clients are served meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::{Read, Write};
use std::time::Duration;

use bytes::Bytes;
use common::{Ingress, generic_source, genuine, header_lines, now_unix};
use event::Provider;
use harness::{DEADLINE, Response, eventually};
use testkit::{SignedRequest, sign};

/// For tests in which a timeout must expire.
const SOON: &str = "read_timeout = \"2s\"\n";

/// Sends these bytes and reads until the connection is closed.
fn exchange(ingress: &Ingress, bytes: &[u8]) -> Response {
    let mut stream = ingress.connect();
    // The ingress may respond, and close the connection, before it has read everything.
    let _ = stream.write_all(bytes);
    Response::read(stream)
}

/// Returns a request of the generic source with a signature over this body.
fn signed(ingress: &Ingress, body: Vec<u8>) -> SignedRequest {
    sign::generic_body(&ingress.credentials, generic_source(), Bytes::from(body), now_unix())
}

fn assert_serves(ingress: &Ingress) {
    assert_eq!(ingress.post(&genuine(ingress, Provider::Postmark)).status, 200);
}

#[test]
fn a_head_that_arrives_too_slowly_is_not_awaited() {
    let ingress = Ingress::start_with(&format!("max_connections = 8\n{SOON}"));
    let mut slow: Vec<_> = (0..7).map(|_| ingress.connect()).collect();
    // A byte now and then does not extend the time that a whole head may take.
    eventually("the slow connections to be closed", DEADLINE, || {
        assert_serves(&ingress);
        slow.retain_mut(|stream| {
            stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            let mut nothing = [0];
            let is_closed = matches!(stream.read(&mut nothing), Ok(0));
            !is_closed && stream.write_all(b"x").is_ok()
        });
        if slow.is_empty() { Ok(()) } else { Err(format!("{} are open", slow.len())) }
    });
}

#[test]
fn connections_beyond_the_limit_wait_and_are_served() {
    let ingress = Ingress::start_with(&format!("max_connections = 2\n{SOON}"));
    let request = genuine(&ingress, Provider::Postmark);
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n{}\r\n",
        request.path,
        header_lines(&request.headers)
    );
    let busy: Vec<_> = (0..2).map(|_| ingress.connect_and_send(head.as_bytes())).collect();
    // Served when the bodies of the others have not arrived within `read_timeout`.
    assert_serves(&ingress);
    drop(busy);
}

#[test]
fn connections_that_only_wait_do_not_keep_others_out() {
    let ingress = Ingress::start_with("max_connections = 4\nread_timeout = \"10m\"\n");
    let mut waiting: Vec<_> = (0..8).map(|_| ingress.connect()).collect();
    waiting.iter_mut().for_each(|stream| drop(stream.write_all(b"POST /webhooks/")));
    assert_serves(&ingress);
    drop(waiting);
}

#[test]
fn oversized_heads_are_rejected() {
    let ingress = Ingress::start();
    let path = genuine(&ingress, Provider::Postmark).path;
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n");
    let many: String = (0..500).map(|n| format!("x-{n}: 1\r\n")).collect();
    assert_eq!(exchange(&ingress, format!("{head}{many}\r\n").as_bytes()).status, 431);
    let long = format!("{head}x: {}\r\n\r\n", "y".repeat(300_000));
    assert_eq!(exchange(&ingress, long.as_bytes()).status, 431);
    assert_serves(&ingress);
}

#[test]
fn a_body_has_one_length() {
    let ingress = Ingress::start();
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
        let response = exchange(&ingress, bytes.as_bytes());
        assert_eq!(response.status, 400, "{framing}: {}", response.text);
        assert_eq!(response.text.matches("HTTP/1.1 ").count(), 1, "{framing}: {}", response.text);
    }
    // With both headers, what a proxy may have forwarded as the body is never read as a request.
    let both = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n\
         0\r\n\r\n{hidden}",
        5 + hidden.len()
    );
    let response = exchange(&ingress, both.as_bytes());
    assert!(matches!(response.status, 400 | 401), "{}", response.text);
    assert_eq!(response.text.matches("HTTP/1.1 ").count(), 1, "{}", response.text);
    assert_serves(&ingress);
}

#[test]
fn a_chunked_body_is_measured_while_it_arrives() {
    let ingress = Ingress::start();
    let SignedRequest { path, headers, .. } = genuine(&ingress, Provider::Postmark);
    let mut stream = ingress.connect();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n{}\r\n",
        header_lines(&headers)
    );
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
    for _ in 0..20 {
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let response = Response::read(stream);
    assert_eq!((response.status, response.json()["code"].as_str()), (413, Some("body_too_large")));
    assert_serves(&ingress);
}

#[test]
fn unterminated_json_becomes_a_dead_letter() {
    let ingress = Ingress::start();
    for open in ["[", "{\"a\":", "[{\"a\":["] {
        let response = ingress.post(&signed(&ingress, open.repeat(200_000).into_bytes()));
        assert_eq!(response.status, 200, "{open}: {}", response.text);
        assert_eq!(response.json()["dead_lettered"], 1, "{open}: {}", response.text);
    }
    let deep = format!("{}1{}", "[".repeat(200_000), "]".repeat(200_000));
    let response = ingress.post(&signed(&ingress, deep.into_bytes()));
    assert_eq!(response.status, 200, "{}", response.text);
    assert_serves(&ingress);
}
