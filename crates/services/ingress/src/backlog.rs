//! Requests kept on the local disk while Kafka does not take them.
//!
//! A request goes one of two ways: to Kafka, or to the end of the backlog. Once one could not go to
//! Kafka, all later ones queue behind it, so that what was posted later is not published earlier;
//! the newcomers wait until the requests that are still under way to Kafka have got through or
//! joined the queue themselves, at most `ingress.ack_timeout`. When the backlog has almost been
//! handed on, newcomers are held for the moment the rest takes, and then go to Kafka again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};
use spool::{Spool, SpoolError};
use tokio::sync::{Notify, mpsc, oneshot};

/// Requests written with one sync, in bytes.
const GROUP_BYTES: usize = 4 << 20;
/// A backlog this small, in bytes, is handed on while newcomers wait.
const LAST_BYTES: u64 = 256 << 10;

/// Why a request could not be kept: the code of a [`SpoolError`].
pub(crate) type Refused = &'static str;

/// The backlog and the way to it.
pub(crate) struct Backlog {
    state: Mutex<State>,
    /// Told whenever `state` changes in a way that somebody may wait for.
    changed: Notify,
    spool: Arc<Mutex<Spool>>,
    writer: mpsc::UnboundedSender<Write>,
    meters: Meters,
}

struct State {
    mode: Mode,
    /// Requests on their way to Kafka.
    under_way: usize,
    /// Requests that are being written to the backlog.
    in_line: usize,
    /// Why the last request was refused, if it was and there is no room yet.
    refused: Option<Refused>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// Requests go to Kafka.
    Direct,
    /// Requests go to the backlog.
    Diverted,
    /// The backlog's last requests are handed on; new ones wait.
    Resuming,
}

/// Which way a request goes.
pub(crate) enum Way<'b> {
    /// To Kafka; later ones do not overtake it in the backlog while this is held.
    Kafka(UnderWay<'b>),
    /// To the backlog.
    Backlog(Place<'b>),
}

/// A request on its way to Kafka.
pub(crate) struct UnderWay<'b>(&'b Backlog);

/// A place at the end of the queue.
pub(crate) struct Place<'b>(&'b Backlog);

/// A request to be written, and who waits for it.
struct Write {
    entry: Vec<u8>,
    done: oneshot::Sender<Result<(), Refused>>,
}

impl Backlog {
    /// Starts diverted: nothing goes to Kafka before [`Backlog::resume`].
    pub(crate) fn new(spool: Spool, limit: u64) -> std::io::Result<Self> {
        let spool = Arc::new(Mutex::new(spool));
        let (writer, writes) = mpsc::unbounded_channel();
        let meters = Meters::new(limit);
        std::thread::Builder::new().name("spool".into()).spawn({
            let (spool, meters) = (Arc::clone(&spool), meters.clone());
            move || write_down(&spool, writes, &meters)
        })?;
        let state = State { mode: Mode::Diverted, under_way: 0, in_line: 0, refused: None };
        let (state, changed) = (Mutex::new(state), Notify::new());
        let backlog = Self { state, changed, spool, writer, meters };
        backlog.meters.diverted.set(1.0);
        backlog.meters.show(&backlog.spool());
        Ok(backlog)
    }

