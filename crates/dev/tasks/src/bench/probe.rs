//! Measures the time from the POST of an event until a SELECT returns it. A marked event is posted every
//! 100 ms, and queried every 10 ms.

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
use super::servers::Namespace;

const POST_INTERVAL: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_millis(10);
/// If an event is not found within this time, it is lost.
const LOST_AFTER: Duration = Duration::from_secs(60);

/// The result of the probe.
pub(crate) struct Found {
    /// The number of posted events.
    pub(crate) posted: u64,
    /// The time from POST to the first SELECT that returned the row.
    pub(crate) readable: Option<Percentiles>,
}

/// Posts until `done`, then waits until all events are found.
pub(crate) fn run(
    clickhouse: &str,
    namespace: &Namespace<'_>,
    done: &AtomicBool,
) -> anyhow::Result<Found> {
    let probing = Probing {
        name: format!("p{}", unix_millis()),
        missing: Mutex::default(),
        posted: AtomicU64::new(0),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (_, micros) = runtime.block_on(async {
        let posting = AtomicBool::new(true);
        let post = async {
            let outcome = probing.post(&namespace.ingress, done).await;
            posting.store(false, Ordering::Relaxed);
            outcome
        };
        tokio::try_join!(post, probing.query(clickhouse, &namespace.database, &posting))
    })?;
    let posted = probing.posted.load(Ordering::Relaxed);
    ensure!(micros.len() as u64 == posted, "{} of {posted} marked events were found", micros.len());
    Ok(Found { posted, readable: Percentiles::of(micros) })
}

struct Probing {
    /// The prefix of the events' numbers.
    name: String,
    /// The numbers of the events that were not found yet, and when they were posted.
    missing: Mutex<BTreeMap<u64, Instant>>,
    posted: AtomicU64,
}

impl Probing {
    async fn post(&self, ingress: &str, done: &AtomicBool) -> anyhow::Result<()> {
        let probe = Probe::new(&self.name);
        let mut stream = TcpStream::connect(ingress).await?;
        stream.set_nodelay(true)?;
        let (mut wire, mut answer) = (Vec::new(), Vec::new());
        let mut ticks = tokio::time::interval(POST_INTERVAL);
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

    /// Queries until posting has ended and all events are found. Returns their times in microseconds.
    async fn query(
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
                tokio::time::sleep(POLL).await;
                continue;
            };
            ensure!(since.elapsed() < LOST_AFTER, "the marked event {oldest} was not found");
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
            tokio::time::sleep(POLL).await;
        }
    }

    fn missing(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
