//! What the same work costs without a service: client libraries alone, in this process.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::ensure;
use record::TopicSpec;
use kafka::step::{Step, StepSettings};
use kafka::{Output, Record, Restore, StreamError, TopicPartition, admin};
use testkit::load::event_batch;

use super::client::unix_millis;
use super::report::Bare;
use super::site::{Line, RECIPIENT_PARTITIONS, Site};
use super::usage::Watch;

/// Records of a bare run: long enough for steady figures, short enough to fit into the same minute.
const RECORDS: u64 = 500_000;
/// Different records; librdkafka's batches hold fewer, so compression finds no repeats of these.
const DIFFERENT: u64 = 8192;
const TOPICS_WITHIN: Duration = Duration::from_secs(30);
const STEP_WITHIN: Duration = Duration::from_secs(120);

/// Produces events as the ingress does, with one compression: records of the same size under the
/// same keys, without headers.
pub(crate) fn produce(site: &Site, compression: &str) -> anyhow::Result<Bare> {
    let topic = create_topic(site, &format!("bare-{compression}-{}", unix_millis()))?;
    let records: Vec<_> = (0..DIFFERENT)
        .map(|n| {
            let key = format!("reader-{:09}@example.org", n / 3);
            (key, event_batch("bare", n, 1, unix_millis()))
        })
        .collect();
    let records = records.iter().cycle().take(RECORDS as usize);
    let records = records.map(|(key, value)| (key.as_bytes(), &value[..]));
    let watch = Watch::own()?;
    kafka::bare::produce(&site.connection(compression), &topic, records)?;
    Ok(Bare::new(format!("produce, {compression}"), RECORDS, watch.spent()?))
}

/// Passes what is in a topic on to another in transactions, touching nothing: what the loop under
/// `enrich` and `dedupe` costs.
pub(crate) fn pass_through(line: &Line<'_>, from: &str, records: u64) -> anyhow::Result<Bare> {
    let to = create_topic(line.site, &format!("{}bare-{}", line.topics.prefix, unix_millis()))?;
    run_step(line, from, records, Some(to), "consume and produce, exactly once")
}

/// Reads what is in a topic and commits: what the loop under `monitor` costs.
pub(crate) fn consume(line: &Line<'_>, from: &str, records: u64) -> anyhow::Result<Bare> {
    run_step(line, from, records, None, "consume")
}

fn run_step(
    line: &Line<'_>,
    from: &str,
    records: u64,
    to: Option<String>,
    what: &str,
) -> anyhow::Result<Bare> {
    let settings = StepSettings {
        job: "bare",
        group: line.topics.group(&format!("bare-{}", unix_millis())),
        inputs: vec![from.to_owned()],
        input_partitions: RECIPIENT_PARTITIONS as usize,
        dead_letters: line.topics.dead_letters.clone(),
        batch_records: 10_000,
        batch_wait: Duration::from_millis(50),
        refusals_to_hold: 0,
    };
    let (goal, deadline) = (records.min(RECORDS), Instant::now() + STEP_WITHIN);
    let (committed, began) = (Cell::new(0), Cell::new(None));
    let mut pass = Pass { to, open: 0, committed: &committed, began: &began };
    let stop = || committed.get() >= goal || Instant::now() > deadline;
    let watch = Watch::own()?;
    kafka::step::run(&line.site.connection("lz4"), &settings, &mut pass, &stop, &|_| {})?;
    let mut spent = watch.spent()?;
    // Joining the group takes as long as the broker likes.
    spent.seconds = began.get().map_or(0.0, |began: Instant| began.elapsed().as_secs_f64());
    ensure!(committed.get() >= goal, "{what}: {} of {goal} records", committed.get());
    Ok(Bare::new(what, committed.get(), spent))
}

/// A step that does nothing of its own.
struct Pass<'a> {
    to: Option<String>,
    /// Records of the open transaction.
    open: u64,
    committed: &'a Cell<u64>,
    /// When the first record came.
    began: &'a Cell<Option<Instant>>,
}

impl Step for Pass<'_> {
    fn assigned(&mut self, _: &TopicPartition, _: &Restore<'_>) -> Result<(), StreamError> {
        Ok(())
    }

    fn revoked(&mut self, _: &TopicPartition) {}

    fn record(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), StreamError> {
        self.open += 1;
        if self.began.get().is_none() {
            self.began.set(Some(Instant::now()));
        }
        match &self.to {
            Some(topic) => out.forward(record, topic, record.partition(), &[]),
            None => Ok(()),
        }
    }

    fn committed(&mut self) -> Result<(), StreamError> {
        self.committed.set(self.committed.get() + std::mem::take(&mut self.open));
        Ok(())
    }

    fn rolled_back(&mut self) {
        self.open = 0;
    }
}

fn create_topic(site: &Site, name: &str) -> anyhow::Result<String> {
    let spec = TopicSpec {
        name: name.to_owned(),
        partitions: RECIPIENT_PARTITIONS,
        replication: 1,
        settings: vec![("max.message.bytes", (20 << 20).to_string())],
    };
    let connection = site.connection("none");
    site.block_on(admin::create_topics(&connection, &[spec], TOPICS_WITHIN))?;
    Ok(name.to_owned())
}
