//! Partitions of the same number become one sequence in the order of time, whatever happens to the
//! stage.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use common::{cluster, connection};
use harness::{Cluster, DEADLINE, eventually, seen};
use kafka::stage::{LoopSettings, run_until};
use kafka::{
    AfterRollback, Alignment, BatchSettings, Connection, Inputs, Outcome, Output, Record, Restore,
    Stage, TopicPartition,
};
use rdkafka::error::KafkaError;

const PARTITIONS: i32 = 3;
const TOPICS: [(&str, i32); 5] = [
    ("many", PARTITIONS),
    ("few", PARTITIONS),
    ("rare", PARTITIONS),
    ("out", PARTITIONS),
    ("dead", 1),
];
/// Long enough that no test passes because of it.
const WAIT: Duration = Duration::from_secs(600);

/// Copies three topics to `out`, into the same partitions.
struct Merge {
    cluster: Cluster,
    owned: Owned,
    /// Numbers of calls of `process` that fail.
    fails: BTreeSet<usize>,
    calls: usize,
    /// The number of calls of `process` after which the state fails, so that the loop ends.
    ends_at: usize,
}

type Owned = Arc<Mutex<BTreeSet<TopicPartition>>>;

fn time(record: &Record<'_>) -> Option<i64> {
    std::str::from_utf8(record.value()?).ok()?.parse().ok()
}

impl Stage for Merge {
    const STAGE: record::Stage = record::Stage::Enrich;

    fn inputs(&self) -> Inputs {
        let topics: Vec<_> = ["many", "few", "rare"].map(|name| self.cluster.name(name)).into();
        Inputs { partitions: topics.len() * PARTITIONS as usize, topics }
    }

    fn alignment(&self) -> Option<Alignment> {
        Some(Alignment { time, wait: WAIT, lead: None })
    }

    fn restore(&mut self, name: &TopicPartition, _: &Restore<'_>) -> Result<(), kafka::Error> {
        self.owned.lock().unwrap().insert(name.clone());
        Ok(())
    }

    fn release(&mut self, name: &TopicPartition) {
        self.owned.lock().unwrap().remove(name);
    }

    fn process(
        &mut self,
        record: &Record<'_>,
        out: &mut Output<'_>,
    ) -> Result<Outcome, kafka::Error> {
        self.calls += 1;
        if self.calls == self.ends_at {
            return Err(kafka::Error::state("broken"));
        }
        if self.fails.remove(&self.calls) {
            return Err(KafkaError::Canceled.into());
        }
        out.forward(record, &self.cluster.name("out"), record.partition(), &[])?;
        Ok(Outcome::Passed)
    }

    fn rolled_back(&mut self) -> AfterRollback {
        AfterRollback::Keep
    }
}

/// A loop on a new thread. It is stopped when dropped.
struct Running {
    owned: Owned,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), kafka::Error>>>,
}

