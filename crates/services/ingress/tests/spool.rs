//! While Kafka is away, no request that was answered with 200 is lost, even if the ingress dies.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod numbered;

use common::Ingress;
use harness::{DEADLINE, eventually};
use numbered::{Numbered, assert_in_order, await_numbers, own_kafka};

#[test]
fn while_kafka_is_away_requests_are_spooled_and_then_published_in_order() {
    let (_dirs, mut kafka) = own_kafka();
    let ingress = Ingress::start_on(kafka.bootstrap(), "");
    let mut events = Numbered::new(&ingress);
    assert!((0..20).all(|_| events.post(&ingress) == 200));
    kafka.kill().unwrap();
    assert!((20..60).all(|_| events.post(&ingress) == 200), "Mailgun would not post it again");
    assert!(ingress.service.is_ready(), "the ingress still accepts requests");
    ingress.service.await_metric("mailpulse_ingress_spooling", &[], |spooling| spooling == 1.0);
    ingress.service.await_metric("mailpulse_ingress_spool_bytes", &[], |bytes| bytes > 0.0);
    kafka.restart().unwrap();
    assert!((60..100).all(|_| events.post(&ingress) == 200));
    let records = await_numbers(&ingress, &(0..100).collect());
    assert_in_order(&records);
    // Requests go to Kafka again once the spool is empty.
    ingress.service.await_metric("mailpulse_ingress_spooling", &[], |spooling| spooling == 0.0);
    ingress.service.await_metric("mailpulse_ingress_spool_bytes", &[], |bytes| bytes == 0.0);
    let spooled = || ingress.service.metric("mailpulse_ingress_spooled_requests_total", &[]);
    let before = spooled();
    assert_eq!(events.post(&ingress), 200);
    assert_eq!(spooled(), before, "a request was spooled although Kafka is back");
}

#[test]
fn a_kill_while_kafka_is_away_loses_nothing() {
    let (_dirs, mut kafka) = own_kafka();
    let mut ingress = Ingress::start_on(kafka.bootstrap(), "");
    let mut events = Numbered::new(&ingress);
    assert_eq!(events.post(&ingress), 200);
    kafka.kill().unwrap();
    for _ in 0..3 {
        assert!((0..10).all(|_| events.post(&ingress) == 200));
        ingress.kill_and_start();
    }
    assert!((0..10).all(|_| events.post(&ingress) == 200));
    kafka.restart().unwrap();
    assert_in_order(&await_numbers(&ingress, &(0..41).collect()));
}

#[test]
fn with_the_spool_full_the_provider_is_asked_to_retry() {
    let (_dirs, mut kafka) = own_kafka();
    let ingress = Ingress::start_on(kafka.bootstrap(), "spool_bytes = 10000");
    let mut events = Numbered::new(&ingress);
    assert_eq!(events.post(&ingress), 200);
    kafka.kill().unwrap();
    let accepted = (0..50).take_while(|_| events.post(&ingress) == 200).count();
    assert!((5..20).contains(&accepted), "{accepted} events of 700 bytes in 10,000");
    let response = events.post_for_response(&ingress);
    assert_eq!(response.status, 503, "{}", response.text);
    assert_eq!(response.json()["code"], "spool_full");
    assert!(response.header("retry-after").is_some(), "{}", response.text);
    // A load balancer sends requests elsewhere.
    ingress.service.await_unready("");
    kafka.restart().unwrap();
    eventually("requests to be accepted again", DEADLINE, || {
        events.post(&ingress) == 200 && ingress.service.is_ready()
    });
    await_numbers(&ingress, &(0..=accepted as u64).collect());
}
