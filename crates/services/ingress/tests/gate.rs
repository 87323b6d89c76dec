//! Who may post to a source, from where, and how often.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::io::Write;
use std::net::TcpStream;

use bytes::Bytes;
use common::{Answer, Ingress, genuine, now_unix};
use event::Provider;
use serde_json::json;
use testkit::{SignedRequest, sign};

/// A Postmark source whose secrets stand in a header of their own.
const TOKENS: &str = "[[source]]\nprovider = \"postmark\"\nname = \"tokens\"\n\
                      header = \"x-token\"\nsecrets = [\"the old one\", \"the new one\"]\n";

/// Behind a balancer, so that a test can come from anywhere.
const PROXIED: &str = "trusted_proxies = [\"127.0.0.0/8\"]\n";

fn delivery() -> Vec<u8> {
    json!({"RecordType": "Delivery", "MessageID": "m-1", "Recipient": "ada@example.com",
        "DeliveredAt": "2026-11-21T10:00:00Z"})
    .to_string()
    .into_bytes()
}

fn post(ingress: &Ingress, source: &str, token: &str, from: &str) -> Answer {
    let headers = [("x-token", token), ("x-forwarded-for", from)];
    ingress.post_body(&format!("/webhooks/postmark/{source}"), &headers, &delivery())
}

#[test]
fn each_active_secret_is_taken_and_counted_for_itself() {
    let ingress = Ingress::start_with(devstack::shared_kafka(), TOKENS);
    for token in ["the old one", "the new one", "the new one"] {
        assert_eq!(post(&ingress, "tokens", token, "").status, 200, "{token}");
    }
    assert_eq!(post(&ingress, "tokens", "another", "").verdict().1, "wrong_credentials");
    let verified = |key: &str| {
        let labels = format!("provider=\"postmark\",source=\"tokens\",key=\"{key}\"");
        ingress.metric(&format!("mailpulse_ingress_verified_total{{{labels}}}"))
    };
    assert_eq!((verified("0"), verified("1")), (1.0, 2.0));
}

#[test]
fn only_addresses_on_the_list_may_post_whatever_they_claim() {
    let listed = format!("{PROXIED}{TOKENS}allow_ips = [\"192.0.2.0/24\", \"2001:db8::/32\"]\n");
    let ingress = Ingress::start_with(devstack::shared_kafka(), &listed);
    let verdict = |from| post(&ingress, "tokens", "the new one", from).verdict();
    for from in ["192.0.2.7", "198.51.100.1, 192.0.2.7", "192.0.2.7, 127.0.0.2", "2001:db8::7"] {
        assert_eq!(verdict(from), (200, String::new()), "{from}");
    }
    for from in ["198.51.100.1", "192.0.2.7, 198.51.100.1", "192.0.2.7, unknown", "", "192.0.3.1"] {
        assert_eq!(verdict(from), (403, "address_not_allowed".into()), "{from}");
    }
}

#[test]
fn a_client_that_is_refused_too_often_is_turned_away_unread() {
    let keys = format!("{PROXIED}refusal_burst = 3\nrefusals_per_minute = 1\n{TOKENS}");
    let ingress = Ingress::start_with(devstack::shared_kafka(), &keys);
    let verdict = |token, from| post(&ingress, "tokens", token, from).verdict();
    for _ in 0..4 {
        assert_eq!(verdict("forged", "192.0.2.7"), (401, "wrong_credentials".into()));
    }
    let answer = post(&ingress, "tokens", "forged", "192.0.2.7");
    assert_eq!(answer.verdict(), (429, "too_many_refusals".into()));
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");

    // Its body is not waited for.
    let mut stream = TcpStream::connect(&ingress.address).unwrap();
    let head = "POST /webhooks/postmark/tokens HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 192.0.2.7\r\n\
                content-length: 10\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(Answer::read(stream).verdict(), (429, "too_many_refusals".into()));

    // Nobody else is.
    assert_eq!(verdict("the new one", "192.0.2.8"), (200, String::new()));
    let other = post(&ingress, "receipts", "forged", "192.0.2.7");
    assert_eq!(other.verdict(), (401, "missing_credentials".into()), "another source");
}

