//! Hostile traffic while a chaos run kills and freezes everything: signed bodies of a sender that harms
//! others, and attacks without a valid signature. No other sender may notice either.

mod hostile;
mod unsigned;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use testkit::Credentials;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::balance::{Balance, Errors};
use crate::clickhouse::Database;
use crate::pipeline::Pipeline;
use crate::scrape;

pub(crate) use self::hostile::SOURCES;

/// The condition in SQL that a row is not of a hostile source.
pub(crate) const GENUINE: &str = "source != 'hostile'";

/// The ingress must stay below this, in bytes, whatever arrives.
const MEMORY_LIMIT: f64 = 300e6;
/// The label of partitions that archive holds because rows are refused.
const REFUSALS: &str = "reason=\"refusals\"";
/// The time between two looks at the metrics of all members.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// What the attacks have done so far.
#[derive(Debug, Default)]
struct Results {
    /// The number of events of each hostile body that was answered 2xx, by its number.
    accepted: BTreeMap<u64, u64>,
    /// Hostile bodies that were rejected for their size.
    rejected: u64,
    /// Hostile bodies without a final answer at the end.
    abandoned: Errors,
    /// Attempts by the name of the attack.
    attempts: BTreeMap<&'static str, u64>,
    /// Unsigned requests that were answered 2xx.
    admitted: Errors,
    /// Members that held a partition when we looked.
    held: BTreeSet<String>,
    /// The largest resident memory of the ingress when we looked, in bytes.
    peak_memory: f64,
}

/// Runs the attacks and keeps their results.
pub(crate) struct Attacks {
    ingress: String,
    /// The event time at which the run starts, in seconds.
    event_time: i64,
    credentials: Credentials,
    /// The admin address of each member.
    members: Vec<(String, String)>,
    is_over: AtomicBool,
    results: Mutex<Results>,
}

impl Attacks {
    /// `start` is the event time at which the run starts, in microseconds.
    pub(crate) fn new(pipeline: &Pipeline, start: i64) -> Arc<Self> {
        let members = pipeline.members.iter();
        Arc::new(Self {
            ingress: pipeline.ingress.clone(),
            event_time: start / 1_000_000,
            credentials: pipeline.credentials.clone(),
            members: members.map(|(name, admin)| (name.to_string(), admin.clone())).collect(),
            is_over: AtomicBool::new(false),
            results: Mutex::default(),
        })
    }

    /// Attacks until [`Attacks::finish`]. Returns when the last hostile body has a final answer.
    pub(crate) async fn run(self: Arc<Self>) {
        tokio::join!(hostile::post(&self), unsigned::attack(&self), self.watch());
    }

    /// Stops the attacks, and waits until the last hostile body has a final answer.
    pub(crate) async fn finish(
        &self,
        running: JoinHandle<()>,
        patience: Duration,
    ) -> anyhow::Result<()> {
        self.is_over.store(true, Ordering::Relaxed);
        match tokio::time::timeout(patience, running).await {
            Ok(ended) => Ok(ended?),
            Err(_) => {
                self.results().abandoned.add(|| "the last hostile body".to_owned());
                Ok(())
            }
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Looks for held partitions, and at the memory of the ingress.
    async fn watch(&self) {
        let client = reqwest::Client::new();
        while !self.is_over() {
            for (name, admin) in &self.members {
                // A member that is down or frozen is not looked at.
                let answer = tokio::time::timeout(WATCH_INTERVAL, scrape::one(&client, admin));
                let Ok(Ok(metrics)) = answer.await else { continue };
                // `archive` also holds partitions while ClickHouse is away.
                let held = scrape::sum(&metrics, "mailpulse_partition_held", "")
                    + scrape::sum(&metrics, "mailpulse_archive_partition_held", REFUSALS);
                let mut results = self.results();
                if held > 0.0 {
                    results.held.insert(name.clone());
                }
                if name.starts_with("ingress") {
                    let memory = scrape::sum(&metrics, "process_resident_memory_bytes", "");
                    results.peak_memory = results.peak_memory.max(memory);
                }
            }
            sleep(WATCH_INTERVAL).await;
        }
    }

    /// Adds the comparison of the hostile events with the tables.
    pub(crate) async fn account(
        &self,
        balance: &mut Balance,
        database: &Database,
    ) -> anyhow::Result<()> {
        const PART: &str = "attacks";
        let (rows, dead) = (hostile::rows(database).await?, hostile::dead_letters(database).await?);
        let results = self.results();
        let (mut found, mut expected) = (0, 0);
        let (mut lost, mut doubled) = (Errors::default(), Errors::default());
        for (&body, &events) in &results.accepted {
            let is_dead_as_a_whole = dead.contains(&(body, 0));
            for event in 0..events {
                expected += 1;
                let copies = rows.get(&(body, event)).copied().unwrap_or(0);
                if copies == 1 || is_dead_as_a_whole || dead.contains(&(body, event)) {
                    found += 1;
                } else if copies == 0 {
                    lost.add(|| format!("event {event} of {}", hostile::describe(body)));
                }
                if copies > 1 {
                    doubled.add(|| format!("event {event} of {}", hostile::describe(body)));
                }
            }
        }
        balance.line(PART, "hostile events with a row or a dead letter", found, expected);
        balance.none(PART, "hostile events lost", &lost);
        balance.none(PART, "hostile events with several rows", &doubled);
        balance.none(PART, "hostile bodies without a final answer", &results.abandoned);
        balance.none(PART, "unsigned requests accepted", &results.admitted);
        let mut held = Errors::default();
        results.held.iter().for_each(|member| held.add(|| member.clone()));
        balance.none(PART, "members that held a partition", &held);
        let is_over = u64::from(results.peak_memory > MEMORY_LIMIT);
        let what = format!("ingress over 300 MB; its peak was {:.0} MB", results.peak_memory / 1e6);
        balance.line(PART, &what, is_over, 0);
        Ok(())
    }

    /// Returns numbers that need no comparison.
    pub(crate) fn figures(&self) -> Vec<(&'static str, u64)> {
        let results = self.results();
        let mut figures = vec![
            ("hostile bodies accepted", results.accepted.len() as u64),
            ("hostile bodies rejected for their size", results.rejected),
        ];
        figures.extend(results.attempts.iter().map(|(&name, &count)| (name, count)));
        figures
    }

    fn count(&self, attack: &'static str) {
        *self.results().attempts.entry(attack).or_default() += 1;
    }

    fn results(&self) -> MutexGuard<'_, Results> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns seconds since the Unix epoch.
fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
