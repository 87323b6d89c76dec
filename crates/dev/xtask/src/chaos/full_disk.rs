//! A disk that takes no more, under the spool, while Kafka is away.
//!
//! No file of the ingress may be longer than a few bytes: its writes then fail as on a full disk, and
//! nothing has to be mounted. That holds for its log too, which is silent meanwhile.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::runtime::Runtime;

use super::action::Seconds;
use super::ledger::Ledger;
use crate::pipeline::Pipeline;
use crate::scrape;

const INGRESS: &str = "ingress";
/// Less than any request needs.
const LARGEST_FILE: u64 = 64;
/// How long traffic may take to meet what was done to the disk; a request comes every few
/// milliseconds, and those refused come again within two seconds.
const MET_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What came of a full disk.
#[derive(Debug, Serialize)]
pub(crate) struct FullDisk {
    /// How long it was full.
    seconds: f64,
    /// Requests that neither Kafka nor the spool took.
    pub(crate) refused: u64,
    /// Requests that the spool took as soon as there was room, Kafka being away still.
    taken_again: u64,
}

/// Kafka is away: waits until the spool is in use, fills its disk, makes room, and waits until the
/// spool is in use again. Waiting has an end; what was not seen by then is left at zero, for
/// [`account`] to tell.
pub(crate) fn fill(pipeline: &Pipeline, lasting: Duration) -> anyhow::Result<FullDisk> {
    let spooled = Tally::new(pipeline, "mailpulse_ingress_spooled_requests_total", "")?;
    spooled.await_growth()?;

    let refused =
        Tally::new(pipeline, "mailpulse_ingress_requests_total", "code=\"spool_failed\"")?;
    let since = Instant::now();
    pipeline.supervisor.limit_files(INGRESS, Some(LARGEST_FILE))?;
    sleep(lasting);
    refused.await_growth()?;
    pipeline.supervisor.limit_files(INGRESS, None)?;
    let seconds = since.elapsed().as_secs_f64();

    let spooled = Tally::new(pipeline, "mailpulse_ingress_spooled_requests_total", "")?;
    let taken_again = spooled.await_growth()?;
    Ok(FullDisk { seconds, refused: refused.growth()?, taken_again })
}

/// Says whether each of them was met by requests: one that was not proves nothing.
pub(crate) fn account(ledger: &mut Ledger, full_disks: &[FullDisk]) {
    const PART: &str = "full disk";
    let times = |met: fn(&FullDisk) -> u64| {
        full_disks.iter().filter(|full_disk| met(full_disk) > 0).count() as u64
    };
    let all = full_disks.len() as u64;
    ledger.line(PART, "times requests were refused for it", times(|disk| disk.refused), all);
    let again = "times they were taken again before Kafka was back";
    ledger.line(PART, again, times(|disk| disk.taken_again), all);
}

/// A counter of all ingresses, from some moment on.
struct Tally<'a> {
    pipeline: &'a Pipeline,
    runtime: Runtime,
    client: reqwest::Client,
    metric: &'static str,
    label: &'static str,
    before: u64,
}

impl<'a> Tally<'a> {
    /// Counts from now on.
    fn new(
        pipeline: &'a Pipeline,
        metric: &'static str,
        label: &'static str,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // A connection kept while the runtime stands still is closed by the other side, unnoticed.
        let client = reqwest::Client::builder().pool_max_idle_per_host(0).build()?;
        let mut tally = Self { pipeline, runtime, client, metric, label, before: 0 };
        tally.before = tally.growth()?;
        Ok(tally)
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

    /// Waits until it has grown, and returns by how much; after [`MET_WITHIN`] that is zero.
    fn await_growth(&self) -> anyhow::Result<u64> {
        let deadline = Instant::now() + MET_WITHIN;
        loop {
            let growth = self.growth()?;
            if growth > 0 || Instant::now() > deadline {
                return Ok(growth);
            }
            sleep(LOOK_EVERY);
        }
    }
}

impl fmt::Display for FullDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, refused, .. } = self;
        write!(f, "{} ({refused} refused)", Seconds(Duration::from_secs_f64(*seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_balanced(full_disks: &[FullDisk]) -> bool {
        let mut ledger = Ledger::default();
        account(&mut ledger, full_disks);
        ledger.is_balanced()
    }

    #[test]
    fn a_full_disk_that_no_request_met_is_told() {
        let met = |refused, taken_again| FullDisk { seconds: 4.0, refused, taken_again };
        assert!(is_balanced(&[met(3, 1), met(1, 7)]));
        assert!(!is_balanced(&[met(3, 1), met(0, 1)]), "nothing was refused");
        assert!(!is_balanced(&[met(3, 0), met(3, 1)]), "the spool did not go on");
    }
}
