use std::fmt;

use window::Width;

use crate::Basis;

/// In microseconds.
const HOUR: i64 = 3_600_000_000;

/// The oldest mail that a cohort window may contain, in hours: cohorts are kept for 8 days.
const OLDEST: u32 = 8 * 24;

/// What a rule looks at. Its text form is that of the settings: `5m`, `24h`, `24h-48h` or `campaign`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RuleWindow {
    /// What happened in the window of this width.
    Arrival(Width),
    /// What has happened to the mail that was sent between `from` and `to` hours ago. `to` is the greater one.
    Cohort {
        /// The age of the youngest mail, in hours. At 0, the running hour is part of the window.
        youngest: u32,
        /// The age of the oldest mail, in hours.
        oldest: u32,
    },
    /// What has happened since the campaign began.
    Campaign,
    /// The time since the last event.
    Gap,
}

impl RuleWindow {
    /// Reads a window of a rule with this basis. Returns `None` if the basis has no such window.
    pub fn parse(text: &str, basis: Basis) -> Option<Self> {
        match basis {
            Basis::Arrival => {
                Width::JUDGED.into_iter().find(|width| width.as_str() == text).map(Self::Arrival)
            }
            Basis::Cohort => {
                let hours = |text: &str| text.strip_suffix('h')?.parse::<u32>().ok();
                let (youngest, oldest) = match text.split_once('-') {
                    Some((youngest, oldest)) => (hours(youngest)?, hours(oldest)?),
                    None => (0, hours(text)?),
                };
                let is_valid = youngest < oldest && oldest <= OLDEST;
                is_valid.then_some(Self::Cohort { youngest, oldest })
            }
            Basis::Campaign => (text == "campaign").then_some(Self::Campaign),
            Basis::Gap => (text == "gap").then_some(Self::Gap),
        }
    }

    /// Returns the windows of a rule that names none.
    pub(super) fn defaults(basis: Basis) -> Vec<Self> {
        match basis {
            Basis::Arrival => Width::OF_RULES.into_iter().map(Self::Arrival).collect(),
            Basis::Cohort => vec![Self::Cohort { youngest: 0, oldest: 24 }],
            Basis::Campaign => vec![Self::Campaign],
            Basis::Gap => vec![Self::Gap],
        }
    }

    /// Returns the moments of sending `[from, to)` of a cohort window at `end`, in UTC microseconds. They are
    /// full hours.
    pub(crate) fn cohort_at(youngest: u32, oldest: u32, end: i64) -> (i64, i64) {
        // With youngest = 0, the hour that is running belongs to the window.
        let floor = end.div_euclid(HOUR) * HOUR;
        let ceil = -(-end).div_euclid(HOUR) * HOUR;
        let to = if youngest == 0 { ceil } else { floor - i64::from(youngest) * HOUR };
        (to - i64::from(oldest - youngest) * HOUR, to)
    }

    /// Returns how long the window is, in microseconds. A campaign counts as an hour.
    pub const fn length(&self) -> i64 {
        match self {
            Self::Arrival(width) => width.micros(),
            Self::Cohort { youngest, oldest } => (*oldest as i64 - *youngest as i64) * HOUR,
            Self::Campaign => HOUR,
            Self::Gap => 0,
        }
    }

    /// Returns how far back the window reaches, in microseconds. A campaign is restarted daily, and a silence
    /// is forgotten when the baseline no longer expects events.
    pub const fn reach(&self) -> i64 {
        match self {
            Self::Arrival(width) => width.micros(),
            Self::Cohort { oldest, .. } => (*oldest as i64 + 1) * HOUR,
            Self::Campaign => 24 * HOUR,
            Self::Gap => OLDEST as i64 * HOUR,
        }
    }

    /// Returns whether this is the text form.
    pub(crate) fn is(&self, text: &str) -> bool {
        match self {
            Self::Arrival(width) => width.as_str() == text,
            _ => self.to_string() == text,
        }
    }
}

impl fmt::Display for RuleWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arrival(width) => f.write_str(width.as_str()),
            Self::Cohort { youngest: 0, oldest } => write!(f, "{oldest}h"),
            Self::Cohort { youngest, oldest } => write!(f, "{youngest}h-{oldest}h"),
            Self::Campaign => f.write_str("campaign"),
            Self::Gap => f.write_str("gap"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_basis_has_its_windows() {
        for (text, basis) in [
            ("5m", Basis::Arrival),
            ("24h", Basis::Arrival),
            ("24h", Basis::Cohort),
            ("24h-48h", Basis::Cohort),
            ("2h-26h", Basis::Cohort),
            ("campaign", Basis::Campaign),
            ("gap", Basis::Gap),
        ] {
            assert_eq!(RuleWindow::parse(text, basis).unwrap().to_string(), text);
        }
        for (text, basis) in [
            ("2m", Basis::Arrival),
            ("cohort", Basis::Arrival),
            ("5m", Basis::Cohort),
            ("48h-24h", Basis::Cohort),
            ("24h-24h", Basis::Cohort),
            ("24h-999h", Basis::Cohort),
            ("5m", Basis::Campaign),
        ] {
            assert_eq!(RuleWindow::parse(text, basis), None, "{text}");
        }
    }

    #[test]
    fn a_cohort_window_consists_of_full_hours() {
        let at = |youngest, oldest, end| {
            let (from, to) = RuleWindow::cohort_at(youngest, oldest, end);
            (from / HOUR, to / HOUR)
        };
        assert_eq!(at(0, 24, 100 * HOUR), (76, 100));
        assert_eq!(at(0, 24, 100 * HOUR + 1), (77, 101));
        // All mail is at least 24 hours old.
        assert_eq!(at(24, 48, 100 * HOUR + 1), (52, 76));
        assert_eq!(at(24, 48, 101 * HOUR - 1), (52, 76));
    }
}
