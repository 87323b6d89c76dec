//! Compares the alerts of each scope in their order.

use std::collections::{BTreeMap, BTreeSet};

use monitor::Recomputed;

use super::recorded::{Again, Place, Recorded, Transition, digest};

/// The alerts of `mail.alerts`, and those of `mail.panes` that are not the same.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    scopes: BTreeMap<String, ScopeAlerts>,
    values: BTreeMap<Place, Vec<u8>>,
    pub(super) equal: u64,
    /// The number of alerts that follow from `mail.panes`.
    pub(super) recomputed: u64,
}

/// The alerts of one scope.
#[derive(Debug, Default)]
pub(super) struct ScopeAlerts {
    recorded: Vec<(Recorded, Found)>,
    /// Where in `recorded` the search for the next equal alert begins.
    next: usize,
    unequal: Vec<Unequal>,
}

/// What was found for an alert of `mail.alerts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    /// The same bytes.
    Equal,
    /// Another value of the same transition.
    Other,
}

/// An alert of `mail.panes` that `mail.alerts` does not have at this place.
#[derive(Debug, Clone)]
pub(super) struct Unequal {
    pub(super) alert: Recomputed,
    /// The offset of the record of `mail.panes` from which it follows.
    pub(super) offset: i64,
    /// The same transition with another value, as an index of the recorded alerts.
    recorded: Option<usize>,
}

/// Two values that are not the same; one of them can be missing.
#[derive(Debug)]
pub(super) struct Difference<'a> {
    pub(super) scope: &'a str,
    pub(super) recorded: Option<&'a Recorded>,
    pub(super) recorded_value: Option<&'a [u8]>,
    pub(super) recomputed: Option<&'a Unequal>,
}

impl Comparison {
    pub(super) fn new(recorded: BTreeMap<String, Vec<Recorded>>) -> Self {
        let of_scope = |recorded: Vec<Recorded>| {
            let recorded = recorded.into_iter().map(|it| (it, Found::Nothing)).collect();
            ScopeAlerts { recorded, ..ScopeAlerts::default() }
        };
        let scopes = recorded.into_iter().map(|(scope, alerts)| (scope, of_scope(alerts)));
        Self { scopes: scopes.collect(), ..Self::default() }
    }

    /// Compares the next alert that follows from `mail.panes`, from its record at `offset`.
    pub(super) fn compare(&mut self, alert: Recomputed, offset: i64) {
        self.recomputed += 1;
        let of_scope = self.scopes.entry(alert.key.clone()).or_default();
        self.equal += u64::from(of_scope.compare(alert, offset));
    }

    /// Finds which of the differences are two values of one transition. Call this after the last alert.
    pub(super) fn pair(&mut self) {
        self.scopes.values_mut().for_each(ScopeAlerts::pair);
    }

    pub(super) fn has_differences(&self) -> bool {
        self.differences().next().is_some()
    }

    /// Returns where the values are that are printed.
    pub(super) fn wanted(&self) -> BTreeSet<Place> {
        self.differences().filter_map(|it| Some(it.recorded?.place)).collect()
    }

    /// Adds what a second reading has found.
    pub(super) fn complete(&mut self, again: Again) {
        self.values = again.values;
        for (scope, alerts) in &mut self.scopes {
            let before = alerts.unequal.len();
            alerts.unequal.retain(|it| {
                let is_new = || again.newer.contains(&(scope.clone(), digest(&it.alert.value)));
                it.recorded.is_some() || !is_new()
            });
            self.equal += (before - alerts.unequal.len()) as u64;
        }
    }

    /// Returns all differences, by scope.
    pub(super) fn differences(&self) -> impl Iterator<Item = Difference<'_>> {
        self.scopes.iter().flat_map(|(scope, alerts)| {
            let value = |it: &Recorded| self.values.get(&it.place).map(Vec::as_slice);
            let superfluous = alerts.recorded.iter().filter(|(_, found)| *found == Found::Nothing);
            let superfluous = superfluous.map(move |(recorded, _)| Difference {
                scope,
                recorded: Some(recorded),
                recorded_value: value(recorded),
                recomputed: None,
            });
            let unequal = alerts.unequal.iter().map(move |unequal| {
                let recorded = unequal.recorded.and_then(|index| alerts.recorded.get(index));
                let recorded = recorded.map(|(recorded, _)| recorded);
                let recorded_value = recorded.and_then(value);
                Difference { scope, recorded, recorded_value, recomputed: Some(unequal) }
            });
            unequal.chain(superfluous)
        })
    }

    /// Returns all alerts of a scope, of both sides.
    pub(super) fn transitions(&self, scope: &str) -> impl Iterator<Item = Transition> {
        let alerts = self.scopes.get(scope);
        let recorded = alerts.into_iter().flat_map(|it| &it.recorded);
        let recorded = recorded.filter_map(|(it, _)| it.transition.clone());
        let unequal = alerts.into_iter().flat_map(|it| &it.unequal);
        recorded.chain(unequal.map(Unequal::transition))
    }
}

