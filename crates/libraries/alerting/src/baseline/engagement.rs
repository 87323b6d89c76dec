use std::collections::VecDeque;

use event::Counter::Engaged;
use serde::{Deserialize, Serialize};
use window::{Counts, View, accepted_by_recipient, sent};

use super::HOUR;

/// The hours that are kept one by one.
const RECENT: usize = 24;

/// The weeks that are compared.
const WEEKS: i32 = 4;

/// How many messages people opened or clicked within two hours after the hour of their sending.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engagement {
    /// Opened or clicked by people.
    #[serde(rename = "e")]
    pub engaged: u64,
    /// Accepted by the recipient.
    #[serde(rename = "a")]
    pub accepted: u64,
    /// Decided on by the recipients' servers.
    #[serde(rename = "s")]
    pub sent: u64,
}

impl Engagement {
    fn of(counts: &Counts) -> Self {
        Self {
            engaged: counts.get(Engaged),
            accepted: accepted_by_recipient(counts, View::Cohort),
            sent: sent(counts),
        }
    }

    fn add(&mut self, more: Self) {
        self.engaged = self.engaged.saturating_add(more.engaged);
        self.accepted = self.accepted.saturating_add(more.accepted);
        self.sent = self.sent.saturating_add(more.sent);
    }
}

/// The engagement of the last 24 hours of sending, and of each day of the last weeks. The JSON form is stored
/// in the changelog.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngagementHistory {
    /// By the start of the hour in UTC microseconds, the latest last.
    recent: VecDeque<(i64, Engagement)>,
    /// By week and weekday, the latest last.
    days: VecDeque<(i32, u8, Engagement)>,
}

impl EngagementHistory {
    /// Adds an hour. Returns false if it, or a later one, was added before.
    pub(super) fn observe(&mut self, hour: i64, week: i32, weekday: u8, counts: &Counts) -> bool {
        if self.recent.back().is_some_and(|(latest, _)| hour <= *latest) || counts.is_zero() {
            return false;
        }
        let engagement = Engagement::of(counts);
        self.recent.push_back((hour, engagement));
        while self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        match self.days.back_mut() {
            Some((latest, day, sum)) if (*latest, *day) == (week, weekday) => sum.add(engagement),
            _ => self.days.push_back((week, weekday, engagement)),
        }
        self.days.retain(|(day_week, _, _)| week.saturating_sub(*day_week) <= WEEKS);
        while self.days.len() > 7 * (WEEKS as usize + 1) {
            self.days.pop_front();
        }
        true
    }

    /// Returns the start of the last hour that was added, in UTC microseconds.
    pub(super) fn latest(&self) -> Option<i64> {
        self.recent.back().map(|(hour, _)| *hour)
    }

    /// Returns the estimated memory beyond the struct itself, in bytes.
    pub(super) fn estimated_bytes(&self) -> usize {
        self.recent.len() * size_of::<(i64, Engagement)>()
            + self.days.len() * size_of::<(i32, u8, Engagement)>()
    }

    /// Returns the engagement of mail sent in the 24 hours before `end`, and the sum over the same weekday of
    /// the four weeks before. `None` if fewer than three of them are known.
    pub(super) fn compare(
        &self,
        end: i64,
        week: i32,
        weekday: u8,
    ) -> Option<(Engagement, Engagement)> {
        let (mut usual, mut days) = (Engagement::default(), 0);
        for (day_week, day, engagement) in &self.days {
            if *day == weekday && (1..=WEEKS).contains(&(week - day_week)) {
                usual.add(*engagement);
                days += 1;
            }
        }
        (days >= 3).then(|| (self.recent(end), usual))
    }

    /// Returns the engagement of mail sent in the 24 hours before `end`.
    pub(super) fn recent(&self, end: i64) -> Engagement {
        let mut sum = Engagement::default();
        for (hour, engagement) in &self.recent {
            if (end - 24 * HOUR..end).contains(hour) {
                sum.add(*engagement);
            }
        }
        sum
    }
}
