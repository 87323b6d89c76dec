//! Measures how far each owned partition is from its end, and detects partitions that are no longer
//! fetched.
//!
//! librdkafka 2.12.1 can stop fetching a partition for good without reporting it. A fetch response may
//! name the new leader of a partition (KIP-951) or say that there is none. Partitions without a leader
//! are counted in the list of changes but never filled in, so uninitialised memory is read as
//! partitions, leaders and leader epochs. A random epoch is higher than any real one, so from then on
//! every real leader looks outdated. Therefore a separate client that fetches nothing asks the broker
//! for the end of each partition. If a partition has unread records, has none buffered here, and does
//! not advance, the process ends and its supervisor starts it again.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::Statistics;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::client::ReaderContext;
use crate::{Connection, Error, TopicPartition};

/// How often librdkafka reports its position, in milliseconds.
pub(crate) const STATISTICS_MS: &str = "5000";
/// The least time between two rounds, in which the ends are requested. The next one begins when librdkafka reports
/// its positions, which makes ten seconds. A partition is silent after [`STALLED_ROUNDS`] of these.
const PERIOD: Duration = Duration::from_secs(9);
/// After how many rounds without progress a partition is silent. A change of leader takes seconds.
const STALLED_ROUNDS: u32 = 4;
/// How long the broker may take for one answer. Shorter than other requests: a round asks for every
/// partition in turn.
const END_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The positions of a consumer's partitions.
#[derive(Default)]
pub(crate) struct FetchProgress {
    inner: Mutex<Inner>,
    silent: OnceLock<TopicPartition>,
    /// The thread of the [`LagWatch`].
    watch: Mutex<Option<mpsc::Sender<Signal>>>,
}

/// What the thread of a [`LagWatch`] waits for.
enum Signal {
    /// librdkafka has reported its positions.
    Updated,
    Stop,
}

#[derive(Default)]
struct Inner {
    fetches: HashMap<TopicPartition, PartitionFetch>,
    paused: HashSet<TopicPartition>,
}

/// One partition that is being fetched.
#[derive(Debug, Clone, Copy, Default)]
struct PartitionFetch {
    /// The offset that is fetched next.
    next: i64,
    /// Records that are fetched but not yet returned by a poll.
    buffered: i64,
    /// `next` and the partition's end in the previous round.
    previous: Option<(i64, i64)>,
    /// Rounds in a row without progress.
    stalled_rounds: u32,
}

impl FetchProgress {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over the positions that librdkafka reports. Partitions of other members have the fetch
    /// state `none`; a partition that librdkafka no longer fetches may still be `active`.
    pub(crate) fn update(&self, statistics: &Statistics) {
        let mut inner = self.inner();
        let known = std::mem::take(&mut inner.fetches);
        for topic in statistics.topics.values() {
            for partition in topic.partitions.values().filter(|p| p.fetch_state == "active") {
                let key =
                    TopicPartition { topic: topic.topic.clone(), partition: partition.partition };
                let fetch = known.get(&key).copied().unwrap_or_default();
                let (next, buffered) = (partition.next_offset, partition.fetchq_cnt);
                inner.fetches.insert(key, PartitionFetch { next, buffered, ..fetch });
            }
        }
        drop(inner);
        if let Some(watch) = &*self.watch.lock().unwrap_or_else(PoisonError::into_inner) {
            // Without a receiver the watch has ended.
            let _ = watch.send(Signal::Updated);
        }
    }

    /// Expects no progress of a partition until it is resumed.
    pub(crate) fn paused(&self, partition: &TopicPartition) {
        self.inner().paused.insert(partition.clone());
    }

    /// Expects progress of a partition again.
    pub(crate) fn resumed(&self, partition: &TopicPartition) {
        self.inner().paused.remove(partition);
    }

