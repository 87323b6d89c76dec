//! While Kafka is away nothing that was answered with 200 is lost, whatever happens to us.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::{Answer, DEADLINE, Ingress, now_unix};
use devstack::{Dirs, Kafka};
use event::Provider;
use stream::feed::Item;
use testkit::load::Load;

/// A Kafka of the test's own, for it is killed.
fn own_kafka() -> (Dirs, Kafka) {
    let dirs = Dirs::new().unwrap();
    let kafka = Kafka::start_own(&dirs).unwrap();
    (dirs, kafka)
}

/// Events of our own numbering: three follow each other for every recipient.
struct Numbered(Load);

impl Numbered {
    fn new(ingress: &Ingress) -> Self {
        let named = |(provider, name)| (provider == Provider::Generic).then_some(name);
        let source = testkit::SOURCES.into_iter().find_map(named).unwrap();
        Self(Load::new(&ingress.credentials, source, "s", 1, 0))
    }

    /// Posts one and returns the status.
    fn post(&mut self, ingress: &Ingress) -> u16 {
        let answer = self.answer(ingress);
        if answer.status == 200 {
            assert_eq!(answer.json()["accepted"], 1);
        }
        answer.status
    }

    fn answer(&mut self, ingress: &Ingress) -> Answer {
        ingress.post(&self.0.next_request(now_unix() * 1000))
    }
}

/// The number in the id that [`Load`] gives an event.
fn number(item: &Item) -> u64 {
    let event: serde_json::Value = serde_json::from_slice(item.value.as_deref().unwrap()).unwrap();
    event["id"].as_str().unwrap().strip_prefix("s-").unwrap().parse().unwrap()
}

/// Waits until all of these numbers are in Kafka; returns what is there.
fn await_numbers(ingress: &Ingress, wanted: &BTreeSet<u64>) -> Vec<Item> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let items = ingress.records(&ingress.all_topics(), wanted.len());
        let found: BTreeSet<u64> = items.iter().map(number).collect();
        if found.is_superset(wanted) {
            return items;
        }
        assert!(Instant::now() < deadline, "lost: {:?}", wanted - &found);
    }
}

/// First sights of each key in each partition come in the order they were posted in.
fn assert_in_order(items: &[Item]) {
    let mut last: BTreeMap<(&str, &[u8]), u64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut items: Vec<&Item> = items.iter().collect();
    items.sort_by_key(|item| (&item.topic, item.partition, item.offset));
    for item in items {
        let number = number(item);
        if seen.insert(number) {
            let before = last.insert((&item.topic, &item.key), number);
            assert!(before < Some(number), "{number} after {before:?}");
        }
    }
}

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
