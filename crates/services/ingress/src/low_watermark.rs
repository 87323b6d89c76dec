//! Until when this process has passed everything that it received on to Kafka.
//!
//! A time record promises that all events that were received before its time precede it in the log. So
//! its time must not be later than the time of receipt of any request that is still on its way: one that
//! is being handled, one whose records are in the queue of the producer, or one in the spool.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use event::ReceivedAt;
use spool::{Part, Parts};

use crate::lock::lock;

/// Requests are counted by their time of receipt in steps, so that few counts are needed. Microseconds.
const HANDLED_STEP: i64 = 10_000;
/// The same for requests in the spool, which may have those of days.
const SPOOLED_STEP: i64 = 1_000_000;

/// The clock of the ingress, which stamps requests and time records. Tests have another one.
pub(crate) type Clock = Box<dyn Fn() -> ReceivedAt + Send + Sync>;

pub(crate) struct LowWatermark {
    clock: Clock,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    handled: Counts,
    spooled: Counts,
    /// Requests whose clients have left while their records were being published. librdkafka may still
    /// deliver these until the given time.
    abandoned: VecDeque<(Instant, i64)>,
    /// Whether the spool has requests of an earlier process, whose times of receipt are not counted.
    has_recovered: bool,
}

/// A request that is being handled.
pub(crate) struct Received<'w> {
    watermark: &'w LowWatermark,
    at: ReceivedAt,
    /// How long records may be delivered after the request was abandoned. `None` if there are none.
    deliverable: Option<Duration>,
}

impl LowWatermark {
    /// `has_recovered` tells whether the spool has requests of an earlier process.
    pub(crate) fn new(clock: Clock, has_recovered: bool) -> Self {
        let held = Held {
            handled: Counts::new(HANDLED_STEP),
            spooled: Counts::new(SPOOLED_STEP),
            abandoned: VecDeque::new(),
            has_recovered,
        };
        Self { clock, held: Mutex::new(held) }
    }

    /// Reads the clock.
    pub(crate) fn now(&self) -> ReceivedAt {
        (self.clock)()
    }

    /// Stamps a request. Its time of receipt is held until the result is dropped.
    pub(crate) fn receive(&self) -> Received<'_> {
        // The clock is read under the lock: otherwise `time` could pass the time of this request before
        // it is held.
        let mut held = self.held();
        let at = self.now();
        held.handled.add(at.micros(), 1);
        Received { watermark: self, at, deliverable: None }
    }

    /// Holds the time of receipt of a request that is about to be written to the spool.
    pub(crate) fn spool(&self, at: ReceivedAt) {
        self.held().spooled.add(at.micros(), 1);
    }

    /// Releases a request that could not be written to the spool.
    pub(crate) fn not_spooled(&self, at: ReceivedAt) {
        self.held().spooled.add(at.micros(), -1);
    }

    /// Releases the requests of a segment of the spool, all of which are published.
    pub(crate) fn segment_published(&self, segment: &[u8]) {
        let mut held = self.held();
        if held.has_recovered {
            return; // some of them were never counted
        }
        for (_, part) in Parts::from_offset(segment, 0) {
            if let Part::Entry(payload) = part
                && let Some((headers, _)) = spool::request::decode(payload)
            {
                held.spooled.add(headers.received_at.micros(), -1);
            }
        }
    }

    /// The spool is empty, and nothing is being written to it.
    pub(crate) fn spool_is_empty(&self) {
        let mut held = self.held();
        held.has_recovered = false;
        // Requests that could not be read again were counted, and not released one by one.
        held.spooled.counts.clear();
    }

    /// Returns the time up to which everything is in Kafka: now, or the time of the oldest request that
    /// may not be there. UTC microseconds. `None` while the spool has requests of an earlier process.
    pub(crate) fn time(&self) -> Option<i64> {
        let mut held = self.held();
        if held.has_recovered {
            return None;
        }
        let now = self.now().micros();
        held.release_abandoned(Instant::now());
        let oldest = [held.handled.oldest(), held.spooled.oldest()].into_iter().flatten().min();
        Some(oldest.map_or(now, |oldest| oldest.min(now)))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        lock(&self.held)
    }
}

impl Held {
    fn release_abandoned(&mut self, now: Instant) {
        while let Some((_, at)) = self.abandoned.pop_front_if(|(until, _)| *until <= now) {
            self.handled.add(at, -1);
        }
    }
}

impl Received<'_> {
    /// Returns the time of receipt.
    pub(crate) const fn at(&self) -> ReceivedAt {
        self.at
    }

    /// From now on records of the request are in the queue of the producer. If the request ends before
    /// [`Received::durable`], they may be delivered for `timeout`.
    pub(crate) const fn publishing(&mut self, timeout: Duration) {
        self.deliverable = Some(timeout);
    }

    /// Every record of the request is in Kafka or in the spool.
    pub(crate) fn durable(mut self) {
        self.deliverable = None;
    }
}

impl Drop for Received<'_> {
    fn drop(&mut self) {
        let at = self.at.micros();
        let mut held = self.watermark.held();
        match self.deliverable {
            None => held.handled.add(at, -1),
            // All timeouts are the same, so the queue is in order.
            Some(timeout) => held.abandoned.push_back((Instant::now() + timeout, at)),
        }
    }
}

