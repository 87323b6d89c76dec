//! Requests of every provider, and the responses to them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;

use common::{Ingress, genuine, now_unix, outcome};
use event::{Kind, Provider};
use harness::{DEADLINE, Response, eventually, http};
use record::{RawHeaders, names};
use testkit::{Plan, Traffic, sign};

/// Returns a source of each provider, and a second generic one.
fn sources() -> Vec<(Provider, String)> {
    testkit::SOURCES.map(|(provider, name)| (provider, name.to_owned())).to_vec()
}

#[test]
fn events_of_every_provider_are_published_by_kind_and_keyed_by_recipient() {
    let ingress = Ingress::start();
    let plan = Plan { sources: sources(), ..Plan::small(&ingress.credentials, now_unix()) };
    let traffic = Traffic::new(1, plan);
    let mut accepted = 0;
    for request in traffic.requests() {
        let response = ingress.post(&request);
        assert_eq!(response.status, 200, "{}", response.text);
        accepted += response.json()["accepted"].as_u64().unwrap();
    }
    let truth = traffic.expected();
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
        assert_eq!(*partition, record.partition, "{key} is on two partition numbers");
    }
    assert_eq!(found, truth.accepted);
}

#[test]
fn a_wrong_signature_gets_a_problem_document_and_publishes_nothing() {
    let ingress = Ingress::start();
    let plan = Plan {
        credentials: ingress.credentials.impostor(),
        sources: sources(),
        ..Plan::small(&ingress.credentials, now_unix())
    };
    let traffic = Traffic::new(1, plan);
    for (provider, source) in testkit::SOURCES {
        let path = format!("/webhooks/{provider}/{source}");
        let forged = traffic.requests().find(|request| request.path == path).unwrap();
        let response = ingress.post(&forged);
        let expected = if provider == Provider::Mailgun { 406 } else { 401 };
        assert_eq!(response.status, expected, "{provider}: {}", response.text);
        assert!(response.text.contains("application/problem+json"));
        let problem = response.json();
        assert_eq!(problem["status"], expected);
        assert!(problem["code"].as_str().is_some_and(|code| code.contains("wrong_")), "{problem}");
    }
    // An authentic request after them publishes the only record.
    assert_eq!(ingress.post(&genuine(&ingress, Provider::Postmark)).status, 200);
    assert_eq!(ingress.records(&ingress.all_topics(), 1).len(), 1);
}

#[test]
fn registration_checks_and_pings_are_answered_and_publish_nothing() {
    let sparkpost = "[[source]]\nprovider = \"sparkpost\"\nname = \"eu\"\n\
                     header = \"x-token\"\nsecrets = [\"the token\"]\n";
    let ingress = Ingress::start_with(sparkpost);
    let welcome = "Successfully validated SNS topic for Amazon SES event publishing.";
    let pings = [
        ingress.send("HEAD", "/webhooks/mandrill/city-press", &[], b""),
        ingress.post(&sign::mandrill(&ingress.credentials, "city-press", &[])),
        ingress.post(&sign::ses_message(&ingress.credentials, "news", welcome, now_unix())),
        ingress.post_body(
            "/webhooks/sparkpost/eu",
            &[("x-token", "the token")],
            br#"[{"msys":{}}]"#,
        ),
    ];
    for response in &pings {
        assert_eq!(response.status, 200, "{}", response.text);
    }
    for response in &pings[1..] {
        assert_eq!(response.json()["accepted"], 0, "{}", response.text);
        assert_eq!(response.json()["dead_lettered"], 0, "{}", response.text);
    }
    assert_eq!(ingress.post(&genuine(&ingress, Provider::Postmark)).status, 200);
    assert_eq!(ingress.records(&ingress.all_topics(), 1).len(), 1);
}

#[test]
fn a_verified_body_that_cannot_be_split_becomes_a_dead_letter_with_its_bytes() {
    let ingress = Ingress::start();
    let mut request = genuine(&ingress, Provider::Postmark);
    request.body = bytes::Bytes::from_static(b"\x00 not { json \xff");
    let response = ingress.post(&request);
    assert_eq!(response.status, 200, "{}", response.text);
    assert_eq!(response.json()["accepted"], 0);
    assert_eq!(response.json()["dead_lettered"], 1);
    let records = ingress.records(&ingress.all_topics(), 1);
    assert_eq!(records.len(), 1);
    let dead_letter = &records[0];
    assert_eq!(dead_letter.topic, ingress.cluster.topics.dead_letters);
    assert_eq!(dead_letter.value.as_deref(), Some(&b"\x00 not { json \xff"[..]));
    assert!(matches!(dead_letter.header(names::REASON), Some(b"not_utf8" | b"not_json")));
    assert_eq!(dead_letter.header(names::STAGE), Some(&b"ingress"[..]));
    assert_eq!(dead_letter.header(names::PROVIDER), Some(&b"postmark"[..]));
}

