//! Merges partitions of the same number by time.
//!
//! A stage with several topics gets what the broker sends first. After a stall, a topic with few records
//! is read to its end long before one with many. If the topics are the kinds of events, the output then
//! begins with bounces whose deliveries come later. [`Siblings`] therefore takes the record with the least
//! time among the partitions of a number, and waits for a partition that may have more records.
//!
//! Records that must wait stay in the queues of librdkafka, which are bounded. Only the first record of
//! each partition is held here, and is not committed before it was processed.

use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;

use crate::Record;

/// How the records of partitions with the same number are put into one order.
#[derive(Debug, Clone, Copy)]
pub struct Alignment {
    /// Returns the time of a record in any unit; the record with the least is next. A record without a time
    /// is next as soon as it is the first of its partition.
    pub time: fn(&Record<'_>) -> Option<i64>,
    /// The longest time to wait for a partition that may have more records but delivers none. It is then
    /// left out until it delivers one.
    pub wait: Duration,
    /// The topics whose records must not come before earlier ones of certain other topics.
    pub lead: Option<Lead>,
}

/// Topics that others follow.
///
/// A partition at its end is not awaited. But records that were received at the same time reach the topics one after the
/// other, so the end may be that of a moment ago. A record of a follower therefore waits until its leaders have been
/// read up to its time.
#[derive(Debug, Clone, Copy)]
pub struct Lead {
    /// Positions in [`Inputs::topics`](crate::Inputs::topics).
    pub leaders: &'static [usize],
    /// Positions in [`Inputs::topics`](crate::Inputs::topics).
    pub followers: &'static [usize],
    /// The longest time to wait for leaders at their end. They are then no longer awaited until they deliver a record, so
    /// that a leader without traffic does not delay one follower after the other. Unlike [`Alignment::wait`], this
    /// often happens and says nothing about the broker, so it is not counted.
    pub wait: Duration,
}

/// The records of one partition, in their order.
pub(super) trait Source {
    type Record;

    /// Returns what comes next, without waiting.
    fn poll(&self) -> Next<Self::Record>;
}

/// What comes next in a partition.
pub(super) enum Next<R> {
    /// A record with its time.
    Record(i64, R),
    /// The end of the partition.
    End,
    /// Nothing yet. The partition may have more records.
    Nothing,
    Failed(KafkaError),
}

/// The time of records without one: they are next at once.
pub(super) const NO_TIME: i64 = i64::MIN;

/// The partitions of one number, in the order of their topics.
pub(super) struct Siblings<S: Source> {
    partitions: Vec<Partition<S>>,
    lead: Option<Lead>,
    /// Since when records wait for a partition that may have more.
    waiting_since: Option<Instant>,
    /// The position and time of the record that waits for its leaders, and since when it does.
    following: Option<(usize, i64, Instant)>,
}

struct Partition<S: Source> {
    source: S,
    /// Whether this member reads the partition.
    is_read: bool,
    /// The first record that was not taken, and its time.
    first: Option<(i64, S::Record)>,
    /// The time of the record that it delivered last.
    latest: i64,
    /// Whether followers no longer wait for it, until it delivers a record.
    is_unfollowed: bool,
    state: State,
}

/// What is known about a partition without a first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It may have more records, so the others wait.
    MayHaveMore,
    /// Its end was reached.
    AtEnd,
    /// It did not deliver a record in time, so the others no longer wait for it.
    LeftOut,
}

/// What [`Siblings::take`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Taken {
    pub(super) records: usize,
    /// The number of partitions that are left out from now on.
    pub(super) left_out: usize,
}

impl<S: Source> Siblings<S> {
    pub(super) fn new(sources: impl IntoIterator<Item = S>, lead: Option<Lead>) -> Self {
        let partition = |source| {
            let (first, latest, state) = (None, NO_TIME, State::MayHaveMore);
            Partition { source, is_read: false, first, latest, is_unfollowed: false, state }
        };
        let partitions = sources.into_iter().map(partition).collect();
        Self { partitions, lead, waiting_since: None, following: None }
    }

    /// Reads only the partitions for which `is_read` returns true.
    pub(super) fn set_read(&mut self, is_read: impl Fn(&S) -> bool) {
        for partition in &mut self.partitions {
            partition.is_read = is_read(&partition.source);
        }
    }

