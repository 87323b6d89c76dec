//! How far event time has come.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How much is still to be expected of an event partition. The passing of real time enters the
/// monitor here and nowhere else, and it moves no number: only when windows are held to be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Presence {
    /// Records come, or may lie unread: nobody goes ahead of it.
    Busy,
    /// Its end was reached and nothing has come for a while. It may really have nothing to say, or
    /// whoever feeds it has just crashed: others go ahead, but never so far that what it then
    /// brings is too late.
    Quiet,
    /// Quiet for so long that nobody waits for it.
    Gone,
}

/// How far one event partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The newest event time less the out-of-orderness, UTC microseconds; absent before the first
    /// event.
    pub(crate) watermark: Option<i64>,
    /// What is still to be expected.
    pub(crate) presence: Presence,
}

impl Default for Progress {
    fn default() -> Self {
        Self { watermark: None, presence: Presence::Busy }
    }
}

/// What a member of fold tells every pane partition of its event partitions, by their number: the
/// value of the records of `mail.panes` under [`Watermarks::KEY`]. Those in one record are of one
/// moment: none of them is ahead because another's has not been heard yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Watermarks(pub(crate) BTreeMap<i32, Progress>);

impl Watermarks {
    /// No scope's key is this one: they all begin with their kind and a slash.
    pub(crate) const KEY: &[u8] = b"watermarks";
}

/// For whom the clock waits, and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// How many event partitions there are.
    pub(crate) event_partitions: usize,
    /// How far, in microseconds of event time, a quiet partition may be left behind.
    pub(crate) slack: i64,
    /// By how much, in microseconds, every watermark is behind its partition's newest event.
    pub(crate) out_of_orderness: i64,
}

/// The clock of a pane partition: the least watermark of the event partitions that are busy.
///
/// It stands still until every event partition has been heard of: one that is merely behind, after
/// a restart or on replay, must hold the others back, or its events would be late.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Clock {
    heard: BTreeMap<i32, Progress>,
    now: Option<i64>,
}

impl Clock {
    /// Takes watermarks in; says whether that moved the clock. It never goes back.
    pub(crate) fn hear(&mut self, told: &Watermarks, patience: Patience) -> bool {
        self.heard.extend(&told.0);
        let next = self.reached(patience).filter(|&next| self.now.is_none_or(|now| now < next));
        if next.is_some() {
            self.now = next;
        }
        next.is_some()
    }

    /// The newest watermark, unless somebody is waited for.
    ///
    /// When all are gone, nothing out of order is to come any more, and the newest event is the
    /// time: the last windows of a day close although nothing follows.
    fn reached(&self, patience: Patience) -> Option<i64> {
        let Patience { event_partitions, slack, out_of_orderness } = patience;
        if self.heard.len() < event_partitions {
            return None;
        }
        let mut reached = self.heard.values().filter_map(|progress| progress.watermark).max()?;
        if self.heard.values().all(|progress| progress.presence == Presence::Gone) {
            return Some(reached.saturating_add(out_of_orderness));
        }
        for Progress { watermark, presence } in self.heard.values() {
            reached = match (presence, watermark) {
                (Presence::Busy, watermark) => reached.min((*watermark)?),
                (Presence::Quiet, Some(watermark)) => reached.min(watermark.saturating_add(slack)),
                (Presence::Quiet, None) | (Presence::Gone, _) => reached,
            };
        }
        Some(reached)
    }

    /// The time, UTC microseconds; the distant past before it is known.
    pub(crate) fn now(&self) -> i64 {
        self.now.unwrap_or(i64::MIN / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::Presence::{Busy, Gone, Quiet};
    use super::*;

    const PATIENCE: Patience = Patience { event_partitions: 3, slack: 100, out_of_orderness: 7 };

    /// The clock after it heard, record by record, of partitions, watermarks and presences.
    fn time_after(told: &[&[(i32, Option<i64>, Presence)]]) -> Option<i64> {
        let mut clock = Clock::default();
        for record in told {
            let progress =
                |&(partition, watermark, presence)| (partition, Progress { watermark, presence });
            let before = clock.now;
            let moved = clock.hear(&Watermarks(record.iter().map(progress).collect()), PATIENCE);
            assert_eq!(moved, clock.now != before);
            assert!(clock.now >= before, "it went back");
        }
        clock.now
    }

    #[test]
    fn the_slowest_busy_partition_is_the_clock() {
        let start = [(0, Some(50), Busy), (1, Some(40), Busy), (2, Some(70), Busy)];
        assert_eq!(time_after(&[&start]), Some(40));
        assert_eq!(time_after(&[&start, &[(1, Some(60), Busy)]]), Some(50));
        assert_eq!(time_after(&[&start, &[(1, Some(60), Busy), (0, Some(90), Busy)]]), Some(60));
    }

    #[test]
    fn a_partition_not_heard_of_or_without_events_yet_holds_it() {
        let two = [(0, Some(50), Busy), (1, Some(40), Gone)];
        assert_eq!(time_after(&[&two]), None);
        assert_eq!(time_after(&[&two, &[(2, None, Busy)]]), None);
        assert_eq!(time_after(&[&two, &[(2, None, Busy)], &[(2, None, Quiet)]]), Some(50));
    }

    #[test]
    fn when_all_are_gone_the_newest_event_is_the_time() {
        let gone = [(0, Some(50), Gone), (1, Some(40), Gone), (2, None, Gone)];
        assert_eq!(time_after(&[&gone]), Some(57));
        assert_eq!(time_after(&[&gone, &[(1, Some(60), Busy)]]), Some(60));
    }

    #[test]
    fn a_partition_that_comes_back_does_not_turn_it_back() {
        let start = [(0, Some(50), Busy), (1, Some(40), Gone), (2, Some(70), Busy)];
        assert_eq!(time_after(&[&start]), Some(50));
        assert_eq!(time_after(&[&start, &[(1, Some(40), Busy), (0, Some(90), Busy)]]), Some(50));
    }

    #[test]
    fn a_quiet_partition_is_left_behind_by_the_slack_at_most() {
        let quiet = [(0, Some(1000), Busy), (1, Some(40), Quiet), (2, None, Quiet)];
        assert_eq!(time_after(&[&quiet]), Some(140));
        assert_eq!(time_after(&[&quiet, &[(1, Some(40), Gone)]]), Some(1000));
    }

    #[test]
    fn when_nobody_is_busy_the_newest_time_holds() {
        assert_eq!(
            time_after(&[&[(0, Some(50), Quiet), (1, Some(70), Gone), (2, None, Gone)]]),
            Some(70)
        );
        assert_eq!(time_after(&[&[(0, None, Gone), (1, None, Quiet), (2, None, Gone)]]), None);
    }
}
