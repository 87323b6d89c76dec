//! How long an event takes from its POST until a SELECT finds it: a marked one every 100 ms, looked
//! for in steps of 10 ms.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use testkit::load::event_batch;
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;

use super::client::{exchange, unix_millis};
use super::latency::Percentiles;
use super::script::{Probe, write_request};
use super::site::Line;

const POST_EVERY: Duration = Duration::from_millis(100);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// An event not found within this time is lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a probe saw.
pub(crate) struct Seen {
    /// Events posted.
    pub(crate) posted: u64,
    /// POST to the first SELECT that had the row.
    pub(crate) readable: Option<Percentiles>,
}

/// Posts until `done`, then waits for what is still on its way.
pub(crate) fn run(clickhouse: &str, line: &Line<'_>, done: &AtomicBool) -> anyhow::Result<Seen> {
    let probing = Probing {
        name: format!("p{}", unix_millis()),
        missing: Mutex::default(),
        posted: AtomicU64::new(0),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (_, micros) = runtime.block_on(async {
        let posting = AtomicBool::new(true);
        let post = async {
            let outcome = probing.post(&line.ingress, done).await;
            posting.store(false, Ordering::Relaxed);
            outcome
        };
        tokio::try_join!(post, probing.look(clickhouse, &line.database, &posting))
    })?;
    let posted = probing.posted.load(Ordering::Relaxed);
    ensure!(micros.len() as u64 == posted, "{} of {posted} probes were found", micros.len());
    Ok(Seen { posted, readable: Percentiles::of(micros) })
}

struct Probing {
    /// The run's name, in front of each event's number.
    name: String,
    /// Numbers of the events not found yet, and when they were posted.
    missing: Mutex<BTreeMap<u64, Instant>>,
    posted: AtomicU64,
}

impl Probing {
    async fn post(&self, ingress: &str, done: &AtomicBool) -> anyhow::Result<()> {
        let probe = Probe::new(&self.name);
        let mut stream = TcpStream::connect(ingress).await?;
        stream.set_nodelay(true)?;
        let (mut wire, mut answer) = (Vec::new(), Vec::new());
        let mut ticks = tokio::time::interval(POST_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !done.load(Ordering::Relaxed) {
            ticks.tick().await;
            let number = self.posted.fetch_add(1, Ordering::Relaxed);
            let now = unix_millis();
            let body = event_batch(&self.name, number, 1, now);
            write_request(&probe.sign(body, now), &mut wire)?;
            self.missing().insert(number, Instant::now());
            exchange(&mut stream, &wire, &mut answer).await?;
        }
        Ok(())
    }

    /// Looks until nothing is posted any more and nothing is missing; returns microseconds.
    async fn look(
        &self,
        clickhouse: &str,
        database: &str,
        posting: &AtomicBool,
    ) -> anyhow::Result<Vec<u32>> {
        let http = reqwest::Client::new();
        let mut micros = Vec::new();
        loop {
            let oldest = self.missing().first_key_value().map(|(&number, &since)| (number, since));
            let Some((oldest, since)) = oldest else {
                if !posting.load(Ordering::Relaxed) {
                    return Ok(micros);
                }
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            };
            ensure!(since.elapsed() < PATIENCE, "probe {oldest} did not become a row");
            let sql = format!(
                "SELECT provider_event_id FROM {database}.events WHERE source = '{}' \
                 AND provider_event_id >= '{}-{oldest:012}' AND startsWith(provider_event_id, '{}')",
                Probe::SOURCE,
                self.name,
                self.name
            );
            let found = http.post(clickhouse).body(sql).send().await?.error_for_status()?;
            let found = found.text().await?;
            for number in found.lines().filter_map(|id| id.rsplit_once('-')?.1.parse().ok()) {
                if let Some(since) = self.missing().remove(&number) {
                    micros.push(u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn missing(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
