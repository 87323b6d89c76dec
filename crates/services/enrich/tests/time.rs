//! Kinds stay aligned, and the time of the ingresses passes through.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::Stage;
use event::{Kind, Provider};
use harness::{DEADLINE, Outgoing, Record, eventually, records, seen};
use record::{TimeRecord, names};

const PARTITIONS: i32 = 3;
const START: i64 = 1_800_000_000_000_000;
const SECOND: i64 = 1_000_000;
const SMALL: &str = "[enrich]\nbatch_records = 300\n";

/// Returns a raw event that was received at a time, in microseconds since the start.
fn raw(stage: &Stage, kind: Kind, partition: i32, at: i64) -> Outgoing {
    let topics = &stage.cluster.topics;
    let value = format!(r#"{{"event":"{kind}","id":"{partition}-{at}","timestamp":1800000000}}"#);
    let mut record = records::raw(topics, Provider::Generic, "s", kind, "ada@example.com", value);
    for (name, value) in &mut record.headers {
        if name == names::RECEIVED_AT {
            *value = (START + at).to_string().into_bytes();
        }
    }
    record.on(partition)
}

/// Writes the time of an ingress, in seconds since the start, to every raw partition.
fn write_time(stage: &Stage, id: &str, seconds: i64) {
    let record = TimeRecord { time: START + seconds * SECOND, id: Some(id), is_last: false };
    let written = |topic: &str| {
        let outgoing = Outgoing::new(topic, "", "");
        record.headers().fold(outgoing, |outgoing, (name, value)| outgoing.header(name, value))
    };
    let records: Vec<_> = stage
        .cluster
        .topics
        .all_raw()
        .flat_map(|topic| (0..PARTITIONS).map(move |number| written(topic).on(number)))
        .collect();
    stage.cluster.produce(&records);
}

fn await_read(stage: &Stage) {
    for topic in stage.cluster.topics.all_raw() {
        stage.cluster.await_all_read(&stage.cluster.topics.group("enrich"), topic);
    }
}

/// Returns the settled records of `mail.enriched` by partition.
fn enriched(stage: &Stage) -> BTreeMap<i32, Vec<Record>> {
    let mut partitions = BTreeMap::<i32, Vec<Record>>::new();
    for record in stage.cluster.read_settled(&stage.cluster.topics.enriched) {
        partitions.entry(record.partition).or_default().push(record);
    }
    partitions
}

fn time(record: &Record) -> Option<i64> {
    let time = TimeRecord::read(&|name| record.header(name))?;
    assert_eq!((time.id, record.value()), (None, &b""[..]));
    Some((time.time - START) / SECOND)
}

fn received_at(record: &Record) -> i64 {
    std::str::from_utf8(record.header(names::RECEIVED_AT).unwrap()).unwrap().parse().unwrap()
}

#[test]
fn after_a_stall_and_a_kill_the_events_have_the_order_in_which_they_were_received() {
    const EACH: i64 = 4_000;
    let mut stage = Stage::start(SMALL);
    stage.enrich.stop();
    // What waits is in several topics, most of it in one. The few bounces come first.
    let kind = |at: i64| match at {
        _ if at % 100 == 7 => Kind::Complained,
        _ if at % 20 == 3 => Kind::Bounced,
        _ if at % 5 == 1 => Kind::Opened,
        _ => Kind::Delivered,
    };
    for wanted in [Kind::Complained, Kind::Bounced, Kind::Opened, Kind::Delivered] {
        let events = (0..EACH).filter(|at| kind(*at) == wanted);
        let records: Vec<_> = events
            .flat_map(|at| (0..PARTITIONS).map(move |number| (number, at)))
            .map(|(number, at)| raw(&stage, wanted, number, at))
            .collect();
        stage.cluster.produce(&records);
    }
    stage.enrich.respawn();
    for part in [3_000, 7_000] {
        let read = || stage.cluster.read(&stage.cluster.topics.enriched).len();
        eventually(&format!("{part} events"), DEADLINE, || seen(read(), |count| *count >= part));
        stage.enrich.kill();
        stage.enrich.respawn();
    }
    await_read(&stage);
    let partitions = enriched(&stage);
    for number in 0..PARTITIONS {
        let times: Vec<_> = partitions[&number].iter().map(received_at).collect();
        let expected: Vec<_> = (START..START + EACH).collect();
        assert!(times == expected, "partition {number}: {} of {EACH} events", times.len());
    }
}

#[test]
fn the_merged_time_of_the_ingresses_follows_the_events_and_survives_kills() {
    let mut stage = Stage::start(SMALL);
    let mut events = 0;
    for seconds in 0..40 {
        let kind = Kind::ALL[usize::try_from(seconds).unwrap() % 4];
        let records: Vec<_> =
            (0..PARTITIONS).map(|number| raw(&stage, kind, number, seconds * SECOND - 1)).collect();
        stage.cluster.produce(&records);
        events += records.len();
        write_time(&stage, "a", seconds);
        // The other ingress holds a request for a while.
        write_time(&stage, "b", if (10..20).contains(&seconds) { 10 } else { seconds });
        if seconds == 15 || seconds == 30 {
            await_read(&stage);
            stage.enrich.kill();
            stage.enrich.restart();
        }
    }
    await_read(&stage);
    let partitions = enriched(&stage);
    for number in 0..PARTITIONS {
        let records = &partitions[&number];
        let times: Vec<_> = records.iter().filter_map(time).collect();
        assert!(times.is_sorted_by(|one, next| one < next), "{times:?}");
        assert_eq!(times.last(), Some(&39));
        assert!(!times.iter().any(|time| (11..20).contains(time)), "{times:?}");
        // Between 10 and 20 the time stands still, then it continues where the ingresses are.
        assert!(times.contains(&10) && times.contains(&20), "{times:?}");
        let mut promised = i64::MIN;
        for record in records {
            match time(record) {
                Some(time) => promised = time,
                None => assert!(
                    received_at(record) >= START.saturating_add(promised.saturating_mul(SECOND))
                ),
            }
        }
    }
    let found = partitions.values().flatten().filter(|record| time(record).is_none());
    assert_eq!(found.count(), events);
    assert!(stage.cluster.read_settled(&stage.cluster.topics.dead_letters).is_empty());
    // No ledger counts a time record.
    let read: u64 = stage
        .cluster
        .topics
        .all_raw()
        .flat_map(|topic| stage.cluster.committed(&stage.cluster.topics.group("enrich"), topic))
        .flatten()
        .map(|committed| {
            let (_, ledger) = committed.metadata.rsplit_once('@').unwrap();
            ledger.split(',').next().unwrap().parse::<u64>().unwrap()
        })
        .sum();
    assert_eq!(read, events as u64);
}

#[test]
fn a_clock_that_is_ahead_is_ignored_counted_and_logged() {
    let stage = Stage::start(SMALL);
    for seconds in 0..5 {
        write_time(&stage, "right-1", seconds);
        write_time(&stage, "right-2", seconds);
        write_time(&stage, "wrong", seconds + 3600);
    }
    await_read(&stage);
    stage.enrich.await_metric("mailpulse_enrich_clocks_ignored_total", &[], |count| count > 50.0);
    stage.enrich.await_log("the clock of an ingress is more than ten minutes ahead");
    let times: BTreeSet<_> = enriched(&stage).values().flatten().filter_map(time).collect();
    assert!(times.contains(&4) && times.iter().all(|time| *time < 3600), "{times:?}");
}
