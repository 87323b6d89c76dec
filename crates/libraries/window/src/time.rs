use std::fmt;

use event::OccurredAt;
use serde::{Deserialize, Serialize};

/// The duration of a pane and the distance between slide ends, in microseconds.
pub const PANE: i64 = 10_000_000;

/// The pane start that is farthest from the epoch, in both directions (about 73,000 years). Adding a
/// width and an allowed lateness to it cannot overflow.
const FARTHEST: i64 = i64::MAX / PANE / 4 * PANE;

/// Rounds event time down to a slide end. Every slide end is also a pane start.
pub(crate) const fn floor(micros: i64) -> i64 {
    let within = if micros > FARTHEST {
        FARTHEST
    } else if micros < -FARTHEST {
        -FARTHEST
    } else {
        micros
    };
    within.div_euclid(PANE) * PANE
}

/// Rounds event time up to a slide end.
pub(crate) const fn ceil(micros: i64) -> i64 {
    floor(micros.saturating_add(PANE - 1))
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

    /// Returns the pane that starts `micros`, a multiple of [`PANE`], before a slide end.
    pub(crate) const fn before(end: i64, micros: i64) -> Self {
        Self(floor(end - micros))
    }

    /// Returns the microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Returns the first moment after the pane. It is the end of the first window that contains it.
    pub const fn end(self) -> i64 {
        self.0 + PANE
    }

    /// Returns the first slide end whose window of this width no longer contains the pane.
    pub const fn leaves(self, width: Width) -> i64 {
        self.end() + width.micros()
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

/// The event time that a window spans. The text forms are `1m`, `5m`, `15m` and `60m`.
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
}

impl Width {
    /// All widths, the shortest first.
    pub const ALL: [Self; 4] = [Self::M1, Self::M5, Self::M15, Self::M60];

    /// The widest width. It determines how long a pane is needed.
    pub const WIDEST: Self = Self::M60;

    /// Returns the width in minutes.
    pub const fn minutes(self) -> i64 {
        match self {
            Self::M1 => 1,
            Self::M5 => 5,
            Self::M15 => 15,
            Self::M60 => 60,
        }
    }

    /// Returns the width in seconds.
    pub const fn seconds(self) -> u32 {
        match self {
            Self::M1 => 60,
            Self::M5 => 300,
            Self::M15 => 900,
            Self::M60 => 3600,
        }
    }

    /// Returns the width in microseconds.
    pub const fn micros(self) -> i64 {
        self.minutes() * 60_000_000
    }

    /// Returns the stable name, as in JSON and TOML.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::M1 => "1m",
            Self::M5 => "5m",
            Self::M15 => "15m",
            Self::M60 => "60m",
        }
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
            assert_eq!(pane.leaves(Width::M60) - pane.end(), 3_600_000_000);
        }
        assert_eq!(ceil(i64::MAX), floor(i64::MAX));
    }

    #[test]
    fn only_multiples_of_the_pane_duration_are_pane_starts() {
        assert_eq!(serde_json::from_str::<PaneStart>("20000000").unwrap().micros(), 2 * PANE);
        assert!(serde_json::from_str::<PaneStart>("20000001").is_err());
        assert_eq!(PaneStart::try_from(i64::MAX), Err(NotAPaneStart(i64::MAX)));
    }

    #[test]
    fn width_names_are_the_json_values() {
        for width in Width::ALL {
            assert_eq!(serde_json::to_string(&width).unwrap(), format!("\"{width}\""));
            assert_eq!(width.as_str(), format!("{}m", width.minutes()));
            assert_eq!(i64::from(width.seconds()) * 1_000_000, width.micros());
        }
    }
}