impl ScopeAlerts {
    /// Returns whether `mail.alerts` has the same bytes, behind those of the alert before.
    fn compare(&mut self, alert: Recomputed, offset: i64) -> bool {
        let digest = digest(&alert.value);
        let mut rest = self.recorded.iter_mut().enumerate().skip(self.next);
        let Some((index, (_, found))) = rest.find(|(_, (it, _))| it.digest == digest) else {
            self.unequal.push(Unequal { alert, offset, recorded: None });
            return false;
        };
        *found = Found::Equal;
        self.next = index + 1;
        true
    }

    /// Finds for each alert the same transition with another value, wherever it is.
    fn pair(&mut self) {
        for unequal in &mut self.unequal {
            let is_same = |(it, found): &(Recorded, Found)| {
                *found == Found::Nothing
                    && it.transition.as_ref().is_some_and(|it| it.is_same(&unequal.alert.alert))
            };
            unequal.recorded = self.recorded.iter().position(is_same);
            if let Some((_, found)) =
                unequal.recorded.and_then(|index| self.recorded.get_mut(index))
            {
                *found = Found::Other;
            }
        }
    }
}

impl Unequal {
    pub(super) fn transition(&self) -> Transition {
        Transition::of(&self.alert.alert, self.alert.alert.rule.as_str().into())
    }
}

#[cfg(test)]
mod tests {
    use alerting::Alert;

    use super::*;

    /// Returns the transition `seq` of an episode with this numerator.
    fn alert(seq: u32, numerator: u64) -> Recomputed {
        let json = format!(
            r#"{{"episode_id":"00112233445566778899aabbccddeeff","rule":"r","scope":"source","provider":"ses","source":"a","severity":"page","state":"firing","metric":"bounce","width":"5m","value":0.2,"threshold":0.1,"numerator":{numerator},"volume":10,"started_at":5,"at":6,"runbook":"r","summary":"s","seq":{seq}}}"#
        );
        let alert: Alert = serde_json::from_str(&json).unwrap();
        Recomputed { alert, key: "source/ses/a".to_owned(), value: json.into(), clock: None }
    }

    /// Of a difference: the offsets in `mail.alerts` and in `mail.panes`.
    type Places = (Option<i64>, Option<i64>);

    /// Returns how many alerts are equal, and the differences.
    fn compare(recorded: &[(u32, u64)], recomputed: &[(u32, u64)]) -> (u64, Vec<Places>) {
        let recorded = (0..).zip(recorded).map(|(offset, &(seq, numerator))| {
            let Recomputed { alert, value, .. } = alert(seq, numerator);
            let transition = Some(Transition::of(&alert, "r".into()));
            Recorded { place: (0, offset), digest: digest(&value), transition }
        });
        let recorded = [("source/ses/a".to_owned(), recorded.collect())].into();
        let mut comparison = Comparison::new(recorded);
        for (offset, &(seq, numerator)) in (0..).zip(recomputed) {
            comparison.compare(alert(seq, numerator), offset);
        }
        comparison.pair();
        let mut differences: Vec<_> = comparison
            .differences()
            .map(|it| (it.recorded.map(|it| it.place.1), it.recomputed.map(|it| it.offset)))
            .collect();
        differences.sort_unstable();
        (comparison.equal, differences)
    }

    #[test]
    fn every_difference_is_found_once() {
        let all = &[(1, 5), (2, 6), (3, 7)];
        assert_eq!(compare(all, all), (3, vec![]));
        let other = &[(1, 5), (2, 9), (3, 7)];
        assert_eq!(compare(other, all), (2, vec![(Some(1), Some(1))]), "another value");
        assert_eq!(compare(&[(1, 5), (3, 7)], all), (2, vec![(None, Some(1))]), "missing");
        assert_eq!(compare(all, &[(1, 5), (3, 7)]), (2, vec![(Some(1), None)]), "superfluous");
        let twice = &[(1, 5), (2, 6), (1, 5), (3, 7)];
        assert_eq!(compare(twice, all), (3, vec![(Some(2), None)]), "twice");
        let swapped = &[(2, 6), (1, 5), (3, 7)];
        assert_eq!(compare(swapped, all), (2, vec![(Some(0), Some(1))]), "another order");
        let late = &[(2, 6), (3, 7), (1, 9)];
        assert_eq!(compare(late, all), (2, vec![(Some(2), Some(0))]), "only the last is other");
        assert_eq!(compare(&[], all).1.len(), 3);
        assert_eq!(compare(all, &[]).1.len(), 3);
    }

    #[test]
    fn an_alert_that_is_published_meanwhile_is_equal() {
        let mut comparison = Comparison::default();
        comparison.compare(alert(1, 5), 0);
        comparison.compare(alert(2, 6), 0);
        let newer = [("source/ses/a".to_owned(), digest(&alert(1, 5).value))].into();
        comparison.complete(Again { newer, ..Again::default() });
        assert_eq!((comparison.equal, comparison.differences().count()), (1, 1));
    }
}
