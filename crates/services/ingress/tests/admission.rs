//! Credentials, allowed addresses, and rate limits of sources.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use bytes::Bytes;
use common::{Ingress, genuine, now_unix, outcome};
use event::Provider;
use harness::Response;
use serde_json::json;
use testkit::{SignedRequest, sign};

/// A Postmark source with two secrets in a header of its own.
const TOKENS: &str = "[[source]]\nprovider = \"postmark\"\nname = \"tokens\"\n\
                      header = \"x-token\"\nsecrets = [\"the old one\", \"the new one\"]\n";

/// Trusts the test as a load balancer, so that a request can have any client address.
const PROXIED: &str = "trusted_proxies = [\"127.0.0.0/8\"]\n";

/// Logged for an authentic subscription that is not confirmed automatically.
const CONFIRM: &str = "SNS subscription must be confirmed by hand";

fn delivery() -> Vec<u8> {
    json!({"RecordType": "Delivery", "MessageID": "m-1", "Recipient": "ada@example.com",
        "DeliveredAt": "2026-11-21T10:00:00Z"})
    .to_string()
    .into_bytes()
}

fn post(ingress: &Ingress, source: &str, token: &str, from: &str) -> Response {
    let headers = [("x-token", token), ("x-forwarded-for", from)];
    ingress.post_body(&format!("/webhooks/postmark/{source}"), &headers, &delivery())
}

#[test]
fn each_active_secret_is_accepted_and_counted_separately() {
    let ingress = Ingress::start_with(TOKENS);
    for token in ["the old one", "the new one", "the new one"] {
        assert_eq!(post(&ingress, "tokens", token, "").status, 200, "{token}");
    }
    assert_eq!(outcome(&post(&ingress, "tokens", "another", "")).1, "wrong_credentials");
    for (secret, requests) in [("0", 1.0), ("1", 2.0)] {
        let labels = [("provider", "postmark"), ("source", "tokens"), ("secret_index", secret)];
        let name = "mailpulse_ingress_verified_requests_total";
        ingress.service.await_metric(name, &labels, |counted| counted == requests);
    }
}

#[test]
fn only_allowed_addresses_may_post_whatever_they_claim() {
    let listed = format!("{PROXIED}{TOKENS}allow_ips = [\"192.0.2.0/24\", \"2001:db8::/32\"]\n");
    let ingress = Ingress::start_with(&listed);
    let result = |from| outcome(&post(&ingress, "tokens", "the new one", from));
    for from in ["192.0.2.7", "198.51.100.1, 192.0.2.7", "192.0.2.7, 127.0.0.2", "2001:db8::7"] {
        assert_eq!(result(from), (200, String::new()), "{from}");
    }
    for from in ["198.51.100.1", "192.0.2.7, 198.51.100.1", "192.0.2.7, unknown", "", "192.0.3.1"] {
        assert_eq!(result(from), (403, "address_not_allowed".into()), "{from}");
    }
}

#[test]
fn a_client_with_too_many_rejected_requests_is_rejected_before_its_body_is_read() {
    let keys = format!("{PROXIED}rejection_burst = 3\nrejections_per_minute = 1\n{TOKENS}");
    let ingress = Ingress::start_with(&keys);
    let result = |token, from| outcome(&post(&ingress, "tokens", token, from));
    for _ in 0..4 {
        assert_eq!(result("forged", "192.0.2.7"), (401, "wrong_credentials".into()));
    }
    let response = post(&ingress, "tokens", "forged", "192.0.2.7");
    assert_eq!(outcome(&response), (429, "too_many_refusals".into()));
    let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");

    // The response does not wait for the body.
    let head = "POST /webhooks/postmark/tokens HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 192.0.2.7\r\n\
                content-length: 10\r\nconnection: close\r\n\r\n";
    let response = Response::read(ingress.connect_and_send(head.as_bytes()));
    assert_eq!(outcome(&response), (429, "too_many_refusals".into()));

    // Other clients and other sources are not affected.
    assert_eq!(result("the new one", "192.0.2.8"), (200, String::new()));
    let other = post(&ingress, "receipts", "forged", "192.0.2.7");
    assert_eq!(outcome(&other), (401, "missing_credentials".into()), "another source");
}

