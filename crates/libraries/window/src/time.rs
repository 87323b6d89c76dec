use std::fmt;

use event::OccurredAt;
use serde::{Deserialize, Serialize};

/// The duration of a pane and the distance between slide ends, in microseconds.
pub const PANE: i64 = 10_000_000;

/// In microseconds.
const MINUTE: i64 = 60_000_000;
/// In microseconds.
const HOUR: i64 = 60 * MINUTE;

/// The pane start that is farthest from the epoch, in both directions (about 73,000 years). Adding a
/// width and an allowed lateness to it cannot overflow.
const FARTHEST: i64 = i64::MAX / PANE / 4 * PANE;

/// Rounds event time down to a slide end. Every slide end is also a pane start.
pub(crate) const fn floor(micros: i64) -> i64 {
    floor_to(micros, PANE)
}

/// Rounds event time down to a multiple of `step`.
pub(crate) const fn floor_to(micros: i64, step: i64) -> i64 {
    let within = if micros > FARTHEST {
        FARTHEST
    } else if micros < -FARTHEST {
        -FARTHEST
    } else {
        micros
    };
    within.div_euclid(step) * step
}

/// The first moment of a pane: UTC microseconds since the Unix epoch, a multiple of [`PANE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct PaneStart(i64);

impl PaneStart {
    /// Returns the pane that contains `moment`. A moment more than 73,000 years from the epoch belongs
    /// to the outermost pane.
    pub const fn of(moment: OccurredAt) -> Self {
        Self(floor(moment.0))
    }

    /// Returns the pane that starts at a slide end.
    pub(crate) const fn at(end: i64) -> Self {
        Self(floor(end))
    }

    /// Returns the microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Returns the first moment after the pane. It is the end of the first window that contains it.
    pub const fn end(self) -> i64 {
        self.0 + PANE
    }
}

impl From<PaneStart> for i64 {
    fn from(start: PaneStart) -> Self {
        start.0
    }
}

/// The number is not a pane start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is not the start of a pane; it must be a multiple of {PANE} microseconds within 73,000 \
     years of the epoch"
)]
pub struct NotAPaneStart(pub i64);

impl TryFrom<i64> for PaneStart {
    type Error = NotAPaneStart;

    fn try_from(micros: i64) -> Result<Self, NotAPaneStart> {
        if floor(micros) == micros { Ok(Self(micros)) } else { Err(NotAPaneStart(micros)) }
    }
}

/// The first moment of an hour: UTC microseconds since the Unix epoch. A cohort contains the messages
/// that were sent in one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct HourStart(i64);

impl HourStart {
    /// Returns the hour that contains `moment`. A moment more than 73,000 years from the epoch belongs
    /// to the outermost hour.
    pub const fn of(moment: OccurredAt) -> Self {
        Self(floor_to(moment.0, HOUR))
    }

    /// Returns the microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Returns the hour that ends at `end`.
    pub(crate) const fn before(end: i64) -> Self {
        Self(floor_to(end - 1, HOUR))
    }

    /// Returns the first moment after the hour.
    pub const fn end(self) -> i64 {
        self.0 + HOUR
    }
}

impl From<HourStart> for i64 {
    fn from(start: HourStart) -> Self {
        start.0
    }
}

/// The number is not the start of an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not the start of an hour within 73,000 years of the epoch")]
pub struct NotAnHourStart(pub i64);

impl TryFrom<i64> for HourStart {
    type Error = NotAnHourStart;

    fn try_from(micros: i64) -> Result<Self, NotAnHourStart> {
        let is_start = floor_to(micros, HOUR) == micros;
        if is_start { Ok(Self(micros)) } else { Err(NotAnHourStart(micros)) }
    }
}

/// The panes of one duration that a scope keeps. The index in arrays is `ring as usize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ring {
    /// Panes of ten seconds, for the windows of up to an hour.
    Fine,
    /// Panes of five minutes, for the windows of a day.
    Day,
}

impl Ring {
    pub const ALL: [Self; 2] = [Self::Fine, Self::Day];

    /// Returns the stable name, as in metric labels: the duration of a pane.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "10s",
            Self::Day => "5m",
        }
    }

    /// Returns the duration of a pane, in microseconds.
    pub const fn pane(self) -> i64 {
        match self {
            Self::Fine => PANE,
            Self::Day => 5 * MINUTE,
        }
    }

    /// Returns how long after its end a pane is kept, in microseconds. Until then it accepts deltas.
    pub const fn keeps(self) -> i64 {
        match self {
            Self::Fine => 70 * MINUTE,
            Self::Day => 26 * HOUR,
        }
    }

    /// Returns the pane of this ring that contains a pane of ten seconds.
    pub const fn pane_of(self, pane: PaneStart) -> PaneStart {
        PaneStart(floor_to(pane.0, self.pane()))
    }

    /// Returns the first moment after a pane. It is the end of the first window that contains it.
    pub const fn end(self, start: PaneStart) -> i64 {
        start.0 + self.pane()
    }

    /// Returns the time at which a pane expires.
    pub const fn expiry(self, start: PaneStart) -> i64 {
        self.end(start) + self.keeps()
    }
}

