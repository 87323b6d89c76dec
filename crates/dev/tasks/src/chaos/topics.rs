//! Compares the records of topics with each other and with the tables. The pipeline must be at rest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka::{Connection, OwnedRecord, inspect};
use record::{Topics, content_types, names, time_record};

use super::balance::{Balance, Errors};
use crate::clickhouse::Database;
use crate::pipeline::Pipeline;

/// How long reading a topic may take.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The keys of the records of `mail.alerts` that are no alerts.
const NO_ALERT: [&[u8]; 2] = [b"clock", b"action"];

/// Partition and offset.
type Place = (i32, i64);

/// The topics of a run, and the connection to them.
pub(super) struct Log {
    pub(super) connection: Connection,
    pub(super) topics: Topics,
}

impl Log {
    pub(super) fn new(pipeline: &Pipeline) -> Self {
        let topics = Topics::new(pipeline.kafka_prefix());
        Self { connection: pipeline.connection("chaos"), topics }
    }

    /// Returns the committed records of a topic by partition and offset.
    pub(super) fn read(&self, topic: &str) -> anyhow::Result<Vec<OwnedRecord>> {
        Ok(inspect::committed_records(&self.connection, topic, READ_TIMEOUT)?)
    }

    /// Returns the alerts in `mail.alerts` by partition and offset, without the times of shards and the
    /// actions of people.
    pub(super) fn alerts(&self) -> anyhow::Result<Vec<OwnedRecord>> {
        let mut records = self.read(&self.topics.alerts)?;
        records.retain(|record| !NO_ALERT.contains(&record.key.as_slice()));
        Ok(records)
    }
}

/// Every alert and every change of an incident must be one row.
pub(super) async fn prove_rows(
    balance: &mut Balance,
    database: &Database,
    log: &Log,
) -> anyhow::Result<()> {
    const PART: &str = "alerts and incidents, once";
    let incidents = log.read(&log.topics.incidents)?;
    for (topic, table, records) in
        [("mail.alerts", "alerts", log.alerts()?), ("mail.incidents", "incidents", incidents)]
    {
        let published: BTreeSet<Place> =
            records.iter().map(|record| (record.partition, record.offset.0)).collect();
        let rows: Vec<(i32, i64)> = database
            .text(&format!("SELECT kafka_partition, kafka_offset FROM {table} FORMAT TSV"))
            .await?
            .lines()
            .filter_map(|line| {
                let (partition, offset) = line.split_once('\t')?;
                Some((partition.parse().ok()?, offset.parse().ok()?))
            })
            .collect();
        let compared = Rows::of(&published, &rows);
        balance.line(
            PART,
            &format!("records of {topic} with one row"),
            compared.once,
            published.len() as u64,
        );
        balance.none(PART, &format!("records of {topic} without a row"), &compared.lost);
        balance.none(PART, &format!("records of {topic} with several rows"), &compared.doubled);
        balance.none(PART, &format!("rows of {table} without a record"), &compared.unknown);
    }
    Ok(())
}

/// Every record of a public topic says what it is. Time records, clocks and actions of people are private.
pub(super) fn prove_content_types(balance: &mut Balance, log: &Log) -> anyhow::Result<()> {
    let topics = &log.topics;
    let public = [
        (&topics.enriched, content_types::EVENT),
        (&topics.events, content_types::EVENT),
        (&topics.rates, content_types::RATE),
        (&topics.alerts, content_types::ALERT),
        (&topics.incidents, content_types::INCIDENT),
        (&topics.actions, content_types::ACTION),
        (&topics.suppressions, content_types::SUPPRESSION),
    ];
    let mut wrong = Errors::default();
    let mut named = 0;
    for (topic, content_type) in public {
        let mut records = log.read(topic)?;
        records.retain(|record| !is_private(record));
        anyhow::ensure!(!records.is_empty(), "{topic} has no records");
        for record in records {
            if record.header(names::CONTENT_TYPE) == Some(content_type.as_bytes()) {
                named += 1;
            } else {
                let (partition, offset) = (record.partition, record.offset.0);
                wrong.add(|| format!("{topic} partition {partition} offset {offset}"));
            }
        }
    }
    let part = "content types";
    balance.none(part, &format!("records without theirs, of {}", named + wrong.count), &wrong);
    Ok(())
}

fn is_private(record: &OwnedRecord) -> bool {
    NO_ALERT.contains(&record.key.as_slice()) || time_record(&|name| record.header(name)).is_some()
}

#[derive(Debug, Default)]
struct Rows {
    once: u64,
    lost: Errors,
    doubled: Errors,
    unknown: Errors,
}