    /// Returns [`Error::Silent`] once a partition is silent. This is called for every batch and only
    /// reads an atomic.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.silent.get() {
            Some(partition) => Err(Error::Silent { partition: partition.clone() }),
            None => Ok(()),
        }
    }

    fn partitions(&self) -> Vec<TopicPartition> {
        self.inner().fetches.keys().cloned().collect()
    }

    /// Compares a partition's position with its end. Returns the number of records between them.
    fn compare(&self, partition: &TopicPartition, end: i64) -> i64 {
        let mut inner = self.inner();
        let is_paused = inner.paused.contains(partition);
        let Some(fetch) = inner.fetches.get_mut(partition) else { return 0 };
        // We compare with the previous round's end: records that arrived since may be in flight.
        let stood_still = fetch
            .previous
            .is_some_and(|(next, end)| next == fetch.next && fetch.next >= 0 && fetch.next < end);
        let is_stalled = stood_still && fetch.buffered == 0 && !is_paused;
        fetch.stalled_rounds = if is_stalled { fetch.stalled_rounds + 1 } else { 0 };
        fetch.previous = Some((fetch.next, end));
        let lag = (end - fetch.next.max(0)).max(0) + fetch.buffered;
        if fetch.stalled_rounds >= STALLED_ROUNDS {
            self.silent.get_or_init(|| partition.clone());
        }
        lag
    }
}

/// The thread that asks for the ends of the partitions. It stops when this is dropped.
pub(crate) struct LagWatch {
    signals: mpsc::Sender<Signal>,
    thread: Option<JoinHandle<()>>,
}

impl LagWatch {
    pub(crate) fn start(
        connection: &Connection,
        component: &'static str,
        group: &str,
        progress: &Arc<FetchProgress>,
    ) -> Result<Self, Error> {
        Self::start_with_period(PERIOD, connection, component, group, progress)
    }

    pub(crate) fn start_with_period(
        period: Duration,
        connection: &Connection,
        component: &'static str,
        group: &str,
        progress: &Arc<FetchProgress>,
    ) -> Result<Self, Error> {
        let client: BaseConsumer<ReaderContext> = connection
            .reader(component, group)
            .create_with_context(ReaderContext)
            .map_err(|error| Error::settings(&error))?;
        let (signals, received) = mpsc::channel();
        *progress.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(signals.clone());
        let progress = Arc::clone(progress);
        let rounds = move || {
            let mut lags = HashMap::new();
            while await_round(&received, period) {
                measure(component, &client, &progress, &mut lags);
            }
        };
        let thread = thread::Builder::new()
            .name("lag-watch".to_owned())
            .spawn(rounds)
            .map_err(Error::state)?;
        Ok(Self { signals, thread: Some(thread) })
    }
}

