//! Whether what we own is being read: how far each partition is from its end, and whether one has
//! fallen silent.
//!
//! librdkafka 2.12.1 can stop reading a partition for good, without a word. A fetch response may name
//! the new leader of a partition (KIP-951), or say that it has none; those that have none are counted
//! in the list of changes and never filled in, so what the allocator left there is taken for
//! partitions, leaders and leader epochs. An epoch from garbage is higher than any true one: from
//! then on every true leader is older news. The end of a partition is therefore asked of the broker
//! by a client of our own that fetches nothing, and a partition that has an end ahead of it and does
//! not move, with nothing of it waiting here, ends the process: its supervisor starts it anew.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::Statistics;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::connection::Quiet;
use crate::{Connection, StreamError, TopicPartition};

/// How often librdkafka tells where it is.
pub(crate) const STATISTICS_MS: &str = "5000";
/// How often the ends are asked for: a partition is silent after [`STILL`] of these.
const EVERY: Duration = Duration::from_secs(10);
/// In how many rounds running a partition must not have moved. A leader takes seconds to change.
const STILL: u32 = 4;
/// For one answer of the broker.
const CALL: Duration = Duration::from_secs(10);

/// Where a consumer is, by its own account and by the broker's.
#[derive(Default)]
pub(crate) struct Sight {
    inner: Mutex<Inner>,
    silent: OnceLock<TopicPartition>,
}

#[derive(Default)]
struct Inner {
    places: HashMap<TopicPartition, Place>,
    paused: HashSet<TopicPartition>,
}

/// One partition that is being fetched.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The offset fetched next.
    next: i64,
    /// Records fetched and not yet handed over.
    queued: i64,
    /// Where `next` and the end were in the round before.
    before: Option<(i64, i64)>,
    /// Rounds without moving.
    still: u32,
}

impl Sight {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// librdkafka's own account. A partition it has lost sight of may be in any state but `none`,
    /// which is one that is not ours.
    pub(crate) fn report(&self, statistics: &Statistics) {
        let mut inner = self.inner();
        let former = std::mem::take(&mut inner.places);
        for topic in statistics.topics.values() {
            for partition in topic.partitions.values().filter(|p| p.fetch_state == "active") {
                let key =
                    TopicPartition { topic: topic.topic.clone(), partition: partition.partition };
                let known = former.get(&key).copied().unwrap_or_default();
                let (next, queued) = (partition.next_offset, partition.fetchq_cnt);
                inner.places.insert(key, Place { next, queued, ..known });
            }
        }
    }

    /// A partition that is paused on purpose may stand still.
    pub(crate) fn paused(&self, partition: &TopicPartition) {
        self.inner().paused.insert(partition.clone());
    }

    /// It is to be read again.
    pub(crate) fn resumed(&self, partition: &TopicPartition) {
        self.inner().paused.remove(partition);
    }

    /// [`StreamError::Silent`] once a partition has fallen silent. Costs nothing: called per record.
    pub(crate) fn check(&self) -> Result<(), StreamError> {
        match self.silent.get() {
            Some(partition) => Err(StreamError::Silent { partition: partition.clone() }),
            None => Ok(()),
        }
    }

    fn partitions(&self) -> Vec<TopicPartition> {
        self.inner().places.keys().cloned().collect()
    }

    /// Holds a partition's place against its end. Returns the records between them.
    fn judge(&self, partition: &TopicPartition, end: i64) -> i64 {
        let mut inner = self.inner();
        let is_paused = inner.paused.contains(partition);
        let Some(place) = inner.places.get_mut(partition) else { return 0 };
        // The end of the round before: what has come since may be under way.
        let missed = place
            .before
            .is_some_and(|(next, end)| next == place.next && place.next >= 0 && place.next < end);
        let stands = missed && place.queued == 0 && !is_paused;
        place.still = if stands { place.still + 1 } else { 0 };
        place.before = Some((place.next, end));
        let (lag, still) = ((end - place.next.max(0)).max(0) + place.queued, place.still);
        if still >= STILL {
            self.silent.get_or_init(|| partition.clone());
        }
        lag
    }
}

