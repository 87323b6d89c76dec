//! Numbered events. The numbers show which events were lost or changed their order.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::collections::{BTreeMap, BTreeSet};

use devstack::{Dirs, Kafka};
use harness::{DEADLINE, Record, Response, eventually};
use testkit::load::Load;

use crate::common::{Ingress, generic_source, now_unix};

/// Starts a Kafka for one test, which kills it.
pub fn own_kafka() -> (Dirs, Kafka) {
    let dirs = Dirs::new().unwrap();
    let kafka = Kafka::start_own(&dirs).unwrap();
    (dirs, kafka)
}

/// A source of numbered events. Three in a row have the same recipient.
pub struct Numbered(Load);

impl Numbered {
    pub fn new(ingress: &Ingress) -> Self {
        Self(Load::new(&ingress.credentials, generic_source(), "s", 1, 0))
    }

    /// Posts the next event and returns the status.
    pub fn post(&mut self, ingress: &Ingress) -> u16 {
        let response = self.post_for_response(ingress);
        if response.status == 200 {
            assert_eq!(response.json()["accepted"], 1);
        }
        response.status
    }

    /// Posts the next event.
    pub fn post_for_response(&mut self, ingress: &Ingress) -> Response {
        ingress.post(&self.0.next_request(now_unix() * 1000))
    }
}

/// Returns the number in the id that [`Load`] gives an event.
fn number(record: &Record) -> u64 {
    record.json()["id"].as_str().unwrap().strip_prefix("s-").unwrap().parse().unwrap()
}

/// Waits until all of these numbers are in Kafka, and returns all records.
pub fn await_numbers(ingress: &Ingress, wanted: &BTreeSet<u64>) -> Vec<Record> {
    eventually("all accepted events to be in Kafka", DEADLINE, || {
        let records = ingress.records(&ingress.all_topics(), wanted.len());
        let found: BTreeSet<u64> = records.iter().map(number).collect();
        let missing = wanted - &found;
        if missing.is_empty() { Ok(records) } else { Err(format!("missing {missing:?}")) }
    })
}

/// Asserts that the events of each key, without repeated ones, have the order in which they were
/// posted.
pub fn assert_in_order(records: &[Record]) {
    let mut last: BTreeMap<(&str, &[u8]), u64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut records: Vec<&Record> = records.iter().collect();
    records.sort_by_key(|record| (&record.topic, record.partition, record.offset));
    for record in records {
        let number = number(record);
        if seen.insert(number) {
            let before = last.insert((&record.topic, &record.key), number);
            assert!(before < Some(number), "{number} after {before:?}");
        }
    }
}
