//! What providers post, and what is answered.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use common::{Answer, Ingress, genuine, now_unix};
use event::{Kind, Provider};
use record::{RawHeaders, names};
use testkit::{Plan, Traffic, sign};

/// One source at each provider, and a second generic one.
fn sources() -> Vec<(Provider, String)> {
    testkit::SOURCES.map(|(provider, name)| (provider, name.to_owned())).to_vec()
}

#[test]
fn events_of_every_provider_are_published_by_kind_and_keyed_by_recipient() {
    let ingress = Ingress::start(devstack::shared_kafka());
    let plan = Plan { sources: sources(), ..Plan::small(&ingress.credentials, now_unix()) };
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
    let plan = Plan {
        credentials: ingress.credentials.impostor(),
        sources: sources(),
        ..Plan::small(&ingress.credentials, now_unix())
    };
    let traffic = Traffic::new(1, plan);
    for (provider, source) in testkit::SOURCES {
        let path = format!("/webhooks/{provider}/{source}");
        let forged = traffic.requests().find(|request| request.path == path).unwrap();
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
fn registration_checks_and_pings_are_answered_and_publish_nothing() {
    let sparkpost = "[[source]]\nprovider = \"sparkpost\"\nname = \"eu\"\n\
                     header = \"x-token\"\nsecrets = [\"the token\"]\n";
    let ingress = Ingress::start_with(devstack::shared_kafka(), sparkpost);
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
    for answer in &pings {
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    for answer in &pings[1..] {
        assert_eq!(answer.json()["accepted"], 0, "{}", answer.text);
        assert_eq!(answer.json()["dead_lettered"], 0, "{}", answer.text);
    }
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
fn garbage_is_kept_whole_whoever_sends_it() {
    let ingress = Ingress::start(devstack::shared_kafka());
    for (n, (provider, source)) in testkit::SOURCES.into_iter().enumerate() {
        let request = sign::garbage(&ingress.credentials, provider, source, n, now_unix());
        let answer = ingress.post(&request);
        assert_eq!(answer.status, 200, "{provider}: {}", answer.text);
        assert_eq!(answer.json()["accepted"], 0, "{provider}");
        assert_eq!(answer.json()["dead_lettered"], 1, "{provider}");
    }
    let records = ingress.records(&ingress.all_topics(), testkit::SOURCES.len());
    assert_eq!(records.len(), testkit::SOURCES.len());
    assert!(records.iter().all(|record| record.topic == ingress.topics.dead_letters));
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
    headers.push(("content-encoding".into(), "br".into()));
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
    // The head is surely read once another request, sent after it, is answered; one that does not
    // wait for Kafka, as the body must follow within the timeout.
    let mut other = TcpStream::connect(&ingress.address).unwrap();
    let head = format!("HEAD {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", request.path);
    other.write_all(head.as_bytes()).unwrap();
    assert_eq!(Answer::read(other).status, 200);
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