/// The event time that a window spans, or `cohort`. The text forms are `1m`, `5m`, `10m`, `15m`, `30m`,
/// `60m`, `24h` and `cohort`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Width {
    /// One minute.
    #[serde(rename = "1m")]
    M1,
    /// Five minutes.
    #[serde(rename = "5m")]
    M5,
    /// Fifteen minutes.
    #[serde(rename = "15m")]
    M15,
    /// One hour.
    #[serde(rename = "60m")]
    M60,
    /// One day. This window slides every five minutes, the others every ten seconds.
    #[serde(rename = "24h")]
    H24,
    /// Not a window: the messages that were sent in one hour, whenever they were opened or bounced.
    #[serde(rename = "cohort")]
    Cohort,
    /// Ten minutes. Only rules use it; it is not published.
    #[serde(rename = "10m")]
    M10,
    /// Half an hour. Only rules use it; it is not published.
    #[serde(rename = "30m")]
    M30,
}

impl Width {
    /// The widths of windows that are published, the shortest first.
    pub const ALL: [Self; 5] = [Self::M1, Self::M5, Self::M15, Self::M60, Self::H24];

    /// The widths of windows that rules judge, the shortest first.
    pub const JUDGED: [Self; 7] =
        [Self::M1, Self::M5, Self::M10, Self::M15, Self::M30, Self::M60, Self::H24];

    /// The widths of a rule that names none.
    pub const OF_RULES: [Self; 4] = [Self::M1, Self::M5, Self::M15, Self::M60];

    /// The widths of the windows that follow each other without overlap from the epoch on, so that
    /// their sums are the counts of any time: each minute, each hour and each day.
    pub const TUMBLING: [Self; 3] = [Self::M1, Self::M60, Self::H24];

    /// Returns the width in seconds. A cohort has none: 0.
    pub const fn seconds(self) -> u32 {
        match self {
            Self::M1 => 60,
            Self::M5 => 300,
            Self::M10 => 600,
            Self::M15 => 900,
            Self::M30 => 1800,
            Self::M60 => 3600,
            Self::H24 => 86_400,
            Self::Cohort => 0,
        }
    }

    /// Returns the width in microseconds.
    pub const fn micros(self) -> i64 {
        self.seconds() as i64 * 1_000_000
    }

    /// Returns the stable name, as in JSON and TOML.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::M1 => "1m",
            Self::M5 => "5m",
            Self::M10 => "10m",
            Self::M15 => "15m",
            Self::M30 => "30m",
            Self::M60 => "60m",
            Self::H24 => "24h",
            Self::Cohort => "cohort",
        }
    }

    /// Returns the ring whose panes the window consists of.
    pub const fn ring(self) -> Ring {
        match self {
            Self::H24 => Ring::Day,
            _ => Ring::Fine,
        }
    }

    /// Returns the first slide end whose window no longer contains the pane of its ring.
    pub const fn left_by(self, pane: PaneStart) -> i64 {
        self.ring().end(pane) + self.micros()
    }

    /// Returns the end of the tumbling window that contains a pane of its ring.
    pub const fn tumbling_end(self, pane: PaneStart) -> i64 {
        floor_to(pane.0, self.micros()) + self.micros()
    }
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_belongs_to_the_pane_that_started_last() {
        for (moment, start) in [
            (0, 0),
            (PANE - 1, 0),
            (PANE, PANE),
            (-1, -PANE),
            (-PANE, -PANE),
            (-PANE - 1, -2 * PANE),
        ] {
            assert_eq!(PaneStart::of(OccurredAt(moment)).micros(), start, "{moment}");
        }
    }

    #[test]
    fn extreme_moments_do_not_overflow_and_give_valid_panes() {
        for moment in [i64::MIN, i64::MAX] {
            let pane = PaneStart::of(OccurredAt(moment));
            assert_eq!(PaneStart::try_from(pane.micros()), Ok(pane));
            assert_eq!(Width::M60.left_by(pane) - pane.end(), 3_600_000_000);
            let day = Ring::Day.pane_of(pane);
            assert_eq!(Width::H24.left_by(day) - Ring::Day.end(day), 86_400_000_000);
            assert!(Ring::Day.expiry(day) > Width::H24.left_by(day));
            assert_eq!(
                HourStart::try_from(HourStart::of(OccurredAt(moment)).0).map(HourStart::end),
                Ok(HourStart::of(OccurredAt(moment)).0 + HOUR)
            );
        }
    }

    #[test]
    fn only_multiples_of_the_pane_duration_are_pane_starts() {
        assert_eq!(serde_json::from_str::<PaneStart>("20000000").unwrap().micros(), 2 * PANE);
        assert!(serde_json::from_str::<PaneStart>("20000001").is_err());
        assert_eq!(PaneStart::try_from(i64::MAX), Err(NotAPaneStart(i64::MAX)));
    }

    #[test]
    fn width_names_are_the_json_values() {
        for width in Width::JUDGED.into_iter().chain([Width::Cohort]) {
            assert_eq!(serde_json::to_string(&width).unwrap(), format!("\"{width}\""));
            assert_eq!(i64::from(width.seconds()) * 1_000_000, width.micros());
        }
    }

    #[test]
    fn a_ring_keeps_the_panes_of_its_windows() {
        for width in Width::JUDGED {
            assert!(width.ring().keeps() > width.micros(), "{width}");
            assert_eq!(width.micros() % width.ring().pane(), 0, "{width}");
        }
        let pane = PaneStart::of(OccurredAt(3599 * 1_000_000));
        assert_eq!(Ring::Day.pane_of(pane).micros(), 3300 * 1_000_000);
        assert_eq!(Width::M60.tumbling_end(pane), HOUR);
        assert_eq!(Width::M1.tumbling_end(PaneStart::at(HOUR)), HOUR + MINUTE);
    }
}