/// Counts requests by their time of receipt.
#[derive(Debug)]
struct Counts {
    step: i64,
    counts: BTreeMap<i64, i64>,
}

impl Counts {
    const fn new(step: i64) -> Self {
        Self { step, counts: BTreeMap::new() }
    }

    fn add(&mut self, at: i64, difference: i64) {
        let key = at.div_euclid(self.step);
        let count = self.counts.entry(key).or_default();
        *count += difference;
        if *count == 0 {
            self.counts.remove(&key);
        }
    }

    /// Returns a time that is not later than the oldest, by less than a step.
    fn oldest(&self) -> Option<i64> {
        self.counts.first_key_value().map(|(key, _)| key * self.step)
    }
}

/// Reads the clock of the system.
#[expect(clippy::disallowed_methods, reason = "this is where received_at comes from")]
pub(crate) fn system_clock() -> ReceivedAt {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ReceivedAt(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use event::Provider;
    use record::RawHeaders;

    use super::*;

    const SECOND: i64 = 1_000_000;
    const START: i64 = 1_795_255_200_000_000;

    struct Fixture {
        now: Arc<AtomicI64>,
        watermark: LowWatermark,
    }

    impl Fixture {
        fn new(has_recovered: bool) -> Self {
            let now = Arc::new(AtomicI64::new(START));
            let read = Arc::clone(&now);
            let clock = Box::new(move || ReceivedAt(read.load(Ordering::Relaxed)));
            Self { now, watermark: LowWatermark::new(clock, has_recovered) }
        }

        fn set(&self, seconds: i64) {
            self.now.store(START + seconds * SECOND, Ordering::Relaxed);
        }

        /// Returns the time in seconds since the start.
        fn time(&self) -> Option<i64> {
            self.watermark.time().map(|time| (time - START) / SECOND)
        }
    }

    #[test]
    fn a_request_holds_the_time_until_it_is_durable_or_rejected() {
        let fixture = Fixture::new(false);
        fixture.set(1);
        let first = fixture.watermark.receive();
        fixture.set(2);
        let mut second = fixture.watermark.receive();
        fixture.set(9);
        assert_eq!(fixture.time(), Some(1));
        drop(first);
        assert_eq!(fixture.time(), Some(2), "the first was rejected before it was published");
        second.publishing(Duration::from_secs(3600));
        assert_eq!(fixture.time(), Some(2));
        second.durable();
        assert_eq!(fixture.time(), Some(9));
    }

    #[test]
    fn records_of_an_abandoned_request_hold_the_time_while_they_can_be_delivered() {
        let fixture = Fixture::new(false);
        let abandon = |timeout| {
            let mut request = fixture.watermark.receive();
            request.publishing(timeout);
        };
        abandon(Duration::ZERO);
        fixture.set(5);
        assert_eq!(fixture.time(), Some(5));
        abandon(Duration::from_secs(3600));
        fixture.set(9);
        assert_eq!(fixture.time(), Some(5), "the records of the second may still be delivered");
        fixture.watermark.held().release_abandoned(Instant::now() + Duration::from_secs(3601));
        assert_eq!(fixture.time(), Some(9));
    }

    #[test]
    fn spooled_requests_hold_the_time_until_their_segment_is_published() {
        let fixture = Fixture::new(false);
        let (first, second) = (ReceivedAt(START), ReceivedAt(START + 2 * SECOND));
        fixture.watermark.spool(first);
        fixture.watermark.spool(second);
        fixture.set(9);
        assert_eq!(fixture.time(), Some(0));
        fixture.watermark.segment_published(&segment(&[first]));
        assert_eq!(fixture.time(), Some(2));
        fixture.watermark.not_spooled(second);
        assert_eq!(fixture.time(), Some(9));
        // It cannot be read again, but the spool is empty at last.
        fixture.watermark.spool(first);
        fixture.watermark.spool_is_empty();
        assert_eq!(fixture.time(), Some(9));
    }

    #[test]
    fn there_is_no_time_while_the_spool_has_requests_of_an_earlier_process() {
        let fixture = Fixture::new(true);
        assert_eq!(fixture.time(), None);
        fixture.watermark.segment_published(&segment(&[ReceivedAt(START)]));
        assert_eq!(fixture.time(), None, "there may be more segments");
        fixture.watermark.spool_is_empty();
        assert_eq!(fixture.time(), Some(0));
    }

    #[test]
    fn a_clock_that_is_set_back_takes_the_time_back() {
        let fixture = Fixture::new(false);
        fixture.set(9);
        let _later = fixture.watermark.receive();
        fixture.set(3);
        let _earlier = fixture.watermark.receive();
        assert_eq!(fixture.time(), Some(3));
    }

    /// Returns a segment with requests that were received at these times.
    fn segment(times: &[ReceivedAt]) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let (mut spool, _) = spool::Spool::open(directory.path(), 1 << 20).unwrap();
        let entry = |&received_at| {
            let headers = RawHeaders {
                provider: Provider::Generic,
                source: "s",
                received_at,
                request_id: "r",
                authentic: true,
            };
            spool::request::encode(&headers, b"{}").unwrap()
        };
        spool.append(&times.iter().map(entry).collect::<Vec<_>>()).unwrap();
        spool.first_segment().unwrap().unwrap().1
    }
}