    /// Forgets what was read of a partition, which will be read again or by another member. Returns whether
    /// that was anything.
    pub(super) fn forget(&mut self, is_meant: impl Fn(&S) -> bool) -> bool {
        let partition = self.partitions.iter_mut().find(|partition| is_meant(&partition.source));
        partition.is_some_and(|partition| {
            partition.state = State::MayHaveMore;
            partition.latest = NO_TIME;
            partition.first.take().is_some()
        })
    }

    /// Passes up to `limit` records to `receive`, in the order of their times, until it returns false.
    /// Stops earlier if there are no more, if a partition without a first record may have more, or if the next
    /// record waits for its leaders. After `wait` the others no longer wait for such a partition.
    ///
    /// # Errors
    /// Returns the error of a partition. Nothing is lost: what was read is taken by the next call.
    pub(super) fn take(
        &mut self,
        limit: usize,
        wait: Duration,
        mut receive: impl FnMut(S::Record) -> bool,
    ) -> Result<Taken, KafkaError> {
        for partition in &mut self.partitions {
            partition.read_first()?;
        }
        let mut taken = Taken { records: 0, left_out: self.leave_out_slow(wait) };
        while taken.records < limit && !self.must_wait() {
            let Some((position, time)) = self.next() else { break };
            if self.waits_for_leaders(position, time) {
                break;
            }
            let next = &mut self.partitions[position];
            let Some((_, record)) = next.first.take() else { break };
            taken.records += 1;
            let goes_on = receive(record);
            next.read_first()?;
            if !goes_on {
                break;
            }
        }
        if taken.records > 0 {
            self.waiting_since = None;
        }
        Ok(taken)
    }

    /// Returns the position of the partition with the next record, and its time.
    fn next(&self) -> Option<(usize, i64)> {
        let read = self.partitions.iter().enumerate().filter(|(_, partition)| partition.is_read);
        let firsts = read.filter_map(|(at, partition)| Some((at, partition.first.as_ref()?.0)));
        firsts.min_by_key(|(_, time)| *time)
    }

    /// Whether the next record waits for leaders that may not have reached its time.
    fn waits_for_leaders(&mut self, position: usize, time: i64) -> bool {
        let Some(lead) = self.lead.filter(|lead| lead.followers.contains(&position)) else {
            return false;
        };
        let leaders = self.partitions.iter_mut().enumerate();
        let mut behind: Vec<_> = leaders
            .filter(|(at, it)| lead.leaders.contains(at) && it.may_be_behind(time))
            .map(|(_, leader)| leader)
            .collect();
        if behind.is_empty() {
            return false;
        }
        let now = Instant::now();
        let since = match self.following {
            Some((at, of, since)) if (at, of) == (position, time) => since,
            _ => now,
        };
        self.following = Some((position, time, since));
        let waits = now.duration_since(since) < lead.wait;
        if !waits {
            behind.iter_mut().for_each(|leader| leader.is_unfollowed = true);
        }
        waits
    }

    fn must_wait(&self) -> bool {
        self.partitions.iter().any(Partition::is_awaited)
    }

    /// Leaves the awaited partitions out if a record has waited for them long enough. Returns how many.
    fn leave_out_slow(&mut self, wait: Duration) -> usize {
        let has_record = self.partitions.iter().any(|it| it.is_read && it.first.is_some());
        if !has_record || !self.must_wait() {
            self.waiting_since = None;
            return 0;
        }
        if self.waiting_since.get_or_insert_with(Instant::now).elapsed() < wait {
            return 0;
        }
        self.waiting_since = None;
        let awaited = self.partitions.iter_mut().filter(|partition| partition.is_awaited());
        awaited.map(|partition| partition.state = State::LeftOut).count()
    }
}

impl<S: Source> Partition<S> {
    fn is_awaited(&self) -> bool {
        self.is_read && self.first.is_none() && self.state == State::MayHaveMore
    }

    /// Whether it has been read to its end, but not up to this time.
    fn may_be_behind(&self, time: i64) -> bool {
        let is_at_end = self.first.is_none() && self.state == State::AtEnd;
        self.is_read && is_at_end && !self.is_unfollowed && self.latest < time
    }

    /// Reads the first record, unless it is there.
    fn read_first(&mut self) -> Result<(), KafkaError> {
        while self.is_read && self.first.is_none() {
            match self.source.poll() {
                Next::Record(time, record) => {
                    self.first = Some((time, record));
                    (self.latest, self.is_unfollowed) = (time, false);
                    self.state = State::MayHaveMore;
                }
                Next::End => self.state = State::AtEnd,
                Next::Nothing => break,
                Next::Failed(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
