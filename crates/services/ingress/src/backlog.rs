//! The backlog: requests in the spool that are not published yet.
//!
//! A request takes one of two routes: to Kafka, or to the end of the backlog. When one request could
//! not be published, all later ones go to the backlog, so that no request overtakes an earlier one.
//! New requests first wait until every request in flight to Kafka was either acknowledged or has
//! joined the backlog, at most `ingress.ack_timeout`. When almost all of the backlog is published,
//! new requests wait until it is empty, and then go to Kafka again.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use spool::{Cause, Spool, SpoolError, SpoolKeys};
use tokio::sync::Notify;

use crate::lock::lock;
use crate::low_watermark::{LowWatermark, system_clock};
use crate::spool_writer::{SpoolMetrics, SpoolWriter};

/// When the backlog has at most this many bytes, new requests wait until it is empty.
const RESUME_BYTES: u64 = 256 << 10;

/// The code of a [`SpoolError`].
pub(crate) type SpoolErrorCode = &'static str;

pub(crate) struct Backlog {
    state: Mutex<State>,
    /// Notified after each change of `state` that a task may wait for.
    changed: Notify,
    spool: Arc<Mutex<Spool>>,
    writer: SpoolWriter,
    metrics: SpoolMetrics,
    watermark: LowWatermark,
}

struct State {
    mode: Mode,
    /// The number of requests that are being published.
    in_flight: usize,
    /// The number of requests that are being written to the spool.
    tickets: usize,
    /// Why the last request could not be spooled; `None` if it could, or if the spool can store
    /// requests again.
    spool_error: Option<SpoolErrorCode>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// Requests go to Kafka.
    Direct,
    /// Requests go to the spool.
    Spooling,
    /// The rest of the backlog is being published, and new requests wait.
    Resuming,
}

pub(crate) enum Route<'b> {
    Kafka(InFlight<'b>),
    Spool(SpoolTicket<'b>),
}

/// Exists while a request is being published. No later request is spooled before it is dropped.
pub(crate) struct InFlight<'b>(&'b Backlog);

/// The permission to append one request to the backlog.
pub(crate) struct SpoolTicket<'b>(&'b Backlog);

impl Backlog {
    /// Opens the spool. All requests are spooled until [`Backlog::try_resume`] succeeds.
    pub(crate) fn open(directory: &Path, limit: u64, keys: SpoolKeys) -> anyhow::Result<Self> {
        let is_encrypted = keys.is_sealing();
        let (spool, recovered) = Spool::open_sealed(directory, limit, keys)?;
        tracing::info!(
            directory = %directory.display(),
            is_encrypted,
            requests = recovered.entries,
            torn_bytes = recovered.torn_bytes,
            damaged_bytes = recovered.damaged_bytes,
            quarantined = spool.quarantined().items,
            "spool opened"
        );
        let metrics = SpoolMetrics::new(limit);
        metrics.spooling.set(1.0);
        metrics.update(&spool);
        let watermark = LowWatermark::new(Box::new(system_clock), !spool.is_empty());
        let spool = Arc::new(Mutex::new(spool));
        let writer = SpoolWriter::start(Arc::clone(&spool), metrics.clone())?;
        let state = State { mode: Mode::Spooling, in_flight: 0, tickets: 0, spool_error: None };
        let (state, changed) = (Mutex::new(state), Notify::new());
        Ok(Self { state, changed, spool, writer, metrics, watermark })
    }

    /// Returns until when everything that was received is in Kafka.
    pub(crate) const fn watermark(&self) -> &LowWatermark {
        &self.watermark
    }

