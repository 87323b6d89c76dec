//! The limits of bodies, clients and connections before a request is known to be authentic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use common::{Ingress, generic_source, genuine, header_lines, now_unix, outcome};
use event::Provider;
use flate2::Compression;
use flate2::write::GzEncoder;
use harness::{DEADLINE, Response, http};
use testkit::{SignedRequest, sign};

const HITS: &str = "mailpulse_ingress_limit_hits_total";
/// Trusts the test as a load balancer, so that a request can have any client address.
const PROXIED: &str = "trusted_proxies = [\"127.0.0.0/8\"]\n";
/// One rejected request is tolerated; after the second one the client is suspect.
const STRICT: &str = "rejection_burst = 1\nrejections_per_minute = 1\n";

/// A source that an operator has disabled.
const DISABLED: &str = "[[source]]\nprovider = \"postmark\"\nname = \"off\"\n\
                        header = \"x-token\"\nsecrets = [\"a token of 22 bytes\"]\n\
                        disabled = true\n";

fn await_hit(ingress: &Ingress, limit: &str) {
    ingress.service.await_metric(HITS, &[("limit", limit)], |hits| hits >= 1.0);
}

/// Returns the request as a load balancer forwards it.
fn from(request: &SignedRequest, client: &str) -> SignedRequest {
    let mut request = request.clone();
    request.headers.push(("x-forwarded-for".into(), client.into()));
    request
}

/// Returns a signed request of the generic provider, and one with a wrong signature.
fn signed_and_forged(ingress: &Ingress) -> (SignedRequest, SignedRequest) {
    let request = |credentials| {
        let event = b"{\"event\":\"delivered\",\"recipient\":\"ada@example.com\"}"[..].into();
        sign::generic_body(credentials, generic_source(), event, now_unix())
    };
    (request(&ingress.credentials), request(&ingress.credentials.impostor()))
}