    /// The way of the next request.
    pub(crate) async fn enter(&self) -> Way<'_> {
        loop {
            let changed = self.changed.notified();
            if let Some(way) = self.way() {
                return way;
            }
            changed.await;
        }
    }

    fn way(&self) -> Option<Way<'_>> {
        let mut state = self.state();
        match state.mode {
            Mode::Direct => {
                state.under_way += 1;
                Some(Way::Kafka(UnderWay(self)))
            }
            Mode::Diverted if state.under_way == 0 => {
                state.in_line += 1;
                Some(Way::Backlog(Place(self)))
            }
            Mode::Diverted | Mode::Resuming => None,
        }
    }

    /// A request did not get through to Kafka: it and all later ones join the queue.
    pub(crate) fn divert<'b>(&'b self, under_way: UnderWay<'b>, why: &str) -> Place<'b> {
        self.divert_all(why);
        self.state().in_line += 1;
        drop(under_way);
        Place(self)
    }

    /// All later requests join the queue.
    pub(crate) fn divert_all(&self, why: &str) {
        let before = std::mem::replace(&mut self.state().mode, Mode::Diverted);
        if before == Mode::Direct {
            tracing::warn!(why, "kafka does not take records; requests go to the spool");
        }
        self.meters.diverted.set(1.0);
        self.changed.notify_waiters();
    }

    /// Whether requests go to Kafka.
    pub(crate) fn is_direct(&self) -> bool {
        self.state().mode == Mode::Direct
    }

    /// Lets requests go to Kafka again, once nothing is left and nobody is being written down.
    /// While little is left, newcomers wait for it. Returns whether it has come to that.
    pub(crate) fn resume(&self) -> bool {
        let spool = self.spool();
        let mut state = self.state();
        if spool.is_empty() && state.in_line == 0 {
            if state.mode != Mode::Direct {
                tracing::info!("nothing waits in the spool; requests go to kafka");
            }
            state.mode = Mode::Direct;
            state.refused = None;
            self.meters.diverted.set(0.0);
            self.changed.notify_waiters();
            return true;
        }
        if spool.bytes() <= LAST_BYTES {
            state.mode = Mode::Resuming;
        }
        false
    }

    /// Returns at a change of the queue, or after `patience`.
    pub(crate) async fn change(&self, patience: Duration) {
        let _ = tokio::time::timeout(patience, self.changed.notified()).await;
    }

    /// The first requests of the queue, as [`spool::Records`] reads them, and their number for
    /// [`Backlog::remove`].
    pub(crate) async fn first(&self) -> Result<Option<(u64, Vec<u8>)>, SpoolError> {
        self.blocking(Spool::first).await
    }

    /// They are in Kafka.
    pub(crate) async fn remove(&self, number: u64) -> Result<(), SpoolError> {
        let removed = self.blocking(move |spool| spool.remove(number)).await;
        self.meters.show(&self.spool());
        removed
    }

    /// Whether anything waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.spool().is_empty()
    }

    /// Why the last request could not be kept, unless one could be since, or there is room again.
    pub(crate) fn refuses(&self) -> Option<Refused> {
        self.state().refused
    }

    /// Looks whether there is room again, where the last request was refused for want of it: who
    /// is not ready gets no request that could show it. Returns whether it has looked.
    pub(crate) async fn recheck(&self) -> bool {
        if self.refuses().is_none() {
            return false;
        }
        let room = self.blocking(|spool| spool.check_room()).await;
        self.state().refused = room.err().map(|error| error.code());
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spool(&self) -> MutexGuard<'_, Spool> {
        lock(&self.spool)
    }
}

impl Place<'_> {
    /// Returns when the entry is on the disk for good.
    pub(crate) async fn keep(self, entry: Vec<u8>) -> Result<(), Refused> {
        let (done, written) = oneshot::channel();
        let sent = self.0.writer.send(Write { entry, done });
        let kept = match sent {
            Ok(()) => written.await.unwrap_or(Err("spool_failed")),
            Err(_) => Err("spool_failed"),
        };
        self.0.state().refused = kept.err();
        kept
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.under_way -= 1;
        if state.under_way == 0 && state.mode != Mode::Direct {
            self.0.changed.notify_waiters();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_line -= 1;
        if state.in_line == 0 {
            self.0.changed.notify_waiters();
        }
    }
}

/// The spool's thread: whatever waits is written and synced together.
fn write_down(spool: &Mutex<Spool>, mut writes: mpsc::UnboundedReceiver<Write>, meters: &Meters) {
    while let Some(first) = writes.blocking_recv() {
        let mut bytes = first.entry.len();
        let mut group = vec![first];
        while bytes < GROUP_BYTES
            && let Ok(next) = writes.try_recv()
        {
            bytes += next.entry.len();
            group.push(next);
        }
        let mut spool = lock(spool);
        let entries: Vec<&[u8]> = group.iter().map(|write| write.entry.as_slice()).collect();
        match spool.append(&entries) {
            Ok(()) => group.into_iter().for_each(|write| meters.answer(write, Ok(()))),
            // Perhaps some fit; only the first is sure to have been tried.
            Err(SpoolError::Full { .. }) => {
                for write in group {
                    let kept = spool.append(&[&write.entry]);
                    meters.answer(write, kept.map_err(|error| error.code()));
                }
            }
            Err(error) => {
                tracing::error!(%error, "requests cannot be kept");
                let code = error.code();
                group.into_iter().for_each(|write| meters.answer(write, Err(code)));
            }
        }
        meters.show(&spool);
    }
}

fn lock(spool: &Mutex<Spool>) -> MutexGuard<'_, Spool> {
    spool.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone)]
