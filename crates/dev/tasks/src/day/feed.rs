//! Publishes raw events and time records, as the ingress does, with virtual times of receipt.

use std::time::{Duration, Instant};

use anyhow::ensure;
use event::ReceivedAt;
use kafka::PublishError;
use record::RawHeaders;

use super::mail::{Event, Mails, SECOND, payload, recipient};
use super::script::{HOUR, MINUTE, Script};
use crate::pipeline::Pipeline;
use crate::raw_feed::RawFeed;
use crate::scrape;

/// The id of the ingress in time records, and of all requests.
pub(super) const INGRESS: &str = "day";
/// The duration of a pane of the shortest windows, in seconds. Time records within a pane change nothing.
const PANE: i64 = 10;
/// The steps between two waits for Kafka's acknowledgements.
const STEPS: usize = 6;
/// How far virtual time may be ahead of the incidents stage, in seconds. A window is judged up to 15 minutes
/// back, so a greater distance could hide a breach.
pub(super) const AHEAD: i64 = 8 * MINUTE;
/// The same before the day, when nothing is judged but what is usual.
const AHEAD_IN_HISTORY: i64 = 12 * HOUR;
const POLL: Duration = Duration::from_millis(20);
/// A pipeline whose clock stands still for so long has failed.
const STUCK_AFTER: Duration = Duration::from_secs(120);

pub(crate) struct Feed<'a> {
    raw: RawFeed,
    script: &'a Script,
    mails: &'a Mails,
    /// The start of the day, unix seconds.
    start: i64,
    http: reqwest::Client,
    /// The admin address of monitor.
    monitor: String,
    /// How many events were published.
    next: usize,
    /// Virtual time, in seconds since the start of the day.
    pub(crate) now: i64,
    /// The clock of the incidents stage when it was last read, in the same unit.
    clock: i64,
}

impl<'a> Feed<'a> {
    pub(crate) fn open(
        pipeline: &Pipeline,
        partitions: i32,
        script: &'a Script,
        mails: &'a Mails,
        start: i64,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            raw: RawFeed::open(pipeline, partitions, INGRESS)?,
            script,
            mails,
            start,
            http: reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?,
            monitor: pipeline.admins.get("monitor").cloned().unwrap_or_default(),
            next: 0,
            now: script.begin,
            clock: i64::MIN,
        })
    }

    pub(crate) const fn published(&self) -> usize {
        self.next
    }

    /// Lets up to a minute of virtual time pass, before the day some more. Returns false at the end of the
    /// script. The part ends at `limit` at the latest.
    pub(crate) async fn pass(&mut self, limit: i64) -> anyhow::Result<bool> {
        if self.now >= self.script.end {
            return Ok(false);
        }
        let batch = self.raw.batch();
        let mut now = self.now;
        for _ in 0..STEPS {
            let next_event = self.mails.events.get(self.next).map_or(i64::MAX, |it| it.received);
            let step = match next_event - now {
                _ if now >= 0 => PANE,
                gap if gap > 2 * HOUR => HOUR,
                _ => 2 * MINUTE,
            };
            let end = (now + step).min(self.script.end);
            // Time records at the grid of panes do not depend on when the steps of the script are.
            if end > limit && now > self.now {
                break;
            }
            now = end;
            while let Some(event) = self.mails.events.get(self.next).filter(|it| it.received < end)
            {
                self.send(&batch, event)?;
                self.next += 1;
            }
            self.send_time(&batch, end)?;
            if now >= self.script.end {
                break;
            }
        }
        batch.acknowledged().await?;
        self.now = now;
        Ok(true)
    }

    fn send_time(&self, batch: &kafka::Batch<'_>, at: i64) -> Result<(), PublishError> {
        self.raw.send_time(batch, (self.start + at) * SECOND)
    }

    fn send(&self, batch: &kafka::Batch<'_>, event: &Event) -> Result<(), PublishError> {
        let mail = &self.mails.mails[event.mail];
        let (provider, source) = &self.script.sources[mail.source];
        let headers = RawHeaders {
            provider: *provider,
            source,
            received_at: ReceivedAt((self.start + event.received) * SECOND),
            request_id: INGRESS,
            authentic: true,
        };
        let value = payload(self.script, self.mails, event, self.start);
        let key = recipient(event.mail, mail);
        self.raw.send(batch, event.outcome.kind(), &headers, &key, value.as_bytes())
    }

    /// Waits until the incidents stage is no longer too far behind.
    pub(crate) async fn throttle(&mut self) -> anyhow::Result<()> {
        let ahead = if self.now < 0 { AHEAD_IN_HISTORY } else { AHEAD };
        self.await_clock(self.now - ahead).await
    }

    /// Waits until the incidents stage has reached a time.
    pub(crate) async fn await_clock(&mut self, time: i64) -> anyhow::Result<()> {
        let mut moved = Instant::now();
        // No time is known before the first time records have passed through.
        while self.clock < time && time > self.script.begin {
            let clock = self.read_clock().await.unwrap_or(self.clock);
            if clock > self.clock {
                (self.clock, moved) = (clock, Instant::now());
                continue;
            }
            ensure!(
                moved.elapsed() < STUCK_AFTER,
                "the clock of the incidents has stood still at {} for {STUCK_AFTER:?}; see the logs",
                clock_text(self.clock)
            );
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Returns the clock of the incidents stage. `None` while monitor restarts.
    async fn read_clock(&self) -> Option<i64> {
        let text = scrape::one(&self.http, &self.monitor).await.ok()?;
        let clock = scrape::sum(&text, "mailpulse_monitor_incidents_clock_seconds", "") as i64;
        (clock > 0).then_some(clock - self.start)
    }
}

/// Returns a time of the day such as `10:00:05`, with the number of days if it is another day.
pub(crate) fn clock_text(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(24 * HOUR), seconds.rem_euclid(24 * HOUR));
    let days = if days == 0 { String::new() } else { format!("{days:+}d ") };
    format!("{days}{:02}:{:02}:{:02}", second / HOUR, second / MINUTE % 60, second % 60)
}