impl Running {
    fn start(cluster: &Cluster, instance: &str, fails: &[usize], ends_at: usize) -> Self {
        let owned = Owned::default();
        let (fails, calls) = (fails.iter().copied().collect(), 0);
        let mut stage =
            Merge { cluster: cluster.clone(), owned: Arc::clone(&owned), fails, calls, ends_at };
        let settings = LoopSettings {
            group: cluster.name("merge"),
            inputs: stage.inputs(),
            dead_letter_topic: cluster.name("dead"),
            positions: None,
            batch: BatchSettings {
                records: 700,
                bytes: 1 << 20,
                wait: Duration::from_millis(20),
                refusal_limit: 0,
            },
        };
        let connection = Connection { instance: instance.to_owned(), ..connection(cluster) };
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let stop = || stopped.load(Ordering::Relaxed);
            run_until(&connection, &settings, &mut stage, &stop, &|_| {})
        });
        Self { owned, stop, thread: Some(thread) }
    }

    fn result(&mut self) -> Result<(), kafka::Error> {
        self.thread.take().unwrap().join().unwrap()
    }

    /// Returns the numbers of partitions that the member owns in all topics, if it owns no others.
    fn whole_numbers(&self) -> Option<BTreeSet<i32>> {
        let owned = self.owned.lock().unwrap();
        let numbers: BTreeSet<i32> = owned.iter().map(|name| name.partition).collect();
        (owned.len() == 3 * numbers.len()).then_some(numbers)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Produces the times `range` to each partition number: every 20th to `few`, every 500th to `rare`, the
/// others to `many`. The topic with the fewest records is produced first.
fn put(cluster: &Cluster, range: std::ops::Range<usize>) {
    let topic = |time: usize| match time {
        _ if time.is_multiple_of(500) => "rare",
        _ if time.is_multiple_of(20) => "few",
        _ => "many",
    };
    let records = |name| {
        let times = range.clone().filter(move |time| topic(*time) == name);
        times.flat_map(move |time| {
            let record = harness::Outgoing::new(&cluster.name(name), "k", time.to_string());
            (0..PARTITIONS).map(move |number| record.clone().on(number))
        })
    };
    let all: Vec<_> = ["rare", "few", "many"].into_iter().flat_map(records).collect();
    cluster.produce(&all);
}

fn await_output(cluster: &Cluster, count: usize) {
    let count = count * PARTITIONS as usize;
    eventually(&format!("{count} committed records in out"), DEADLINE, || {
        seen(cluster.read(&cluster.name("out")).len(), |found| *found >= count)
    });
}

fn output(cluster: &Cluster) -> BTreeMap<i32, Vec<usize>> {
    let mut times = BTreeMap::<i32, Vec<usize>>::new();
    for record in cluster.read_settled(&cluster.name("out")) {
        times.entry(record.partition).or_default().push(record.text().parse().unwrap());
    }
    times
}

fn in_order(count: usize) -> BTreeMap<i32, Vec<usize>> {
    (0..PARTITIONS).map(|number| (number, (0..count).collect())).collect()
}

#[test]
fn a_backlog_becomes_one_sequence_in_the_order_of_time() {
    let cluster = cluster(&TOPICS);
    put(&cluster, 0..20_000);
    let _running = Running::start(&cluster, "one", &[], usize::MAX);
    await_output(&cluster, 20_000);
    assert!(output(&cluster) == in_order(20_000), "a record is out of order, lost or doubled");
    // No partition waits for one without further records.
    put(&cluster, 20_001..20_002);
    await_output(&cluster, 20_001);
}

#[test]
fn failed_batches_and_a_new_process_lose_and_double_nothing() {
    let cluster = cluster(&TOPICS);
    put(&cluster, 0..3_000);
    let mut first = Running::start(&cluster, "one", &[350, 1_500, 1_501], 5_000);
    assert!(matches!(first.result(), Err(kafka::Error::State(_))));
    assert!(!output(&cluster).is_empty(), "the first process committed nothing");
    let _second = Running::start(&cluster, "one", &[100], usize::MAX);
    await_output(&cluster, 3_000);
    assert!(output(&cluster) == in_order(3_000), "a record is out of order, lost or doubled");
}

#[test]
fn a_member_has_all_partitions_of_a_number_and_a_move_loses_and_doubles_nothing() {
    let cluster = cluster(&TOPICS);
    put(&cluster, 0..5_000);
    let first = Running::start(&cluster, "one", &[], usize::MAX);
    await_output(&cluster, 1);
    let second = Running::start(&cluster, "two", &[], usize::MAX);
    eventually("both members to own whole numbers", DEADLINE, || {
        let (first, second) = (first.whole_numbers(), second.whole_numbers());
        let is_divided = matches!((&first, &second), (Some(first), Some(second))
            if first.len() + second.len() == 3 && !first.is_empty() && !second.is_empty());
        if is_divided { Ok(()) } else { Err(format!("{first:?} {second:?}")) }
    });
    put(&cluster, 5_000..8_000);
    await_output(&cluster, 8_000);
    drop(first);
    put(&cluster, 8_000..9_000);
    await_output(&cluster, 9_000);
    let sorted = |(number, mut times): (i32, Vec<usize>)| {
        times.sort_unstable();
        (number, times)
    };
    let output: BTreeMap<_, _> = output(&cluster).into_iter().map(sorted).collect();
    assert!(output == in_order(9_000), "a record is lost or doubled");
}
