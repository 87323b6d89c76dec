//! Events that are told apart by a number, so that it can be said which were lost and whether the
//! others kept their order.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use devstack::{Dirs, Kafka};
use event::Provider;
use kafka::feed::Item;
use testkit::load::Load;

use crate::common::{Answer, DEADLINE, Ingress, now_unix};

/// A Kafka of the test's own, for it is killed.
pub fn own_kafka() -> (Dirs, Kafka) {
    let dirs = Dirs::new().unwrap();
    let kafka = Kafka::start_own(&dirs).unwrap();
    (dirs, kafka)
}

/// Events of our own numbering: three follow each other for every recipient.
pub struct Numbered(Load);

impl Numbered {
    pub fn new(ingress: &Ingress) -> Self {
        let named = |(provider, name)| (provider == Provider::Generic).then_some(name);
        let source = testkit::SOURCES.into_iter().find_map(named).unwrap();
        Self(Load::new(&ingress.credentials, source, "s", 1, 0))
    }

    /// Posts one and returns the status.
    pub fn post(&mut self, ingress: &Ingress) -> u16 {
        let answer = self.answer(ingress);
        if answer.status == 200 {
            assert_eq!(answer.json()["accepted"], 1);
        }
        answer.status
    }

    pub fn answer(&mut self, ingress: &Ingress) -> Answer {
        ingress.post(&self.0.next_request(now_unix() * 1000))
    }
}

/// The number in the id that [`Load`] gives an event.
fn number(item: &Item) -> u64 {
    let event: serde_json::Value = serde_json::from_slice(item.value.as_deref().unwrap()).unwrap();
    event["id"].as_str().unwrap().strip_prefix("s-").unwrap().parse().unwrap()
}

/// Waits until all of these numbers are in Kafka; returns what is there.
pub fn await_numbers(ingress: &Ingress, wanted: &BTreeSet<u64>) -> Vec<Item> {
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
pub fn assert_in_order(items: &[Item]) {
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