struct Meters {
    diverted: Gauge,
    bytes: Gauge,
    requests: Gauge,
    spooled: Counter,
}

impl Meters {
    fn new(limit: u64) -> Self {
        gauge!("mailpulse_ingress_spool_limit_bytes").set(limit as f64);
        Self {
            diverted: gauge!("mailpulse_ingress_diverted"),
            bytes: gauge!("mailpulse_ingress_spool_bytes"),
            requests: gauge!("mailpulse_ingress_spool_requests"),
            spooled: counter!("mailpulse_ingress_spooled_requests_total"),
        }
    }

    fn show(&self, spool: &Spool) {
        self.bytes.set(spool.bytes() as f64);
        self.requests.set(spool.records() as f64);
    }

    fn answer(&self, write: Write, kept: Result<(), Refused>) {
        if kept.is_ok() {
            self.spooled.increment(1);
        }
        // Whoever has hung up meanwhile posts again.
        let _ = write.done.send(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backlog(limit: u64) -> (tempfile::TempDir, Backlog) {
        let directory = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(directory.path(), limit).unwrap();
        (directory, Backlog::new(spool, limit).unwrap())
    }

    async fn keep(backlog: &Backlog, bytes: usize) -> Result<(), Refused> {
        let Way::Backlog(place) = backlog.enter().await else { panic!("it is diverted") };
        place.keep(vec![1; bytes]).await
    }

    /// Whether the next request has to wait.
    async fn waits(backlog: &Backlog) -> bool {
        tokio::time::timeout(Duration::from_millis(50), backlog.enter()).await.is_err()
    }

    #[tokio::test]
    async fn later_requests_queue_behind_those_that_did_not_get_through() {
        let (_directory, backlog) = backlog(1 << 20);
        assert!(backlog.resume());
        let Way::Kafka(first) = backlog.enter().await else { panic!("it is direct") };
        let Way::Kafka(second) = backlog.enter().await else { panic!("it is direct") };
        backlog.divert(first, "test").keep(b"first".to_vec()).await.unwrap();
        assert!(waits(&backlog).await, "the second may still join the queue");
        backlog.divert(second, "test").keep(b"second".to_vec()).await.unwrap();
        let Way::Backlog(third) = backlog.enter().await else { panic!("it is diverted") };
        third.keep(b"third".to_vec()).await.unwrap();

        let (number, entries) = backlog.first().await.unwrap().unwrap();
        let entries: Vec<_> = spool::Records::of(&entries).collect();
        assert_eq!(entries, [&b"first"[..], b"second", b"third"]);
        assert!(!backlog.resume(), "they are not handed on yet");
        assert!(waits(&backlog).await, "for the little that is left");
        backlog.remove(number).await.unwrap();
        assert!(backlog.resume());
        assert!(matches!(backlog.enter().await, Way::Kafka(_)));
    }

    #[tokio::test]
    async fn nothing_is_resumed_while_a_request_is_being_written_down() {
        let (_directory, backlog) = backlog(1 << 20);
        let Way::Backlog(place) = backlog.enter().await else { panic!("it starts diverted") };
        assert!(!backlog.resume());
        backlog.divert_all("still away");
        drop(place);
        assert!(backlog.resume());
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_alone() {
        let (_directory, backlog) = backlog(100);
        let (small, large, other) =
            tokio::join!(keep(&backlog, 30), keep(&backlog, 90), keep(&backlog, 30));
        assert_eq!((small, large, other), (Ok(()), Err("spool_full"), Ok(())));
        assert_eq!(keep(&backlog, 80).await, Err("spool_full"));
        assert_eq!(backlog.refuses(), Some("spool_full"));
        keep(&backlog, 1).await.unwrap();
        assert_eq!(backlog.refuses(), None);
    }

    #[tokio::test]
    async fn room_is_seen_without_a_request_that_finds_it() {
        let (_directory, backlog) = backlog(100);
        assert!(!backlog.recheck().await, "nothing was refused");
        keep(&backlog, 50).await.unwrap();
        keep(&backlog, 50).await.unwrap_err();
        assert!(backlog.recheck().await);
        assert_eq!(backlog.refuses(), Some("spool_full"));
        let (number, _) = backlog.first().await.unwrap().unwrap();
        backlog.remove(number).await.unwrap();
        assert!(backlog.recheck().await);
        assert_eq!(backlog.refuses(), None);
    }
}