    /// Returns the route of the next request, and waits while no route is open.
    pub(crate) async fn route(&self) -> Route<'_> {
        loop {
            let changed = self.changed.notified();
            if let Some(route) = self.open_route() {
                return route;
            }
            changed.await;
        }
    }

    fn open_route(&self) -> Option<Route<'_>> {
        let mut state = self.state();
        match state.mode {
            Mode::Direct => {
                state.in_flight += 1;
                Some(Route::Kafka(InFlight(self)))
            }
            Mode::Spooling if state.in_flight == 0 => {
                state.tickets += 1;
                Some(Route::Spool(SpoolTicket(self)))
            }
            Mode::Spooling | Mode::Resuming => None,
        }
    }

    /// Sends a request that could not be published, and all later ones, to the spool.
    pub(crate) fn divert<'b>(&'b self, in_flight: InFlight<'b>, reason: &str) -> SpoolTicket<'b> {
        self.start_spooling(reason);
        self.state().tickets += 1;
        drop(in_flight);
        SpoolTicket(self)
    }

    /// Sends all later requests to the spool.
    pub(crate) fn start_spooling(&self, reason: &str) {
        let before = std::mem::replace(&mut self.state().mode, Mode::Spooling);
        if before == Mode::Direct {
            tracing::warn!(reason, "Kafka is unavailable; requests go to the spool");
        }
        self.metrics.spooling.set(1.0);
        self.changed.notify_waiters();
    }

    /// Returns true if requests go to Kafka.
    pub(crate) fn is_direct(&self) -> bool {
        self.state().mode == Mode::Direct
    }

    /// Sends requests to Kafka again if the backlog is empty and no request is being written to it.
    /// Returns false otherwise. If only a small part of the backlog is left, new requests wait
    /// until it is published.
    pub(crate) fn try_resume(&self) -> bool {
        let spool = self.spool();
        let mut state = self.state();
        if spool.is_empty() && state.tickets == 0 {
            if state.mode != Mode::Direct {
                tracing::info!("backlog is empty; requests go to Kafka");
            }
            state.mode = Mode::Direct;
            state.spool_error = None;
            self.watermark.spool_is_empty();
            self.metrics.spooling.set(0.0);
            self.changed.notify_waiters();
            return true;
        }
        if spool.bytes() <= RESUME_BYTES {
            state.mode = Mode::Resuming;
        }
        false
    }

    /// Waits until the state changes, at most for `timeout`.
    pub(crate) async fn wait_for_change(&self, timeout: Duration) {
        let _ = tokio::time::timeout(timeout, self.changed.notified()).await;
    }

    /// Returns the number of the oldest segment, for [`Backlog::remove_segment`], and its bytes, for
    /// [`spool::Parts`].
    pub(crate) async fn first_segment(&self) -> Result<Option<(u64, Vec<u8>)>, SpoolError> {
        self.blocking(Spool::first_segment).await
    }

    /// Removes a segment after all its requests were published.
    pub(crate) async fn remove_segment(&self, number: u64) -> Result<(), SpoolError> {
        let removed = self.blocking(move |spool| spool.remove_segment(number)).await;
        self.metrics.update(&self.spool());
        removed
    }

    /// Moves a part of the oldest segment to the quarantine; see [`Spool::quarantine`].
    pub(crate) async fn quarantine(
        &self,
        segment: u64,
        offset: usize,
        cause: Cause,
        bytes: Vec<u8>,
    ) -> Result<(), SpoolError> {
        let length = bytes.len();
        self.blocking(move |spool| spool.quarantine(segment, offset, cause, &bytes)).await?;
        tracing::error!(
            segment,
            offset,
            bytes = length,
            cause = cause.code(),
            "the spool has bytes that cannot be read; they are in quarantine now, see `mailpulse \
             spool ls`"
        );
        self.metrics.count_quarantined(cause);
        self.metrics.update(&self.spool());
        Ok(())
    }

    /// Updates the metrics of the quarantine, from which operators remove items.
    pub(crate) async fn refresh_quarantined(&self) {
        if let Err(error) = self.blocking(Spool::refresh_quarantined).await {
            tracing::warn!(%error, "the quarantine of the spool cannot be read");
        }
        self.metrics.update(&self.spool());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.spool().is_empty()
    }

    /// Returns why the last request could not be spooled. Returns `None` if it could, or if the
    /// spool can store requests again.
    pub(crate) fn spool_error(&self) -> Option<SpoolErrorCode> {
        self.state().spool_error
    }

    /// After a failure, checks if the spool can store requests again. A load balancer sends no
    /// requests to a service that is not ready, so we cannot wait for a request to try it. Returns
    /// false if there was no failure, so nothing was checked.
    pub(crate) async fn recheck_capacity(&self) -> bool {
        if self.spool_error().is_none() {
            return false;
        }
        let capacity = self.blocking(|spool| spool.check_capacity()).await;
        self.state().spool_error = capacity.err().map(|error| error.code());
        true
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Spool) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, SpoolError> {
        let spool = Arc::clone(&self.spool);
        tokio::task::spawn_blocking(move || work(&mut lock(&spool))).await.unwrap_or_else(|error| {
            Err(SpoolError::Disk { path: "spool".into(), error: std::io::Error::other(error) })
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn spool(&self) -> MutexGuard<'_, Spool> {
        lock(&self.spool)
    }
}

impl SpoolTicket<'_> {
    /// Appends the request to the backlog, and returns when it is durable.
    pub(crate) async fn write(self, entry: Vec<u8>) -> Result<(), SpoolErrorCode> {
        let written = self.0.writer.write(entry).await;
        self.0.state().spool_error = written.err();
        written
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_flight -= 1;
        if state.in_flight == 0 && state.mode != Mode::Direct {
            self.0.changed.notify_waiters();
        }
    }
}