/// The thread that asks for the ends. Stops when dropped.
pub(crate) struct Watch {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn start(
        connection: &Connection,
        job: &'static str,
        group: &str,
        sight: &Arc<Sight>,
    ) -> Result<Self, StreamError> {
        Self::every(EVERY, connection, job, group, sight)
    }

    /// [`start`](Self::start) with another period.
    pub(crate) fn every(
        period: Duration,
        connection: &Connection,
        job: &'static str,
        group: &str,
        sight: &Arc<Sight>,
    ) -> Result<Self, StreamError> {
        let client: BaseConsumer<Quiet> = connection
            .reader(job, group)
            .create_with_context(Quiet)
            .map_err(|error| StreamError::Settings(error.to_string()))?;
        let (stop, stopped) = mpsc::channel();
        let sight = Arc::clone(sight);
        let rounds = move || {
            let mut lags = HashMap::new();
            while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                round(job, &client, &sight, &mut lags);
            }
        };
        let thread = thread::Builder::new()
            .name("watch".to_owned())
            .spawn(rounds)
            .map_err(StreamError::state)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It had nothing to lose.
            let _ = thread.join();
        }
    }
}

/// Asks for every end once. A partition whose end is not known now is left for the next round. In
/// `lags` are the topics of the rounds before: what is no longer ours does not wait for us.
fn round(
    job: &'static str,
    client: &BaseConsumer<Quiet>,
    sight: &Sight,
    lags: &mut HashMap<String, i64>,
) {
    lags.values_mut().for_each(|lag| *lag = 0);
    for partition in sight.partitions() {
        let number = partition.partition;
        match client.fetch_watermarks(&partition.topic, number, CALL) {
            Ok((_, end)) => {
                let lag = sight.judge(&partition, end);
                *lags.entry(partition.topic).or_default() += lag;
            }
            Err(error) => tracing::debug!(%error, ?partition, "end not known"),
        }
    }
    for (topic, lag) in lags {
        metrics::gauge!("mailpulse_lag_records", "job" => job, "topic" => topic.clone())
            .set(*lag as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> TopicPartition {
        TopicPartition { topic: "t".to_owned(), partition: 3 }
    }

    fn at(sight: &Sight, next: i64, queued: i64) {
        let mut inner = sight.inner();
        let place = inner.places.entry(partition()).or_default();
        (place.next, place.queued) = (next, queued);
    }

    /// In how many rounds of `(next, queued, end)` the partition is given up.
    fn silent_after(sight: &Sight, rounds: &[(i64, i64, i64)]) -> Option<usize> {
        rounds.iter().position(|&(next, queued, end)| {
            at(sight, next, queued);
            sight.judge(&partition(), end);
            sight.check().is_err()
        })
    }

    #[test]
    fn a_partition_that_does_not_move_towards_its_end_is_silent() {
        assert_eq!(silent_after(&Sight::default(), &[(5, 0, 9); 9]), Some(STILL as usize));
    }

    #[test]
    fn one_that_moves_waits_for_us_or_has_nothing_to_read_is_not() {
        let moves: Vec<_> = (0..20).map(|n| (n, 0, 100)).collect();
        assert_eq!(silent_after(&Sight::default(), &moves), None);
        assert_eq!(silent_after(&Sight::default(), &[(5, 1, 9); 20]), None, "our own slowness");
        assert_eq!(silent_after(&Sight::default(), &[(9, 0, 9); 20]), None);
        assert_eq!(silent_after(&Sight::default(), &[(-1001, 0, 9); 20]), None, "not begun");
        let paused = Sight::default();
        paused.paused(&partition());
        assert_eq!(silent_after(&paused, &[(5, 0, 9); 20]), None);
        paused.resumed(&partition());
        assert!(silent_after(&paused, &[(5, 0, 9); 20]).is_some());
    }

    #[test]
    fn lag_is_what_is_between_here_and_the_end() {
        let sight = Sight::default();
        at(&sight, 5, 2);
        assert_eq!(sight.judge(&partition(), 9), 6, "four to fetch, two to hand over");
        at(&sight, 9, 0);
        assert_eq!(sight.judge(&partition(), 9), 0);
    }
}