#[test]
fn a_client_that_sent_something_authentic_is_never_turned_away() {
    let keys = format!("{PROXIED}refusal_burst = 1\nrefusals_per_minute = 1\n{TOKENS}");
    let ingress = Ingress::start_with(devstack::shared_kafka(), &keys);
    let status = |token| post(&ingress, "tokens", token, "192.0.2.7").status;
    assert_eq!(status("the new one"), 200);
    assert!((0..20).all(|_| status("forged") == 401));
    assert_eq!(status("the new one"), 200);
}

#[test]
fn sns_is_never_told_that_too_many_requests_are_its_fault() {
    let keys = format!("{PROXIED}refusal_burst = 1\nrefusals_per_minute = 1\n");
    let ingress = Ingress::start_with(devstack::shared_kafka(), &keys);
    let verdicts = [0; 3].map(|_| {
        ingress
            .post_body("/webhooks/ses/news", &[("x-forwarded-for", "192.0.2.7")], b"{}")
            .verdict()
    });
    assert_eq!(verdicts[2], (503, "too_many_refusals".into()));
}

#[test]
fn in_shadow_mode_everything_is_taken_and_what_is_not_authentic_is_counted() {
    let keys = format!("{PROXIED}refusal_burst = 1\n{TOKENS}shadow = true\n");
    let ingress = Ingress::start_with(devstack::shared_kafka(), &keys);
    for _ in 0..5 {
        let answer = post(&ingress, "tokens", "forged", "192.0.2.7");
        assert_eq!((answer.status, answer.json()["accepted"].as_u64()), (200, Some(1)));
    }
    assert_eq!(post(&ingress, "tokens", "the new one", "192.0.2.7").status, 200);
    let labels = "provider=\"postmark\",source=\"tokens\",code=\"wrong_credentials\"";
    let counted = format!("mailpulse_ingress_shadow_refusals_total{{{labels}}}");
    assert_eq!(ingress.metric(&counted), 5.0);
    assert_eq!(ingress.records(&ingress.all_topics(), 6).len(), 6);
    assert!(ingress.log().contains("wrong_credentials"), "{}", ingress.log());
}

#[test]
fn in_shadow_mode_no_forged_subscription_is_confirmed() {
    let shadow = "[[source]]\nprovider = \"ses\"\nname = \"shadow\"\nshadow = true\n\
                  topics = [\"arn:aws:sns:eu-west-1:123456789012:mail-events\"]\n";
    let ingress = Ingress::start_with(devstack::shared_kafka(), shadow);
    let ask = |credentials| {
        let request = sign::ses_subscription_confirmation(&credentials, "shadow", now_unix());
        assert_eq!(ingress.post(&request).status, 200);
        ingress.log().contains("to be confirmed by hand")
    };
    assert!(!ask(ingress.credentials.impostor()));
    assert!(ask(ingress.credentials.clone()));
}

#[test]
fn a_source_has_its_pace_beyond_a_burst() {
    let keys = format!("{TOKENS}rate = 1\nburst = 5\n");
    let ingress = Ingress::start_with(devstack::shared_kafka(), &keys);
    let post = || post(&ingress, "tokens", "the new one", "");
    assert!((0..5).all(|_| post().status == 200), "below the burst nothing is held up");
    let slow = (0..20).map(|_| post()).find(|answer| answer.status != 200).unwrap();
    assert_eq!(slow.verdict(), (429, "too_fast".into()));
    assert_eq!(slow.header("retry-after").unwrap(), "1");
}

#[test]
fn a_signed_token_is_good_for_one_event_and_its_retries() {
    let ingress = Ingress::start(devstack::shared_kafka());
    let request = genuine(&ingress, Provider::Mailgun);
    assert_eq!(ingress.post(&request).status, 200);
    assert_eq!(ingress.post(&request).status, 200, "a retry");
    let body = String::from_utf8(request.body.to_vec()).unwrap();
    let replayed = SignedRequest {
        body: Bytes::from(body.replacen("\"event\":", "\"event2\":", 1)),
        ..request.clone()
    };
    assert_ne!(replayed.body, request.body);
    assert_eq!(ingress.post(&replayed).verdict(), (406, "replayed_signature".into()));
    assert_eq!(ingress.post(&request).status, 200, "still a retry");
    assert_eq!(ingress.records(&ingress.all_topics(), 3).len(), 3);
}