impl Drop for SpoolTicket<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.tickets -= 1;
        if state.tickets == 0 {
            self.0.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backlog(limit: u64) -> (tempfile::TempDir, Backlog) {
        let directory = tempfile::tempdir().unwrap();
        let backlog = Backlog::open(directory.path(), limit, SpoolKeys::default()).unwrap();
        (directory, backlog)
    }

    async fn write(backlog: &Backlog, bytes: usize) -> Result<(), SpoolErrorCode> {
        let Route::Spool(ticket) = backlog.route().await else { panic!("requests go to Kafka") };
        ticket.write(vec![1; bytes]).await
    }

    /// Returns true if the next request has to wait for its route.
    async fn must_wait(backlog: &Backlog) -> bool {
        tokio::time::timeout(Duration::from_millis(50), backlog.route()).await.is_err()
    }

    #[tokio::test]
    async fn later_requests_are_spooled_after_those_that_could_not_be_published() {
        let (_directory, backlog) = backlog(1 << 20);
        assert!(backlog.try_resume());
        let Route::Kafka(first) = backlog.route().await else { panic!("requests are spooled") };
        let Route::Kafka(second) = backlog.route().await else { panic!("requests are spooled") };
        backlog.divert(first, "test").write(b"first".to_vec()).await.unwrap();
        assert!(must_wait(&backlog).await, "the second request may still be spooled");
        backlog.divert(second, "test").write(b"second".to_vec()).await.unwrap();
        let Route::Spool(third) = backlog.route().await else { panic!("requests go to Kafka") };
        third.write(b"third".to_vec()).await.unwrap();

        let (number, entries) = backlog.first_segment().await.unwrap().unwrap();
        let entries: Vec<_> = spool::Entries::of(&entries).collect();
        assert_eq!(entries, [&b"first"[..], b"second", b"third"]);
        assert!(!backlog.try_resume(), "the backlog is not published yet");
        assert!(must_wait(&backlog).await, "new requests wait for the small rest");
        backlog.remove_segment(number).await.unwrap();
        assert!(backlog.try_resume());
        assert!(matches!(backlog.route().await, Route::Kafka(_)));
    }

    #[tokio::test]
    async fn requests_do_not_go_to_kafka_while_one_is_written_to_the_spool() {
        let (_directory, backlog) = backlog(1 << 20);
        let Route::Spool(ticket) = backlog.route().await else { panic!("requests go to Kafka") };
        assert!(!backlog.try_resume());
        backlog.start_spooling("test");
        drop(ticket);
        assert!(backlog.try_resume());
    }

    #[tokio::test]
    async fn only_requests_that_do_not_fit_are_rejected() {
        let (_directory, backlog) = backlog(100);
        let (small, large, other) =
            tokio::join!(write(&backlog, 30), write(&backlog, 90), write(&backlog, 30));
        assert_eq!((small, large, other), (Ok(()), Err("spool_full"), Ok(())));
        assert_eq!(write(&backlog, 80).await, Err("spool_full"));
        assert_eq!(backlog.spool_error(), Some("spool_full"));
        write(&backlog, 1).await.unwrap();
        assert_eq!(backlog.spool_error(), None);
    }

    #[tokio::test]
    async fn free_capacity_is_found_without_a_request() {
        let (_directory, backlog) = backlog(100);
        assert!(!backlog.recheck_capacity().await, "no request has failed");
        write(&backlog, 50).await.unwrap();
        write(&backlog, 50).await.unwrap_err();
        assert!(backlog.recheck_capacity().await);
        assert_eq!(backlog.spool_error(), Some("spool_full"));
        let (number, _) = backlog.first_segment().await.unwrap().unwrap();
        backlog.remove_segment(number).await.unwrap();
        assert!(backlog.recheck_capacity().await);
        assert_eq!(backlog.spool_error(), None);
    }
}
