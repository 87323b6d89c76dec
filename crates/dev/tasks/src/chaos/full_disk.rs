//! A full disk under the spool while Kafka is down.
//!
//! The files of the ingress are limited to a few bytes. Its writes then fail as on a full disk, and no
//! file system needs to be mounted. The limit includes its log, which is empty for this time.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::runtime::Runtime;

use super::action::Seconds;
use super::balance::Balance;
use crate::pipeline::Pipeline;
use crate::scrape;

const INGRESS: &str = "ingress";
/// In bytes; smaller than any request in the spool.
const LARGEST_FILE: u64 = 64;
/// How long to wait for an effect on requests. A request arrives every few milliseconds, and rejected
/// ones are repeated within two seconds.
const EFFECT_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);

/// The effects of a full disk.
#[derive(Debug, Serialize)]
pub(crate) struct FullDisk {
    seconds: f64,
    /// Requests that were rejected because the spool could not be written.
    pub(crate) rejected: u64,
    /// Requests that were spooled after the disk had space again and before Kafka restarted.
    spooled_after: u64,
}

/// Call this while Kafka is down. Waits until requests are spooled, fills the disk, frees it, and waits
/// until requests are spooled again. A wait that times out leaves a count of zero, which [`account`]
/// reports.
pub(crate) fn fill(pipeline: &Pipeline, lasting: Duration) -> anyhow::Result<FullDisk> {
    let spooled = CounterGrowth::new(pipeline, "mailpulse_ingress_spooled_requests_total", "")?;
    spooled.await_growth()?;

    let rejected =
        CounterGrowth::new(pipeline, "mailpulse_ingress_requests_total", "code=\"spool_failed\"")?;
    let since = Instant::now();
    pipeline.supervisor.limit_files(INGRESS, Some(LARGEST_FILE))?;
    sleep(lasting);
    rejected.await_growth()?;
    pipeline.supervisor.limit_files(INGRESS, None)?;
    let seconds = since.elapsed().as_secs_f64();

    let spooled = CounterGrowth::new(pipeline, "mailpulse_ingress_spooled_requests_total", "")?;
    let spooled_after = spooled.await_growth()?;
    Ok(FullDisk { seconds, rejected: rejected.growth()?, spooled_after })
}

/// Checks that every full disk had an effect on requests. Without one it would prove nothing.
pub(crate) fn account(balance: &mut Balance, full_disks: &[FullDisk]) {
    const PART: &str = "full disk";
    let times = |count: fn(&FullDisk) -> u64| {
        full_disks.iter().filter(|full_disk| count(full_disk) > 0).count() as u64
    };
    let all = full_disks.len() as u64;
    balance.line(PART, "times requests were rejected", times(|disk| disk.rejected), all);
    let after = "times requests were spooled again before Kafka restarted";
    balance.line(PART, after, times(|disk| disk.spooled_after), all);
}

/// The growth of a counter, summed over all ingresses, since the construction of this value.
struct CounterGrowth<'a> {
    pipeline: &'a Pipeline,
    runtime: Runtime,
    client: reqwest::Client,
    metric: &'static str,
    label: &'static str,
    before: u64,
}

impl<'a> CounterGrowth<'a> {
    fn new(
        pipeline: &'a Pipeline,
        metric: &'static str,
        label: &'static str,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // The runtime does not run between requests, so it would not notice a closed connection.
        let client = reqwest::Client::builder().pool_max_idle_per_host(0).build()?;
        let mut counter = Self { pipeline, runtime, client, metric, label, before: 0 };
        counter.before = counter.growth()?;
        Ok(counter)
    }

    fn growth(&self) -> anyhow::Result<u64> {
        let ingresses =
            self.pipeline.members.iter().filter(|(member, _)| member.service == INGRESS);
        let mut now = 0;
        for (_, admin) in ingresses {
            let text = self.runtime.block_on(scrape::one(&self.client, admin))?;
            now += scrape::sum(&text, self.metric, self.label) as u64;
        }
        Ok(now.saturating_sub(self.before))
    }

    /// Waits until the counter has grown and returns the growth, or zero after [`EFFECT_TIMEOUT`].
    fn await_growth(&self) -> anyhow::Result<u64> {
        let deadline = Instant::now() + EFFECT_TIMEOUT;
        loop {
            let growth = self.growth()?;
            if growth > 0 || Instant::now() > deadline {
                return Ok(growth);
            }
            sleep(POLL);
        }
    }
}

impl fmt::Display for FullDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, rejected, .. } = self;
        write!(f, "{} ({rejected} requests rejected)", Seconds(Duration::from_secs_f64(*seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_balanced(full_disks: &[FullDisk]) -> bool {
        let mut balance = Balance::default();
        account(&mut balance, full_disks);
        balance.is_balanced()
    }

    #[test]
    fn a_full_disk_without_effect_is_reported() {
        let full_disk =
            |rejected, spooled_after| FullDisk { seconds: 4.0, rejected, spooled_after };
        assert!(is_balanced(&[full_disk(3, 1), full_disk(1, 7)]));
        assert!(!is_balanced(&[full_disk(3, 1), full_disk(0, 1)]), "no request was rejected");
        assert!(
            !is_balanced(&[full_disk(3, 0), full_disk(3, 1)]),
            "no request was spooled afterwards"
        );
    }
}
