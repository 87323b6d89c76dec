//! How event time passes in a run.

use std::time::Duration;

use super::mail::{MINUTE, SECOND};

/// How much faster event time is than real time if it is compressed: an hour of event time is a minute.
const COMPRESSION: i64 = 60;
/// Between two events of an ordered recipient.
const ORDERED_GAP: Duration = Duration::from_millis(250);

/// The relation between event time and real time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Events happen when they are posted, and time records make time pass, as in production.
    Live,
    /// An hour of event time takes a minute. Real time says nothing about it, so there are no time records:
    /// only events move the clock.
    Compressed,
}

impl Pace {
    /// Returns how many times faster event time is than real time.
    pub(crate) const fn factor(self) -> i64 {
        match self {
            Self::Live => 1,
            Self::Compressed => COMPRESSION,
        }
    }

    /// Converts a distance in event time, in microseconds, to real time.
    pub(crate) fn real_time(self, micros: i64) -> Duration {
        Duration::from_micros(u64::try_from(micros / self.factor()).unwrap_or(0))
    }

    /// Returns the event time of some seconds of real time, in microseconds.
    pub(crate) const fn event_time(self, seconds: i64) -> i64 {
        seconds * SECOND * self.factor()
    }

    /// Returns the real time between two events of an ordered recipient. Their event times differ by a second
    /// at least, and must not run ahead of real time.
    pub(crate) const fn ordered_gap(self) -> Duration {
        match self {
            Self::Live => Duration::from_secs(1),
            Self::Compressed => ORDERED_GAP,
        }
    }

    /// Returns the keys of `[ingress]`.
    pub(crate) fn ingress(self) -> String {
        match self {
            Self::Live => String::new(),
            Self::Compressed => crate::pipeline::TIME_OF_EVENTS.to_owned(),
        }
    }

    /// Returns the keys of `[monitor]`. `out_of_orderness` is in event time, in microseconds. If event time
    /// is compressed, hours of it may be out of order, and monitor waits for idle partitions: then only events
    /// move its watermark, and no number depends on the length of an outage.
    pub(crate) fn monitor(self, out_of_orderness: i64) -> String {
        let keys = match self {
            Self::Live => String::new(),
            Self::Compressed => {
                let minutes = out_of_orderness / MINUTE;
                format!("out_of_orderness = \"{minutes}m\"\nidle_after = \"2h\"\n")
            }
        };
        keys + "publish = \"all\"\n"
    }
}
