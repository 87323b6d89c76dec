//! Reads `mail.panes` of a run again, in one monitor that nothing disturbs and with other batches. It must
//! publish the same alerts, byte for byte.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::ensure;
use kafka::{
    Connection, OwnedRecord, Publisher, PublisherSettings, TopicSettings, inspect, topics,
};
use record::Topics;
use tokio::runtime::Runtime;

use super::balance::{Balance, Errors};
use super::topics::Log;
use crate::pipeline::Pipeline;
use crate::supervisor::Member;

/// How long the copy may take to be read.
const TIMEOUT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(250);
/// The monitor that reads the copy. No other member has this number.
const MEMBER: Member = Member { service: "monitor", number: 100 };
/// Fewer records than monitor reads at once by default.
const BATCH_RECORDS: u32 = 97;
/// The retention of the other topics, which stay empty.
const HORIZON_HOURS: u32 = 9 * 24;

/// The values of the alerts of each scope, in their order.
type Alerts = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

/// Copies `mail.panes` for another monitor and compares its alerts with those of the run.
pub(super) fn prove(
    balance: &mut Balance,
    pipeline: &Pipeline,
    runtime: &Runtime,
    log: &Log,
    (recipient_partitions, scope_partitions): (i32, i32),
) -> anyhow::Result<()> {
    const PART: &str = "replay of mail.panes";
    let replication = pipeline.replication();
    let settings =
        TopicSettings { recipient_partitions, scope_partitions, replication, create: true };
    let prefix = format!("{}replay.", log.topics.prefix);
    let copy = Log { connection: log.connection.clone(), topics: Topics::new(&prefix) };
    settings.prepare(&copy.connection, &copy.topics, HORIZON_HOURS)?;
    let panes = log.read(&log.topics.panes)?;
    runtime.block_on(publish(&copy, &panes))?;
    pipeline.grant(&copy.topics)?;
    let environment = [
        ("MAILPULSE__KAFKA__PREFIX", prefix),
        ("MAILPULSE__MONITOR__BATCH_RECORDS", BATCH_RECORDS.to_string()),
    ];
    pipeline.start_also(MEMBER, &environment)?;
    let group = copy.topics.group("monitor-rate");
    let read = await_read(&copy.connection, &group, &copy.topics.panes, scope_partitions);
    let found = by_scope(copy.alerts()?);
    pipeline.supervisor.stop(MEMBER)?;
    read?;
    let expected = by_scope(log.alerts()?);
    let all: usize = expected.values().map(Vec::len).sum();
    let (same, other) = compare(&found, &expected);
    balance.line(PART, "alerts that are the same bytes", same, all as u64);
    balance.none(PART, "scopes with other alerts", &other);
    Ok(())
}

async fn publish(copy: &Log, panes: &[OwnedRecord]) -> anyhow::Result<()> {
    let settings = PublisherSettings {
        linger: Duration::from_millis(5),
        queue_bytes: 256 << 20,
        ack_timeout: Some(Duration::from_secs(60)),
    };
    let publisher = Publisher::open(&copy.connection, "replay", settings)?;
    let batch = publisher.batch();
    for record in panes {
        let value = record.value.as_deref().unwrap_or_default();
        batch.send_value_to_partition(&copy.topics.panes, record.partition, &record.key, value)?;
    }
    Ok(batch.acknowledged().await?)
}

/// Waits until a group has read a topic that was not written in transactions.
fn await_read(
    connection: &Connection,
    group: &str,
    topic: &str,
    partitions: i32,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    let ends = topics::watermarks(connection, topic, partitions)?;
    // A group commits nothing for a partition without records, which may begin at any offset.
    let ends: Vec<i64> =
        ends.into_iter().map(|(first, end)| if end > first { end } else { 0 }).collect();
    while inspect::first_behind(connection, group, topic, &ends)?.is_some() {
        ensure!(Instant::now() < deadline, "monitor has not read the copy of mail.panes in time");
        std::thread::sleep(POLL);
    }
    Ok(())
}

fn by_scope(records: Vec<OwnedRecord>) -> Alerts {
    let mut alerts = Alerts::new();
    for OwnedRecord { key, value, .. } in records {
        alerts.entry(key).or_default().push(value.unwrap_or_default());
    }
    alerts
}

/// Returns how many alerts are the same, and the scopes of which some are not.
fn compare(found: &Alerts, expected: &Alerts) -> (u64, Errors) {
    let (mut same, mut other) = (0, Errors::default());
    let scopes: std::collections::BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let none = Vec::new();
    for scope in scopes {
        let (found, expected) =
            (found.get(scope).unwrap_or(&none), expected.get(scope).unwrap_or(&none));
        let equal = found.iter().zip(expected).take_while(|(found, expected)| found == expected);
        let equal = equal.count();
        same += equal as u64;
        if equal < found.len() || equal < expected.len() {
            other.add(|| {
                let text = |alerts: &[Vec<u8>]| {
                    alerts.get(equal).map(|it| String::from_utf8_lossy(it).into_owned())
                };
                format!(
                    "{}: alert {equal} is {:?}, again {:?}",
                    String::from_utf8_lossy(scope),
                    text(expected),
                    text(found)
                )
            });
        }
    }
    (same, other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_detected() {
        let alerts = |values: &[(&str, &[&str])]| -> Alerts {
            let bytes = |text: &&str| text.as_bytes().to_vec();
            let of_scope = |(scope, values): &(&str, &[&str])| {
                (scope.as_bytes().to_vec(), values.iter().map(bytes).collect())
            };
            values.iter().map(of_scope).collect()
        };
        let expected = alerts(&[("a", &["1", "2"]), ("b", &["1"])]);
        let differs = |found: &[(&str, &[&str])]| {
            let (same, other) = compare(&alerts(found), &expected);
            (same, other.count)
        };
        assert_eq!(differs(&[("a", &["1", "2"]), ("b", &["1"])]), (3, 0));
        assert_eq!(differs(&[("a", &["1", "3"]), ("b", &["1"])]), (2, 1), "another value");
        assert_eq!(differs(&[("a", &["1", "2"])]), (2, 1), "a scope is missing");
        assert_eq!(differs(&[("a", &["1", "2", "3"]), ("b", &["1"])]), (3, 1), "one too many");
        assert_eq!(differs(&[("a", &["2"]), ("b", &["1"])]), (1, 1), "one too few");
    }
}
