//! How soon a jump of the rate is detected.

use super::{DAY, HOUR, Mail, Sender, scope_of};
use crate::{Alert, AlertState, AsOf, ScopeEpisodes};

/// The day before a jump fills the windows, and the jump comes in the middle of the sending of an hour.
const BEFORE: i64 = DAY + HOUR + 150;

/// A jump that is not detected within this many panes counts as missed.
const WITHIN: i64 = DAY;

/// The true rate before the jump, as a share of the threshold.
const HEALTHY: f64 = 0.4;

/// When jumps of the true rate were detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detection {
    /// The jumps.
    pub jumps: u32,
    /// Those that opened an episode within a day.
    pub detected: u32,
    /// The median time from the jump to the first alert, in seconds. Jumps that were missed count as endless.
    pub median: Option<i64>,
}

impl Sender {
    /// Lets the true rate jump from 40 % of the threshold to [`share`](Self::share), once for each of `jumps` seeds.
    pub fn detect(&self, jumps: u32) -> Detection {
        let mut times: Vec<i64> = (0..jumps).filter_map(|jump| self.time_of(jump)).collect();
        times.sort_unstable();
        let detected = u32::try_from(times.len()).unwrap_or(u32::MAX);
        Detection { jumps, detected, median: times.get(jumps as usize / 2).copied() }
    }

    /// Returns the seconds from the jump to the first alert.
    fn time_of(&self, jump: u32) -> Option<i64> {
        let healthy =
            Self { share: HEALTHY, seed: self.seed.wrapping_add(jump.into()), ..self.clone() };
        let mut mail = Mail::new(&healthy);
        (0..BEFORE).for_each(|pane| mail.send(pane));
        mail.jump_to(self.true_rate());
        let (scope, rules) = (scope_of(&self.rule), [self.rule.clone()]);
        let (mut episodes, mut alerts) = (ScopeEpisodes::default(), Vec::<Alert>::new());
        for pane in BEFORE..BEFORE + WITHIN {
            mail.send(pane);
            episodes.judge(&scope, &rules, &mail, &AsOf([(0, pane)].into()), &mut alerts);
            if alerts.iter().any(|alert| alert.state == AlertState::Firing) {
                return Some((pane + 1 - BEFORE) * 10);
            }
        }
        None
    }
}
