//! How far event time has come.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What fold tells every pane partition of one event partition; the value of the records of
/// `mail.panes` whose key is [`Watermark::key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watermark {
    /// The event partition.
    pub(crate) partition: i32,
    /// No event older than this is expected of it, UTC microseconds; none known yet when absent.
    pub(crate) watermark: Option<i64>,
    /// Its end is reached and nothing has come for a while: it holds nobody back.
    pub(crate) idle: bool,
}

const KEY: &str = "watermark/";

impl Watermark {
    pub(crate) fn key(&self) -> String {
        format!("{KEY}{}", self.partition)
    }

    /// Whether a record of `mail.panes` is a watermark; no scope's key begins like one.
    pub(crate) fn is_key(key: &[u8]) -> bool {
        key.starts_with(KEY.as_bytes())
    }
}

/// The clock of a pane partition: the least watermark of the event partitions that are not idle.
///
/// It stands still until every event partition has been heard of: one that is merely behind, after
/// a restart or on replay, must hold the others back, or its events would be late.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Clock {
    heard: BTreeMap<i32, (Option<i64>, bool)>,
    now: Option<i64>,
}

impl Clock {
    /// Takes a watermark in; returns the new time if that moved the clock. It never goes back.
    pub(crate) fn hear(&mut self, told: Watermark, event_partitions: i32) -> Option<i64> {
        self.heard.insert(told.partition, (told.watermark, told.idle));
        let everyone = usize::try_from(event_partitions).unwrap_or(usize::MAX);
        if self.heard.len() < everyone {
            return None;
        }
        let next = self.least()?;
        if self.now.is_some_and(|now| next <= now) {
            return None;
        }
        self.now = Some(next);
        self.now
    }

    /// Of those that are not idle the least; when all are idle there is nobody to wait for and the
    /// greatest holds.
    fn least(&self) -> Option<i64> {
        let mut busy = self.heard.values().filter(|(_, idle)| !idle).peekable();
        if busy.peek().is_none() {
            return self.heard.values().filter_map(|(watermark, _)| *watermark).max();
        }
        // One that has told no time yet holds the clock.
        busy.map(|(watermark, _)| *watermark).min().flatten()
    }

    /// The time, UTC microseconds; the distant past before it is known.
    pub(crate) fn now(&self) -> i64 {
        self.now.unwrap_or(i64::MIN / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(partition: i32, watermark: Option<i64>, idle: bool) -> Watermark {
        Watermark { partition, watermark, idle }
    }

    #[test]
    fn the_slowest_busy_partition_is_the_clock() {
        let mut clock = Clock::default();
        assert_eq!(clock.hear(told(0, Some(50), false), 3), None, "two were not heard of");
        assert_eq!(clock.hear(told(1, Some(40), false), 3), None);
        assert_eq!(clock.hear(told(2, None, false), 3), None, "busy, and told no time yet");
        assert_eq!(clock.hear(told(2, None, true), 3), Some(40));
        assert_eq!(clock.hear(told(1, Some(60), false), 3), Some(50));
        assert_eq!(clock.hear(told(2, Some(10), false), 3), None, "never goes back");
        assert_eq!(clock.now(), 50);
    }

    #[test]
    fn when_all_are_idle_the_newest_time_holds() {
        let mut clock = Clock::default();
        clock.hear(told(0, Some(50), true), 2);
        assert_eq!(clock.hear(told(1, Some(70), true), 2), Some(70));
    }
}