impl Rows {
    fn of(published: &BTreeSet<Place>, rows: &[Place]) -> Self {
        let mut counts: BTreeMap<Place, u64> = BTreeMap::new();
        rows.iter().for_each(|place| *counts.entry(*place).or_default() += 1);
        let mut compared = Self::default();
        for place in published {
            match counts.remove(place) {
                None => compared.lost.add(|| format!("{place:?}")),
                Some(1) => compared.once += 1,
                Some(_) => compared.doubled.add(|| format!("{place:?}")),
            }
        }
        counts.keys().for_each(|place| compared.unknown.add(|| format!("{place:?}")));
        compared
    }
}

/// What the time records of a topic show.
#[derive(Debug, Default, PartialEq)]
struct Times {
    /// The times of each partition, in its order.
    by_partition: BTreeMap<i32, Vec<i64>>,
    /// The events of each partition that were received before a time record in front of them.
    behind: Errors,
}

impl Times {
    /// `received_at` returns the time of receipt of an event.
    fn of(records: &[OwnedRecord], received_at: impl Fn(&OwnedRecord) -> Option<i64>) -> Self {
        let mut times = Self::default();
        for record in records {
            let partition = times.by_partition.entry(record.partition).or_default();
            match (time_record(&|name| record.header(name)), received_at(record)) {
                (Some(time), _) => partition.push(time),
                (None, Some(received)) if partition.last().is_some_and(|time| received < *time) => {
                    let late = partition.last().copied().unwrap_or_default() - received;
                    times.behind.add(|| {
                        let (partition, offset) = (record.partition, record.offset.0);
                        format!("partition {partition} offset {offset}: {late} µs")
                    });
                }
                (None, _) => {}
            }
        }
        times
    }

    fn count(&self) -> u64 {
        self.by_partition.values().map(|times| times.len() as u64).sum()
    }

    fn backwards(&self) -> u64 {
        let pairs = self.by_partition.values().flat_map(|times| times.windows(2));
        pairs.filter(|pair| pair[0] >= pair[1]).count() as u64
    }
}

/// Time records are no events, and nothing else counts them. Everything that was received before the time of one
/// must be in front of it, and `dedupe` must pass each on.
pub(super) fn prove_time(balance: &mut Balance, log: &Log) -> anyhow::Result<u64> {
    const PART: &str = "time records";
    let received_at = |record: &OwnedRecord| {
        std::str::from_utf8(record.header(names::RECEIVED_AT)?).ok()?.parse().ok()
    };
    let enriched = Times::of(&log.read(&log.topics.enriched)?, received_at);
    let passed = Times::of(&log.read(&log.topics.events)?, received_at);
    balance.line(PART, "passed on by dedupe", passed.count(), enriched.count());
    let is_same = passed.by_partition == enriched.by_partition;
    balance.line(PART, "partitions with other times", u64::from(!is_same), 0);
    balance.line(PART, "times that do not ascend", enriched.backwards() + passed.backwards(), 0);
    balance.none(PART, "events behind a time after their receipt", &enriched.behind);
    Ok(enriched.count())
}

#[cfg(test)]
mod tests {
    use kafka::Offset;

    use super::*;

    #[test]
    fn a_record_without_a_row_and_a_row_without_a_record_are_detected() {
        let published = [(0, 1), (0, 3), (1, 1)].into();
        let right = Rows::of(&published, &[(0, 3), (1, 1), (0, 1)]);
        assert_eq!(
            (right.once, right.lost.count + right.doubled.count + right.unknown.count),
            (3, 0)
        );
        let wrong = Rows::of(&published, &[(0, 3), (0, 3), (0, 2), (1, 1)]);
        assert_eq!((wrong.once, wrong.lost.count), (1, 1));
        assert_eq!((wrong.doubled.count, wrong.unknown.count), (1, 1));
    }

    fn record(partition: i32, header: &str, time: i64) -> OwnedRecord {
        OwnedRecord {
            topic: "t".to_owned(),
            partition,
            offset: Offset(0),
            key: Vec::new(),
            value: None,
            headers: vec![(header.to_owned(), time.to_string().into_bytes())],
        }
    }

    #[test]
    fn an_event_behind_a_later_time_is_detected() {
        let received_at = |record: &OwnedRecord| {
            std::str::from_utf8(record.header(names::RECEIVED_AT)?).ok()?.parse().ok()
        };
        let times = |records: &[OwnedRecord]| Times::of(records, received_at);
        let [before, time, after] = [
            record(0, names::RECEIVED_AT, 5),
            record(0, names::TIME, 7),
            record(0, names::RECEIVED_AT, 7),
        ];
        let right = times(&[before.clone(), time.clone(), after.clone()]);
        assert_eq!((right.count(), right.behind.count, right.backwards()), (1, 0, 0));
        assert_eq!(times(&[time.clone(), before.clone(), after]).behind.count, 1);
        let other_partition = OwnedRecord { partition: 1, ..before };
        assert_eq!(times(&[time.clone(), other_partition]).behind.count, 0);
        assert_eq!(times(&[time.clone(), time]).backwards(), 1);
    }
}