/// Waits until the next round. Returns false if there is none.
///
/// A round compares positions with ends. It begins just after the positions were reported: older ones would count
/// as lag what was read since, and time records arrive every second. A consumer that is not polled reports
/// nothing, so the round then begins after twice the time.
fn await_round(signals: &mpsc::Receiver<Signal>, period: Duration) -> bool {
    let due = Instant::now() + period;
    loop {
        let left = (due + period).saturating_duration_since(Instant::now());
        match signals.recv_timeout(left) {
            Ok(Signal::Updated) if Instant::now() < due => {}
            Ok(Signal::Updated) | Err(RecvTimeoutError::Timeout) => return true,
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

impl Drop for LagWatch {
    fn drop(&mut self) {
        // Without a receiver the thread has ended.
        let _ = self.signals.send(Signal::Stop);
        if let Some(thread) = self.thread.take() {
            // If the thread has panicked, no data is lost, because it only measures.
            let _ = thread.join();
        }
    }
}

/// Asks for the end of every partition once and exports the lag of each topic. If an end cannot be
/// read, the next round tries again. `lags` contains the topics of earlier rounds, so that the lag
/// of a topic without partitions here becomes zero.
fn measure(
    component: &'static str,
    client: &BaseConsumer<ReaderContext>,
    progress: &FetchProgress,
    lags: &mut HashMap<String, i64>,
) {
    lags.values_mut().for_each(|lag| *lag = 0);
    for partition in progress.partitions() {
        let number = partition.partition;
        match client.fetch_watermarks(&partition.topic, number, END_REQUEST_TIMEOUT) {
            Ok((_, end)) => {
                let lag = progress.compare(&partition, end);
                *lags.entry(partition.topic).or_default() += lag;
            }
            Err(error) => {
                tracing::debug!(%error, %partition, "partition end could not be read; retrying");
            }
        }
    }
    for (topic, lag) in lags {
        metrics::gauge!("mailpulse_lag_records", "component" => component, "topic" => topic.clone())
            .set(*lag as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> TopicPartition {
        TopicPartition { topic: "t".to_owned(), partition: 3 }
    }

    fn set_position(progress: &FetchProgress, next: i64, buffered: i64) {
        let mut inner = progress.inner();
        let fetch = inner.fetches.entry(partition()).or_default();
        (fetch.next, fetch.buffered) = (next, buffered);
    }

    /// Returns the first round of `(next, buffered, end)` after which the partition is silent.
    fn silent_after(progress: &FetchProgress, rounds: &[(i64, i64, i64)]) -> Option<usize> {
        rounds.iter().position(|&(next, buffered, end)| {
            set_position(progress, next, buffered);
            progress.compare(&partition(), end);
            progress.check().is_err()
        })
    }

    #[test]
    fn a_partition_that_does_not_advance_towards_its_end_is_silent() {
        let rounds = [(5, 0, 9); 9];
        let expected = Some(STALLED_ROUNDS as usize);
        assert_eq!(silent_after(&FetchProgress::default(), &rounds), expected);
    }

    #[test]
    fn a_partition_that_advances_or_has_no_reason_to_advance_is_not_silent() {
        let advances: Vec<_> = (0..20).map(|n| (n, 0, 100)).collect();
        let silent_after_20 = |round| silent_after(&FetchProgress::default(), &[round; 20]);
        assert_eq!(silent_after(&FetchProgress::default(), &advances), None);
        assert_eq!(silent_after_20((5, 1, 9)), None, "records are buffered: the service is slow");
        assert_eq!(silent_after_20((9, 0, 9)), None, "the end is reached");
        assert_eq!(silent_after_20((-1001, 0, 9)), None, "fetching has not begun");
        let paused = FetchProgress::default();
        paused.paused(&partition());
        assert_eq!(silent_after(&paused, &[(5, 0, 9); 20]), None);
        paused.resumed(&partition());
        assert!(silent_after(&paused, &[(5, 0, 9); 20]).is_some());
    }

    #[test]
    fn a_round_begins_with_the_first_report_after_the_period() {
        let (signals, received) = mpsc::channel();
        let period = Duration::from_millis(200);
        let began = Instant::now();
        signals.send(Signal::Updated).unwrap();
        let reporter = thread::spawn(move || {
            while began.elapsed() < period {
                thread::sleep(Duration::from_millis(5));
            }
            signals.send(Signal::Updated).unwrap();
            signals
        });
        assert!(await_round(&received, period));
        assert!(began.elapsed() >= period, "the first report came too early");
        let signals = reporter.join().unwrap();
        let began = Instant::now();
        assert!(await_round(&received, period), "no report");
        assert!(began.elapsed() >= period * 2);
        signals.send(Signal::Stop).unwrap();
        assert!(!await_round(&received, period));
    }

    #[test]
    fn lag_is_the_distance_to_the_end_and_what_is_buffered() {
        let progress = FetchProgress::default();
        set_position(&progress, 5, 2);
        assert_eq!(progress.compare(&partition(), 9), 6, "four to fetch and two buffered");
        set_position(&progress, 9, 0);
        assert_eq!(progress.compare(&partition(), 9), 0);
    }
}
