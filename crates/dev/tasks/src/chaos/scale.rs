//! Settings that depend on the length of a run.

use std::time::Duration;

use super::mail::CLOSING_GAP;
use super::pace::Pace;
use super::schedule::{Length, Schedule};
use super::{Arguments, now_micros};

pub(super) struct Scale {
    pub(super) length: Length,
    pub(super) pace: Pace,
    /// How far, in real time, requests and partitions may drift apart in an outage before events are
    /// late.
    drift: Duration,
    /// How long to wait until the comparison balances.
    pub(super) settle_timeout: Duration,
}

impl Scale {
    pub(super) fn of(arguments: &Arguments) -> Self {
        let pace = if arguments.compressed { Pace::Compressed } else { Pace::Live };
        let minutes = Duration::from_secs(60 * arguments.minutes);
        if arguments.short {
            let (drift, settle_timeout) = (Duration::from_secs(60), Duration::from_secs(90));
            Self { length: Length::Short, pace, drift, settle_timeout }
        } else {
            let settle_timeout = Duration::from_secs(180) + minutes / 6;
            let length = Length::Minutes(arguments.minutes);
            Self { length, pace, drift: Duration::from_secs(150), settle_timeout }
        }
    }

    /// Microseconds of event time.
    pub(super) fn out_of_orderness(&self) -> i64 {
        self.pace.event_time(self.drift.as_secs().cast_signed())
    }

    /// Returns the event time of the first event. If it is compressed, it is so long ago that all event time
    /// of the run is in the past, even if servers need twice the planned time to restart: an event from the
    /// future hardly moves the watermark.
    pub(super) fn event_time_start(&self, schedule: &Schedule) -> anyhow::Result<i64> {
        if self.pace == Pace::Live {
            return now_micros();
        }
        let length = schedule.duration() * 2 + Duration::from_secs(300);
        let length = self.pace.event_time(i64::try_from(length.as_secs())?);
        Ok(now_micros()? - length - CLOSING_GAP - self.out_of_orderness())
    }
}