#[test]
fn a_client_that_has_sent_an_authentic_request_is_never_limited() {
    let keys = format!("{PROXIED}rejection_burst = 1\nrejections_per_minute = 1\n{TOKENS}");
    let ingress = Ingress::start_with(&keys);
    let status = |token| post(&ingress, "tokens", token, "192.0.2.7").status;
    assert_eq!(status("the new one"), 200);
    assert!((0..20).all(|_| status("forged") == 401));
    assert_eq!(status("the new one"), 200);
}

#[test]
fn sns_never_gets_429() {
    let keys = format!("{PROXIED}rejection_burst = 1\nrejections_per_minute = 1\n");
    let ingress = Ingress::start_with(&keys);
    let results = [0; 3].map(|_| {
        let headers = [("x-forwarded-for", "192.0.2.7")];
        outcome(&ingress.post_body("/webhooks/ses/news", &headers, b"{}"))
    });
    assert_eq!(results[2], (503, "too_many_refusals".into()));
}

#[test]
fn in_shadow_mode_forged_requests_are_accepted_and_counted() {
    let keys = format!("{PROXIED}rejection_burst = 1\n{TOKENS}shadow = true\n");
    let ingress = Ingress::start_with(&keys);
    for _ in 0..5 {
        let response = post(&ingress, "tokens", "forged", "192.0.2.7");
        assert_eq!((response.status, response.json()["accepted"].as_u64()), (200, Some(1)));
    }
    assert_eq!(post(&ingress, "tokens", "the new one", "192.0.2.7").status, 200);
    let labels = [("provider", "postmark"), ("source", "tokens"), ("code", "wrong_credentials")];
    ingress.service.await_metric(
        "mailpulse_ingress_shadow_rejected_requests_total",
        &labels,
        |counted| counted == 5.0,
    );
    let records = ingress.records(&ingress.all_topics(), 6);
    let marked = records.iter().filter(|record| record.header("unauthentic").is_some());
    assert_eq!((records.len(), marked.count()), (6, 5), "only forged events are marked");
    ingress.service.await_log("wrong_credentials");
}

#[test]
fn in_shadow_mode_no_forged_subscription_is_confirmed() {
    let shadow = "[[source]]\nprovider = \"ses\"\nname = \"shadow\"\nshadow = true\n\
                  topics = [\"arn:aws:sns:eu-west-1:123456789012:mail-events\"]\n";
    let ingress = Ingress::start_with(shadow);
    for credentials in [ingress.credentials.impostor(), ingress.credentials.clone()] {
        let request = sign::ses_subscription_confirmation(&credentials, "shadow", now_unix());
        assert_eq!(ingress.post(&request).status, 200);
    }
    // The log asks the operator to open the URL of the authentic one, which came last.
    ingress.service.await_log(CONFIRM);
    let log = ingress.service.log();
    assert_eq!(log.matches(CONFIRM).count(), 1, "{log}");
}

#[test]
fn requests_beyond_the_burst_are_limited_to_the_rate() {
    let keys = format!("{TOKENS}rate = 1\nburst = 5\n");
    let ingress = Ingress::start_with(&keys);
    let post = || post(&ingress, "tokens", "the new one", "");
    assert!((0..5).all(|_| post().status == 200), "requests within the burst are accepted");
    let slow = (0..20).map(|_| post()).find(|response| response.status != 200).unwrap();
    assert_eq!(outcome(&slow), (429, "too_fast".into()));
    assert_eq!(slow.header("retry-after").unwrap(), "1");
}

#[test]
fn a_signed_token_is_valid_for_one_event_and_its_retries() {
    let ingress = Ingress::start();
    let request = genuine(&ingress, Provider::Mailgun);
    assert_eq!(ingress.post(&request).status, 200);
    assert_eq!(ingress.post(&request).status, 200, "a retry");
    let body = String::from_utf8(request.body.to_vec()).unwrap();
    let replayed = SignedRequest {
        body: Bytes::from(body.replacen("\"event\":", "\"event2\":", 1)),
        ..request.clone()
    };
    assert_ne!(replayed.body, request.body);
    assert_eq!(outcome(&ingress.post(&replayed)), (406, "replayed_signature".into()));
    assert_eq!(ingress.post(&request).status, 200, "still a retry");
    assert_eq!(ingress.records(&ingress.all_topics(), 3).len(), 3);
}
