//! While Kafka is away nothing that was answered with 200 is lost, whatever happens to us.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;
mod numbered;

use std::time::{Duration, Instant};

use common::{DEADLINE, Ingress};
use numbered::{Numbered, assert_in_order, await_numbers, own_kafka};

#[test]
fn while_kafka_is_away_requests_are_kept_and_then_handed_on_in_order() {
    let (_dirs, mut kafka) = own_kafka();
    let ingress = Ingress::start(kafka.bootstrap());
    let mut events = Numbered::new(&ingress);
    assert!((0..20).all(|_| events.post(&ingress) == 200));
    kafka.kill().unwrap();
    assert!((20..60).all(|_| events.post(&ingress) == 200), "Mailgun would not post it again");
    assert!(ingress.is_ready(), "it takes what providers post");
    assert_eq!(ingress.metric("mailpulse_ingress_diverted"), 1.0);
    assert!(ingress.metric("mailpulse_ingress_spool_bytes") > 0.0);
    kafka.restart().unwrap();
    assert!((60..100).all(|_| events.post(&ingress) == 200));
    let items = await_numbers(&ingress, &(0..100).collect());
    assert_in_order(&items);
    let deadline = Instant::now() + DEADLINE;
    while ingress.metric("mailpulse_ingress_diverted") > 0.0 {
        assert!(Instant::now() < deadline, "requests go to kafka again");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(ingress.metric("mailpulse_ingress_spool_bytes"), 0.0);
    let spooled = ingress.metric("mailpulse_ingress_spooled_requests_total");
    assert_eq!(events.post(&ingress), 200);
    assert_eq!(ingress.metric("mailpulse_ingress_spooled_requests_total"), spooled);
}

#[test]
fn a_kill_while_kafka_is_away_loses_nothing() {
    let (_dirs, mut kafka) = own_kafka();
    let mut ingress = Ingress::start(kafka.bootstrap());
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
fn with_the_spool_full_the_provider_is_asked_to_come_again() {
    let (_dirs, mut kafka) = own_kafka();
    let ingress = Ingress::start_with(kafka.bootstrap(), "spool_bytes = 10000");
    let mut events = Numbered::new(&ingress);
    assert_eq!(events.post(&ingress), 200);
    kafka.kill().unwrap();
    let taken = (0..50).take_while(|_| events.post(&ingress) == 200).count();
    assert!((5..20).contains(&taken), "{taken} events of 700 bytes in 10,000");
    let answer = events.answer(&ingress);
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert_eq!(answer.json()["code"], "spool_full");
    assert!(answer.text.to_ascii_lowercase().contains("retry-after: "));
    let deadline = Instant::now() + DEADLINE;
    while ingress.is_ready() {
        assert!(Instant::now() < deadline, "a balancer is to send requests elsewhere");
        std::thread::sleep(Duration::from_millis(20));
    }
    kafka.restart().unwrap();
    while events.post(&ingress) != 200 || !ingress.is_ready() {
        assert!(Instant::now() < deadline + DEADLINE, "kafka is back and nothing is taken");
        std::thread::sleep(Duration::from_millis(20));
    }
    await_numbers(&ingress, &(0..=taken as u64).collect());
}
