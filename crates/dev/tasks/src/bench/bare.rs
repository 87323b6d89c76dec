//! Bare runs: the least that the same work can cost, with client libraries alone in this process.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::ensure;
use kafka::stage::{LoopSettings, run_until};
use kafka::{AfterRollback, BatchSettings, Error, Inputs, Outcome, Output, Record, Stage, topics};
use record::TopicSpec;
use testkit::load::event_batch;

use super::client::unix_millis;
use super::cpu::CpuMeter;
use super::report::Bare;
use super::servers::{Namespace, RECIPIENT_PARTITIONS, Servers};

/// Records of a bare run: enough for steady figures within a minute.
const RECORDS: u64 = 500_000;
/// Different records. A batch of librdkafka has fewer, so compression finds no repetition.
const DIFFERENT: u64 = 8192;
const TOPICS_TIMEOUT: Duration = Duration::from_secs(30);
const STAGE_TIMEOUT: Duration = Duration::from_secs(120);

/// Produces records like the ingress: of the same size, with the same keys, but without headers.
pub(crate) fn produce(servers: &Servers, compression: &str) -> anyhow::Result<Bare> {
    let prefix = &servers.name.kafka_prefix;
    let topic = create_topic(servers, &format!("{prefix}bare-{compression}-{}", unix_millis()))?;
    let records: Vec<_> = (0..DIFFERENT)
        .map(|n| {
            let key = format!("reader-{:09}@example.org", n / 3);
            (key, event_batch("bare", n, 1, unix_millis()))
        })
        .collect();
    let records = records.iter().cycle().take(RECORDS as usize);
    let records = records.map(|(key, value)| (key.as_bytes(), &value[..]));
    let meter = CpuMeter::own()?;
    kafka::baseline::produce(&servers.connection(compression), &topic, records)?;
    Ok(Bare::new(format!("produce, {compression}"), RECORDS, meter.usage()?))
}

/// Forwards the records of a topic to another in transactions: the cost of the loop under `enrich` and
/// `dedupe`.
pub(crate) fn pass_through(
    namespace: &Namespace<'_>,
    from: &str,
    records: u64,
) -> anyhow::Result<Bare> {
    let name = format!("{}bare-{}", namespace.topics.prefix, unix_millis());
    let to = create_topic(namespace.servers, &name)?;
    run_stage(namespace, from, records, Some(to), "consume and produce, exactly once")
}

/// Reads the records of a topic and commits: the cost of the loop under `monitor`.
pub(crate) fn consume(namespace: &Namespace<'_>, from: &str, records: u64) -> anyhow::Result<Bare> {
    run_stage(namespace, from, records, None, "consume")
}

fn run_stage(
    namespace: &Namespace<'_>,
    from: &str,
    records: u64,
    to: Option<String>,
    what: &str,
) -> anyhow::Result<Bare> {
    let inputs =
        Inputs { topics: vec![from.to_owned()], partitions: RECIPIENT_PARTITIONS as usize };
    let settings = LoopSettings {
        group: namespace.topics.group(&format!("bare-{}", unix_millis())),
        inputs: inputs.clone(),
        dead_letter_topic: namespace.topics.dead_letters.clone(),
        positions: None,
        batch: BatchSettings {
            records: 10_000,
            bytes: 32 << 20,
            wait: Duration::from_millis(50),
            refusal_limit: 0,
        },
    };
    let (goal, deadline) = (records.min(RECORDS), Instant::now() + STAGE_TIMEOUT);
    let (committed, began) = (Cell::new(0), Cell::new(None));
    let mut stage = PassThrough { inputs, to, open: 0, committed: &committed, began: &began };
    let stop = || committed.get() >= goal || Instant::now() > deadline;
    let meter = CpuMeter::own()?;
    run_until(&namespace.servers.connection("lz4"), &settings, &mut stage, &stop, &|_| {})?;
    let mut usage = meter.usage()?;
    // Without the time to join the group.
    usage.seconds = began.get().map_or(0.0, |began: Instant| began.elapsed().as_secs_f64());
    ensure!(committed.get() >= goal, "{what}: {} of {goal} records", committed.get());
    Ok(Bare::new(what, committed.get(), usage))
}

/// A stage that does no work of its own.
struct PassThrough<'a> {
    inputs: Inputs,
    to: Option<String>,
    /// Records of the open transaction.
    open: u64,
    committed: &'a Cell<u64>,
    /// The time of the first record.
    began: &'a Cell<Option<Instant>>,
}

impl Stage for PassThrough<'_> {
    const STAGE: record::Stage = record::Stage::Enrich;

    fn inputs(&self) -> Inputs {
        self.inputs.clone()
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<Outcome, Error> {
        self.open += 1;
        if self.began.get().is_none() {
            self.began.set(Some(Instant::now()));
        }
        let Some(topic) = &self.to else { return Ok(Outcome::Counted) };
        out.forward(record, topic, record.partition(), &[])?;
        Ok(Outcome::Passed)
    }

    fn committed(&mut self) -> Result<(), Error> {
        self.committed.set(self.committed.get() + std::mem::take(&mut self.open));
        Ok(())
    }

    fn rolled_back(&mut self) -> AfterRollback {
        self.open = 0;
        AfterRollback::Keep
    }
}

fn create_topic(servers: &Servers, name: &str) -> anyhow::Result<String> {
    let spec = TopicSpec {
        name: name.to_owned(),
        partitions: RECIPIENT_PARTITIONS,
        replication: 1,
        settings: vec![("max.message.bytes", (20 << 20).to_string())],
    };
    let connection = servers.connection("none");
    servers.block_on(topics::create_topics(&connection, &[spec], TOPICS_TIMEOUT))?;
    Ok(name.to_owned())
}