fn head(request: &SignedRequest, length: usize) -> String {
    format!(
        "POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{}\r\n",
        request.path,
        header_lines(&request.headers)
    )
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn is_closed(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    matches!(stream.read(&mut [0]), Ok(0) | Err(_))
}

#[test]
fn a_form_of_separators_is_refused_before_it_is_parsed() {
    let ingress = Ingress::start();
    let post = |provider, body: &[u8]| {
        let mut request = genuine(&ingress, provider);
        request.headers.push(("content-encoding".into(), "gzip".into()));
        ingress.send("POST", &request.path, &request.headers, &gzip(body))
    };
    // 16 MiB in 16 KiB.
    let response = post(Provider::Mandrill, &b"a&".repeat(8 << 20));
    assert_eq!(outcome(&response), (401, "malformed_signature".into()));
    assert!(response.text.contains("more than 16 fields"), "{}", response.text);
    let response = post(Provider::Mailgun, &b"a=&".repeat(300_000));
    assert_eq!(outcome(&response), (406, "malformed_signature".into()));
    for provider in [Provider::Mandrill, Provider::Mailgun] {
        assert_eq!(ingress.post(&genuine(&ingress, provider)).status, 200, "{provider}");
    }
}

#[test]
fn what_needs_no_body_is_checked_before_the_body_arrives() {
    let ingress = Ingress::start();
    for provider in [
        Provider::Postmark,
        Provider::SendGrid,
        Provider::Mandrill,
        Provider::Generic,
        Provider::Resend,
        Provider::StandardWebhooks,
        Provider::MailerSend,
        Provider::Postal,
    ] {
        let source = testkit::SOURCES.into_iter().find(|(found, _)| *found == provider).unwrap().1;
        let path = format!("/webhooks/{provider}/{source}");
        let request = SignedRequest { path, headers: Vec::new(), body: Bytes::new() };
        // The body never comes.
        let stream = ingress.connect_and_send(head(&request, 1 << 19).as_bytes());
        let (status, code) = outcome(&Response::read(stream));
        assert!(status == 401 && code.starts_with("missing_"), "{provider}: {status} {code}");
    }
}

#[test]
fn a_client_that_does_not_read_its_responses_is_disconnected() {
    let ingress = Ingress::start_with("write_timeout = \"1s\"\nrejection_burst = 4000000000\n");
    let mut stream = ingress.connect();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    let requests = "GET /webhooks/ HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    // Until the connection is reset.
    while stream.write_all(requests.as_bytes()).is_ok() {}
    await_hit(&ingress, "write_timeout");
}

#[test]
fn a_client_has_a_limited_number_of_connections() {
    let ingress = Ingress::start_with("max_connections_per_client = 2\n");
    let open = [ingress.connect(), ingress.connect()];
    let third = ingress.connect();
    assert!(is_closed(&third), "the third connection is closed at once");
    await_hit(&ingress, "connections_per_client");
    drop(open);
    let request = genuine(&ingress, Provider::Postmark);
    harness::eventually("a connection to be free", DEADLINE, || {
        match http::send(&ingress.address, "POST", &request.path, &request.headers, &request.body) {
            Ok(response) if response.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn a_trusted_proxy_may_have_any_number_of_connections() {
    let ingress = Ingress::start_with(&format!("max_connections_per_client = 1\n{PROXIED}"));
    let open: Vec<_> = (0..8).map(|_| ingress.connect()).collect();
    let request = from(&genuine(&ingress, Provider::Postmark), "192.0.2.7");
    assert_eq!(ingress.post(&request).status, 200);
    drop(open);
}

#[test]
fn an_idle_connection_is_closed_after_its_own_timeout() {
    let ingress = Ingress::start_with("idle_timeout = \"1s\"\n");
    let request = genuine(&ingress, Provider::Postmark);
    let mut stream = ingress.connect();
    for _ in 0..2 {
        stream.write_all(head(&request, request.body.len()).as_bytes()).unwrap();
        stream.write_all(&request.body).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        // The rest of the response ends with the receipt.
        let mut rest = Vec::new();
        while !rest.ends_with(b"}") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            rest.extend(byte);
        }
    }
    assert!(is_closed(&stream));
    await_hit(&ingress, "idle_timeout");
}

#[test]
fn a_body_that_arrives_too_slowly_is_not_awaited() {
    let ingress = Ingress::start_with("min_body_rate = 1000000\nread_timeout = \"30s\"\n");
    let request = genuine(&ingress, Provider::Postmark);
    let mut stream = ingress.connect_and_send(head(&request, 100_000).as_bytes());
    stream.write_all(&[b' '; 10]).unwrap();
    assert_eq!(outcome(&Response::read(stream)), (408, "read_timeout".into()));
    await_hit(&ingress, "body_rate");
}

/// The smallest permitted value: the length of the longest body.
const BODY_BYTES: usize = 16 << 20;

#[test]
fn stalled_bodies_of_one_client_delay_only_that_client() {
    let keys = format!(
        "body_memory_bytes = {BODY_BYTES}\nbody_memory_client_share = 16\n\
         body_memory_small_share = 16\nread_timeout = \"30s\"\n{PROXIED}"
    );
    let ingress = Ingress::start_with(&keys);
    let request = genuine(&ingress, Provider::Postmark);
    let stalled = from(&request, "192.0.2.7");
    let stall = |length: usize| {
        let mut stream = ingress.connect_and_send(head(&stalled, length + 1).as_bytes());
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        // The ingress does not read what its memory has no room for.
        let _ = stream.write_all(&vec![b' '; length]);
        stream
    };
    let occupied = (BODY_BYTES / 16 - 200_000) as f64;
    let open: Vec<_> = (0..12).map(|_| stall(500_000)).collect();
    ingress.service.await_metric("mailpulse_ingress_body_memory_bytes", &[], |b| b >= occupied);
    await_hit(&ingress, "body_memory_per_client");
    let occupied = ingress.service.metric("mailpulse_ingress_body_memory_bytes", &[]);
    assert!(occupied <= (BODY_BYTES / 16 + 500_000) as f64, "{occupied}");
    for client in ["192.0.2.8", "192.0.2.9"] {
        assert_eq!(ingress.post(&from(&request, client)).status, 200, "{client}");
    }
    drop(open);
}

#[test]
fn small_bodies_have_memory_while_large_ones_wait() {
    let keys = format!("body_memory_bytes = {BODY_BYTES}\nread_timeout = \"30s\"\n{PROXIED}");
    let ingress = Ingress::start_with(&keys);
    let request = genuine(&ingress, Provider::Postmark);
    let large = from(&request, "192.0.2.7");
    let mut stream = ingress.connect_and_send(head(&large, BODY_BYTES).as_bytes());
    stream.write_all(&vec![b' '; BODY_BYTES - 1]).unwrap();
    let all = (BODY_BYTES - BODY_BYTES / 16) as f64;
    ingress.service.await_metric("mailpulse_ingress_body_memory_bytes", &[], |b| b >= all);
    assert_eq!(ingress.post(&from(&request, "192.0.2.8")).status, 200);
    drop(stream);
}

#[test]
fn a_genuine_request_from_the_address_of_an_attacker_is_accepted() {
    let ingress = Ingress::start_with(&format!("{PROXIED}{STRICT}"));
    let (signed, forged) = signed_and_forged(&ingress);
    for client in (0..12).map(|n| format!("192.0.2.{n}")) {
        let codes = [0; 4].map(|_| outcome(&ingress.post(&from(&forged, &client))).1);
        assert_eq!(codes[0], "wrong_signature");
        assert_eq!(codes[3], "too_many_refusals");
        assert_eq!(ingress.post(&from(&signed, &client)).status, 200, "{client}");
    }
    await_hit(&ingress, "rejections");
    let request = from(&genuine(&ingress, Provider::Postmark), "192.0.2.99");
    let wrong = SignedRequest {
        headers: vec![("x-forwarded-for".into(), "192.0.2.99".into())],
        ..request.clone()
    };
    assert!((0..4).all(|_| ingress.post(&wrong).status != 200));
    assert_eq!(ingress.post(&request).status, 200, "credentials are always checked");
}

#[test]
fn bodies_that_cannot_be_read_count_as_rejected_requests() {
    let ingress = Ingress::start_with(&format!("{PROXIED}{STRICT}min_body_rate = 1000000\n"));
    let (_, forged) = signed_and_forged(&ingress);
    let mut broken = forged.clone();
    broken.headers.push(("content-encoding".into(), "gzip".into()));
    let slow = |client: &str| {
        let stream = ingress.connect_and_send(head(&from(&forged, client), 100).as_bytes());
        outcome(&Response::read(stream))
    };
    let long = |client: &str| {
        let stream = ingress.connect_and_send(head(&from(&forged, client), 1 << 40).as_bytes());
        outcome(&Response::read(stream))
    };
    let undecodable = |client: &str| outcome(&ingress.post(&from(&broken, client)));
    /// Sends a request that is rejected, as a client.
    type Cause<'c> = &'c dyn Fn(&str) -> (u16, String);
    let causes: [(&str, u16, Cause<'_>); 3] =
        [("192.0.2.1", 408, &slow), ("192.0.2.2", 413, &long), ("192.0.2.3", 400, &undecodable)];
    for (client, status, cause) in causes {
        assert_eq!((cause(client).0, cause(client).0), (status, status), "{client}");
        let next = outcome(&ingress.post(&from(&forged, client)));
        assert_eq!(next, (429, "too_many_refusals".into()), "{client}");
    }
}

#[test]
fn guessing_the_names_of_sources_is_not_free() {
    let ingress = Ingress::start_with(&format!("{PROXIED}{STRICT}{DISABLED}"));
    let client = "192.0.2.7";
    let (signed, forged) = signed_and_forged(&ingress);
    let guess = || {
        let headers = [("x-forwarded-for", client)];
        outcome(&ingress.post_body("/webhooks/generic/guessed", &headers, b"{}"))
    };
    assert_eq!(guess(), (404, "unknown_source".into()));
    assert_eq!(guess(), (404, "unknown_source".into()));
    // From now on a source that exists gets the same answer, whatever else is wrong.
    assert_eq!(guess(), (429, "too_many_refusals".into()));
    let existing = outcome(&ingress.post(&from(&forged, client)));
    assert_eq!(existing, (429, "too_many_refusals".into()));
    let mut encoded = from(&signed, client);
    encoded.headers.push(("content-encoding".into(), "br".into()));
    assert_eq!(outcome(&ingress.post(&encoded)), (429, "too_many_refusals".into()));
    let off = ingress.post_body("/webhooks/postmark/off", &[("x-forwarded-for", client)], b"{}");
    assert_eq!(outcome(&off), (429, "too_many_refusals".into()));
    assert_eq!(ingress.post(&from(&signed, client)).status, 200);
}

#[test]
fn other_methods_do_not_tell_the_names_of_sources() {
    let ingress = Ingress::start();
    let known = format!("/webhooks/generic/{}", generic_source());
    for (method, status) in [("HEAD", 200), ("GET", 405), ("PUT", 405)] {
        for path in [&known, "/webhooks/generic/no-such-source"] {
            assert_eq!(ingress.send(method, path, &[], b"").status, status, "{method} {path}");
        }
        let status = ingress.send(method, "/webhooks/no-such-provider/x", &[], b"").status;
        assert_eq!(status, 404, "{method}");
    }
}

#[test]
fn a_disabled_source_asks_for_a_retry() {
    let ingress = Ingress::start_with(DISABLED);
    let headers = [("x-token", "a token of 22 bytes")];
    let response = ingress.post_body("/webhooks/postmark/off", &headers, b"{}");
    assert_eq!(outcome(&response), (503, "source_disabled".into()));
    assert_eq!(response.header("retry-after").as_deref(), Some("5"));
    ingress.service.await_log("disabled=\"postmark/off\"");
}

#[test]
fn the_log_tells_which_protections_are_on_and_what_weakens_them() {
    let sources = "[[source]]\nprovider = \"postmark\"\nname = \"open\"\nunverified = true\n\
                   [[source]]\nprovider = \"mailgun\"\nname = \"weak\"\nsecrets = [\"short\"]\n\
                   shadow = true\n";
    let ingress = Ingress::start_with(sources);
    let log = ingress.service.log();
    let protections = log.lines().find(|line| line.contains("protections")).unwrap();
    for part in ["pseudonyms=\"off\"", "unverified=\"postmark/open\"", "shadow=\"mailgun/weak\""] {
        assert!(protections.contains(part), "{part}: {protections}");
    }
    for warning in ["fewer than 16 bytes", "is written in the settings"] {
        let warns = |line: &&str| line.contains(warning) && line.contains("weak");
        assert!(log.lines().any(|line| warns(&line)), "{warning}: {log}");
    }
    // A proxy that is not trusted is reported once.
    let request = from(&genuine(&ingress, Provider::Postmark), "192.0.2.7");
    for _ in 0..3 {
        assert_eq!(ingress.post(&request).status, 200);
    }
    let log = ingress.service.log();
    assert_eq!(log.matches("`ingress.trusted_proxies` is empty").count(), 1, "{log}");
}

#[test]
fn the_age_of_the_oldest_mailgun_token_is_exported() {
    let ingress = Ingress::start();
    assert_eq!(ingress.post(&genuine(&ingress, Provider::Mailgun)).status, 200);
    let name = "mailpulse_ingress_replay_cache_oldest_token_seconds";
    let metrics = ingress.service.metrics();
    assert!(metrics.get(name, &[]).is_some_and(|age| (0.0..600.0).contains(&age)));
}
