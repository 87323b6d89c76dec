//! Time records: they reach every raw partition, and never promise more than the ingress has published.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod numbered;

use std::collections::BTreeSet;

use common::{Ingress, now_unix};
use harness::{DEADLINE, Record, eventually, seen};
use numbered::{Numbered, own_kafka};
use record::{TimeRecord, names};

const OFTEN: &str = "time_every = \"100ms\"";

fn time_record(record: &Record) -> Option<TimeRecord<'_>> {
    TimeRecord::read(&|name| record.header(name))
}

/// Returns all records of the raw topics, by partition.
fn raw_partitions(ingress: &Ingress) -> Vec<Vec<Record>> {
    let topics: Vec<String> = ingress.cluster.topics.all_raw().map(str::to_owned).collect();
    let partitions = 0..ingress.cluster.layout.recipient_partitions;
    topics
        .iter()
        .flat_map(|topic| {
            let records = ingress.cluster.read(topic);
            let of = |number| records.iter().filter(move |it| it.partition == number).cloned();
            partitions.clone().map(move |number| of(number).collect::<Vec<_>>()).collect::<Vec<_>>()
        })
        .collect()
}

fn times(records: &[Record]) -> Vec<i64> {
    records.iter().filter_map(time_record).map(|record| record.time).collect()
}

/// Asserts that no event follows a time record that promises that there is none.
fn assert_promises_are_kept(partitions: &[Vec<Record>]) {
    for records in partitions {
        let mut promised = i64::MIN;
        for record in records {
            match time_record(record) {
                Some(time) => promised = promised.max(time.time),
                None => {
                    let text = std::str::from_utf8(record.header(names::RECEIVED_AT).unwrap());
                    let received_at: i64 = text.unwrap().parse().unwrap();
                    assert!(received_at >= promised, "{received_at} after {promised}: {record:?}");
                }
            }
        }
    }
}

#[test]
fn time_records_reach_every_raw_partition_and_the_last_one_ends_them() {
    let mut ingress = Ingress::start_with(OFTEN);
    eventually("three time records in every raw partition", DEADLINE, || {
        let least = raw_partitions(&ingress).iter().map(|records| times(records).len()).min();
        seen(least, |least| *least >= Some(3))
    });
    ingress.service.stop();
    let partitions = raw_partitions(&ingress);
    let mut ids = BTreeSet::new();
    for records in &partitions {
        let now = now_unix() * 1_000_000;
        let times = times(records);
        assert!(times.is_sorted() && now - times[0] < 600_000_000, "{times:?}");
        let (last, others) = records.split_last().unwrap();
        assert!(time_record(last).unwrap().is_last);
        assert!(others.iter().all(|record| !time_record(record).unwrap().is_last));
        ids.extend(records.iter().map(|record| time_record(record).unwrap().id.unwrap()));
        assert!(records.iter().all(|it| it.key.is_empty() && it.value() == b""));
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert!(ingress.cluster.read(&ingress.cluster.topics.dead_letters).is_empty());
    let log = ingress.service.log();
    assert!(!log.contains("time records could not be written"), "{log}");
}

#[test]
fn no_time_records_are_written_if_they_are_switched_off() {
    let ingress = Ingress::start_with("time_every = \"0s\"");
    let mut events = Numbered::new(&ingress);
    assert_eq!(events.post(&ingress), 200);
    assert!(raw_partitions(&ingress).iter().all(|records| times(records).is_empty()));
    drop(ingress);
}

#[test]
fn the_time_waits_for_requests_in_the_spool() {
    let (_dirs, mut kafka) = own_kafka();
    let mut ingress = Ingress::start_on(kafka.bootstrap(), OFTEN);
    let mut events = Numbered::new(&ingress);
    let mut count = 0;
    let mut post = |ingress: &Ingress, more: usize| {
        assert!((0..more).all(|_| events.post(ingress) == 200));
        count += more;
        count
    };
    post(&ingress, 20);
    kafka.kill().unwrap();
    post(&ingress, 40);
    ingress.service.await_metric("mailpulse_ingress_spooling", &[], |spooling| spooling == 1.0);
    kafka.restart().unwrap();
    post(&ingress, 40);
    ingress.service.await_metric("mailpulse_ingress_spooling", &[], |spooling| spooling == 0.0);

    // The same with requests that a killed process leaves in the spool.
    kafka.kill().unwrap();
    post(&ingress, 20);
    ingress.kill_and_start();
    let all = post(&ingress, 20);
    kafka.restart().unwrap();
    ingress.service.await_metric("mailpulse_ingress_spooling", &[], |spooling| spooling == 0.0);

    let restarted_at = now_unix() * 1_000_000;
    eventually("the time to go on in every raw partition", DEADLINE, || {
        let latest = raw_partitions(&ingress);
        let latest = latest.iter().map(|records| times(records).into_iter().max()).min();
        seen(latest, |latest| latest.flatten() >= Some(restarted_at))
    });
    let partitions = raw_partitions(&ingress);
    let found = partitions.iter().flatten().filter(|record| time_record(record).is_none());
    let ids: BTreeSet<String> = found.map(|record| record.json()["id"].to_string()).collect();
    assert_eq!(ids.len(), all);
    assert_promises_are_kept(&partitions);
}