#[test]
fn an_unreadable_body_of_any_provider_becomes_one_dead_letter() {
    let ingress = Ingress::start();
    for (n, (provider, source)) in testkit::SOURCES.into_iter().enumerate() {
        let request = sign::malformed(&ingress.credentials, provider, source, n, now_unix());
        let response = ingress.post(&request);
        assert_eq!(response.status, 200, "{provider}: {}", response.text);
        assert_eq!(response.json()["accepted"], 0, "{provider}");
        assert_eq!(response.json()["dead_lettered"], 1, "{provider}");
    }
    let records = ingress.records(&ingress.all_topics(), testkit::SOURCES.len());
    assert_eq!(records.len(), testkit::SOURCES.len());
    assert!(records.iter().all(|record| record.topic == ingress.cluster.topics.dead_letters));
}

#[test]
fn a_request_that_is_no_webhook_is_rejected_with_the_reason() {
    let ingress = Ingress::start();
    let genuine = genuine(&ingress, Provider::Postmark);
    for path in ["/webhooks/fax/acme", "/webhooks/postmark/absent", "/", "/webhooks"] {
        let response = ingress.send("POST", path, &[], b"{}");
        assert_eq!(outcome(&response), (404, "unknown_source".into()), "{path}");
    }
    let response = ingress.send("GET", &genuine.path, &[], b"");
    assert_eq!(outcome(&response), (405, "method_not_allowed".into()));
    assert_eq!(ingress.send("HEAD", &genuine.path, &[], b"").status, 200);

    let mut headers = genuine.headers.clone();
    headers.push(("content-encoding".into(), "br".into()));
    let response = ingress.send("POST", &genuine.path, &headers, &genuine.body);
    assert_eq!(outcome(&response), (415, "encoded_body".into()));

    let oversize = vec![b' '; 16 * 1024 * 1024 + 1];
    let response = ingress.send("POST", &genuine.path, &genuine.headers, &oversize);
    assert_eq!(outcome(&response), (413, "body_too_large".into()));
}

#[test]
fn a_body_that_does_not_arrive_in_time_is_answered_with_408() {
    let ingress = Ingress::start_with("read_timeout = \"2s\"");
    let genuine = genuine(&ingress, Provider::Postmark);
    let headers: String =
        genuine.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let path = genuine.path;
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: 10\r\n\r\n123");
    let response = Response::read(ingress.connect_and_send(head.as_bytes()));
    assert_eq!(response.status, 408);
    assert_eq!(response.json()["code"], "read_timeout");
}

#[test]
fn a_request_in_progress_is_finished_when_the_process_is_asked_to_stop() {
    let mut ingress = Ingress::start();
    let request = genuine(&ingress, Provider::Postmark);
    let (path, headers) = (&request.path, &request.headers);
    let length = request.body.len();
    let head = http::head(&ingress.address, "POST", path, headers, length, true);
    let (first, rest) = request.body.split_at(10);
    let mut stream = ingress.connect_and_send(&[head.as_bytes(), first].concat());
    // The ingress has read the head once it has responded to another request that was sent later.
    assert_eq!(ingress.send("HEAD", path, &[], b"").status, 200);
    let (rest, admin) = (rest.to_vec(), ingress.service.admin().to_owned());
    let finishing = std::thread::spawn(move || {
        // The rest of the body is sent after the ingress has begun to stop.
        eventually("the ingress to be draining", DEADLINE, || {
            http::get(&admin, "/readyz").is_none_or(|response| response.status == 503)
        });
        stream.write_all(&rest).unwrap();
        Response::read(stream)
    });
    ingress.service.stop();
    let response = finishing.join().unwrap();
    assert_eq!(response.status, 200, "{}", response.text);
    assert!(TcpStream::connect(&ingress.address).is_err());
}
