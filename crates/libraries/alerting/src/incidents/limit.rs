use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{IncidentId, Severity};

/// An hour, in microseconds.
const HOUR: i64 = 3_600_000_000;

/// The notifications of a group in the last hour. A value of the changelog.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Limit {
    /// When people were notified, without escalations, in ascending order.
    times: Vec<i64>,
    /// When people were last notified of an incident of a severity.
    severities: BTreeMap<Severity, i64>,
    /// How many notifications were held back since the last digest, by rule.
    pub(super) held_back: BTreeMap<String, u32>,
    /// The incident whose notification was held back last.
    pub(super) last_held: Option<IncidentId>,
}

impl Limit {
    /// The greatest number of rules in `held_back`.
    const MAX_RULES: usize = 50;

    /// Returns the earliest time at which another notification is allowed, in microseconds.
    pub(super) fn free_at(&self, per_hour: usize) -> i64 {
        let per_hour = per_hour.max(1);
        let full = self.times.len().checked_sub(per_hour).and_then(|first| self.times.get(first));
        full.map_or(i64::MIN, |first| first.saturating_add(HOUR))
    }

    /// Returns whether people were notified of nothing as severe within an hour.
    pub(super) fn is_worst(&self, severity: Severity, now: i64) -> bool {
        self.severities.range(severity..).all(|(_, at)| at.saturating_add(HOUR) <= now)
    }

    /// Notes a notification.
    pub(super) fn notified(&mut self, severity: Severity, now: i64, is_exempt: bool) {
        self.times.retain(|at| at.saturating_add(HOUR) > now);
        if !is_exempt {
            self.times.push(now);
        }
        self.severities.insert(severity, now);
    }

    /// Notes a notification that is held back.
    pub(super) fn hold_back(&mut self, rule: &str, incident: IncidentId) {
        let is_full = self.held_back.len() >= Self::MAX_RULES && !self.held_back.contains_key(rule);
        let rule = if is_full { "(other)" } else { rule };
        let count = self.held_back.entry(rule.to_owned()).or_default();
        *count = count.saturating_add(1);
        self.last_held = Some(incident);
    }

    /// Returns whether nothing of the last hour is left to know.
    pub(super) fn is_idle(&self, now: i64) -> bool {
        let all = self.times.iter().chain(self.severities.values());
        self.held_back.is_empty() && all.map(|at| at.saturating_add(HOUR)).all(|at| at <= now)
    }

    /// Returns when [`Self::is_idle`] becomes true if nothing else happens.
    pub(super) fn idle_at(&self) -> i64 {
        let all = self.times.iter().chain(self.severities.values());
        all.max().map_or(i64::MIN, |at| at.saturating_add(HOUR))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_hour_and_a_limited_number_of_rules_are_kept() {
        let mut limit = Limit::default();
        for minute in 0..600 {
            limit.notified(Severity::Warning, minute * HOUR / 60, false);
        }
        assert_eq!(limit.times.len(), 60);
        assert_eq!(limit.free_at(6), 594 * HOUR / 60 + HOUR);
        assert!(!limit.is_worst(Severity::Warning, 599 * HOUR / 60));
        assert!(limit.is_worst(Severity::Critical, 599 * HOUR / 60));
        let id = IncidentId::try_from("00".repeat(16)).unwrap();
        for rule in 0..100 {
            limit.hold_back(&rule.to_string(), id);
        }
        assert_eq!((limit.held_back.len(), limit.held_back["(other)"]), (51, 50));
    }
}
