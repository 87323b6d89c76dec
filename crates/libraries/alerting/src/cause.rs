//! The cause of an incident: the smallest scope that holds most of the excess.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use window::{Scope, ScopeKind};

use crate::{Alert, Basis, Cause, Measure};

/// The share of the excess that a scope must hold to be the cause.
pub(crate) const MOST: f64 = 0.8;

/// Alerts that are further apart than the window and this time are not compared, in microseconds. Scopes do not break a
/// rule at the same moment, so a window of a minute is too short a time.
const FAR: u64 = 5 * 60_000_000;

/// The counts of an episode at one of its alerts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moment {
    from: i64,
    to: i64,
    width: String,
    numerator: u64,
    volume: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    by_window: BTreeMap<String, (u64, u64)>,
}

impl Moment {
    pub(crate) fn of(alert: &Alert) -> Self {
        Self {
            from: alert.from,
            to: alert.to,
            width: alert.width.clone(),
            numerator: alert.numerator,
            volume: alert.volume,
            by_window: alert.by_window.clone(),
        }
    }

    const fn counts(&self) -> (u64, u64) {
        (self.numerator, self.volume)
    }

    /// Returns the length of the window, in microseconds.
    const fn length(&self) -> u64 {
        (self.to - self.from).unsigned_abs()
    }

    /// Returns numerator and denominator in the window of `whole`. But for the moment, they are part of its own.
    ///
    /// Rules are broken in the window with the worst rate, which can be another one for each scope. If the
    /// counts in the window of `whole` are not known, those of a shorter window are returned: the excess is
    /// then underestimated. `None` if the counts are no part of those of `whole`, or of another time.
    fn within(&self, whole: &Self) -> Option<(u64, u64)> {
        if self.to.abs_diff(whole.to) > whole.length().max(FAR) {
            return None;
        }
        if self.width == whole.width {
            return Some(self.counts());
        }
        let is_inside = self.length() <= whole.length();
        let own = is_inside.then_some(self.counts());
        self.by_window.get(&whole.width).copied().or(own)
    }
}

/// An open episode, as far as the cause depends on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course<'a> {
    /// The latest alert.
    pub(crate) alert: &'a Alert,
    /// The counts at its alerts, the latest at the end.
    pub(crate) moments: &'a [Moment],
}

impl Course<'_> {
    /// Returns the excess of counts of the scope, or of a part of it: how many more messages than the threshold of the
    /// latest alert allows.
    fn excess(&self, (numerator, volume): (u64, u64)) -> f64 {
        let over = numerator as f64 - self.alert.threshold * volume as f64;
        let wants_low_rate = self.alert.value.is_none_or(|value| value >= self.alert.threshold);
        if wants_low_rate { over } else { -over }
    }
}

/// A scope beside a moment of its source or tenant.
struct Part<'a> {
    scope: &'a Scope,
    to: i64,
    numerator: u64,
    volume: u64,
    /// The excess of the scope ÷ that of the source.
    ratio: f64,
}

/// Returns the smallest scope that holds at least 80 % of the excess of the source or tenant of `lead`,
/// or `None` if no scope does, or if the alerts do not tell.
///
/// The excess of a scope is its numerator minus threshold × denominator, with the threshold of the
/// source (the other way around for rules that want a high rate). The source and the scope must have
/// episodes of the same measure.
///
/// Alerts of different moments are compared, and in half a minute, counts change by more than a cause has to
/// hold. So the source is taken at its latest alert, and if no scope is the cause then, at the alert before, as
/// far as that is within the same window and has at least half of the excess. Each scope is taken at its alert
/// that is closest in time ([`Moment::within`]).
pub(crate) fn cause<'a>(
    lead: Course<'a>,
    episodes: impl Iterator<Item = Course<'a>> + Clone,
) -> Option<Cause> {
    let whole_scope = lead.alert.scope.whole();
    let is_whole =
        |it: &Course<'_>| it.alert.scope == whole_scope && it.alert.metric == lead.alert.metric;
    let whole = if is_whole(&lead) {
        lead
    } else {
        let same_rule = |it: &Course<'_>| it.alert.rule == lead.alert.rule;
        let mut wholes = episodes.clone().filter(is_whole);
        wholes.clone().find(same_rule).or_else(|| wholes.next())?
    };
    let parts = episodes
        .filter(|it| it.alert.scope != whole_scope && it.alert.scope.whole() == whole_scope);
    let latest = whole.moments.last()?;
    let least_excess = whole.excess(latest.counts()) / 2.0;
    let comparable = whole.moments.iter().rev().filter(|moment| {
        latest.to.abs_diff(moment.to) <= latest.length()
            && whole.excess(moment.counts()) >= least_excess
    });
    let mut causes = comparable.filter_map(|moment| cause_at(whole, moment, parts.clone()));
    causes.next()
}

/// Returns the cause at one moment of the source.
///
/// A part can have grown since. Scopes of one kind have no message in common. The source therefore counts with
/// the sum of their excesses, if that is greater than its own. Scopes of another kind than the part count only as
/// far as they are not later than the part: they may have grown since.
fn cause_at<'a>(
    whole: Course<'a>,
    moment: &'a Moment,
    parts: impl Iterator<Item = Course<'a>>,
) -> Option<Cause> {
    let parts: Vec<Part<'_>> = parts.filter_map(|it| part(it, whole, moment)).collect();
    let share = |it: &Part<'_>| {
        let comparable =
            |other: &&Part<'_>| other.scope.kind() == it.scope.kind() || other.to <= it.to;
        let sums = sums_by_kind(parts.iter().filter(comparable));
        (it.ratio / sums.into_values().fold(1.0, f64::max)).clamp(0.0, 1.0)
    };
    // The sums are at least the excess of the source, so few scopes need them.
    let most = parts.iter().filter(|it| it.ratio >= MOST).map(|it| (it, share(it)));
    let smallest = most
        .filter(|(_, share)| *share >= MOST)
        .min_by(|(left, _), (right, _)| smaller(left, right));
    smallest.map(|(it, share)| Cause {
        scope: it.scope.clone(),
        share,
        numerator: it.numerator,
        volume: it.volume,
        rest_numerator: moment.numerator.saturating_sub(it.numerator),
        rest_volume: moment.volume.saturating_sub(it.volume),
        to: moment.to,
    })
}

/// Returns the share of the excess of `whole` that an episode's scope holds, from 0 to 1. `None` if `whole`
/// has no excess, or if they cannot be compared.
pub(crate) fn share_of_excess(episode: Course<'_>, whole: Course<'_>) -> Option<f64> {
    // The scope alone can have more excess than the whole, if the rest is below the threshold.
    part(episode, whole, whole.moments.last()?).map(|part| part.ratio.clamp(0.0, 1.0))
}

/// Compares an episode with one moment of that of its source or tenant. `None` if the source has no excess, or if the
/// counts of the episode are no part of those of the source.
fn part<'a>(episode: Course<'a>, whole: Course<'a>, at: &Moment) -> Option<Part<'a>> {
    let (alert, of_whole) = (episode.alert, whole.alert);
    let is_time = matches!(alert.metric, Measure::Share(crate::Share::Gap)); // not a share of messages
    if is_time
        || of_whole.basis == Basis::Gap
        || alert.metric != of_whole.metric
        || alert.basis != of_whole.basis
    {
        return None;
    }
    let excess_of_whole = whole.excess(at.counts());
    let moments = episode.moments.iter();
    let known = moments.filter_map(|moment| Some((moment, moment.within(at)?)));
    let closest = known.min_by_key(|(moment, _)| (moment.to.abs_diff(at.to), Reverse(moment.to)));
    let (moment, counts) = closest.filter(|_| excess_of_whole > 0.0)?;
    Some(Part {
        scope: &alert.scope,
        to: moment.to,
        numerator: counts.0,
        volume: counts.1,
        ratio: whole.excess(counts) / excess_of_whole,
    })
}

/// Returns the sum of the ratios of the scopes of each kind. A scope with several episodes counts once,
/// with the greatest ratio.
fn sums_by_kind<'a>(parts: impl Iterator<Item = &'a Part<'a>>) -> BTreeMap<ScopeKind, f64> {
    let mut by_scope: BTreeMap<&Scope, f64> = BTreeMap::new();
    for part in parts {
        let greatest = by_scope.entry(part.scope).or_default();
        *greatest = greatest.max(part.ratio);
    }
    let mut by_kind = BTreeMap::new();
    for (scope, ratio) in by_scope {
        *by_kind.entry(scope.kind()).or_default() += ratio;
    }
    by_kind
}

/// Compares by denominator. Of two equal scopes, the one with more dimensions is smaller.
fn smaller(left: &Part<'_>, right: &Part<'_>) -> Ordering {
    let dimensions = |part: &Part<'_>| part.scope.kind().dimensions().len();
    let by_size = left.volume.cmp(&right.volume).then(dimensions(right).cmp(&dimensions(left)));
    by_size.then_with(|| left.scope.cmp(right.scope))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::samples::*;

    fn cause_of(lead: &Alert, others: &[Alert]) -> Option<Cause> {
        let courses: Vec<_> =
            std::iter::once(lead).chain(others).map(std::slice::from_ref).collect();
        cause_of_courses(&courses)
    }

    /// Returns the cause of episodes with these alerts, the latest at the end. The first one leads.
    fn cause_of_courses(episodes: &[&[Alert]]) -> Option<Cause> {
        let moments: Vec<Vec<Moment>> =
            episodes.iter().map(|alerts| alerts.iter().map(Moment::of).collect()).collect();
        let courses = episodes.iter().zip(&moments);
        let courses: Vec<_> = courses
            .map(|(alerts, moments)| Course { alert: alerts.last().unwrap(), moments })
            .collect();
        cause(courses[0], courses.iter().copied())
    }

    #[test]
    fn the_smallest_scope_with_most_of_the_excess_is_the_cause() {
        // The excess of the source is 82 - 0.1 * 501 = 31.9.
        let whole = alert("hard_bounces", source("acme"));
        let gmail = with_counts(alert("hard_bounces", mailbox("acme", "gmail")), 70, 400);
        let spring = with_counts(alert("hard_bounces", campaign("acme", "spring")), 60, 300);
        let of_30 = cause_of(&whole, &[gmail.clone(), spring.clone()]).unwrap();
        assert_eq!((of_30.scope, of_30.numerator, of_30.volume), (spring.scope, 60, 300));
        assert_eq!((of_30.rest_numerator, of_30.rest_volume), (22, 201));
        assert!((of_30.share - 30.0 / 31.9).abs() < 1e-12);
        // 25 of 31.9 is less than 80 %.
        let less = with_counts(alert("hard_bounces", campaign("acme", "spring")), 55, 300);
        assert_eq!(cause_of(&whole, &[gmail.clone(), less.clone()]).unwrap().scope, gmail.scope);
        assert_eq!(cause_of(&whole, &[less]), None);
        assert_eq!(cause_of(&gmail, &[]), None, "the counts of the source are not known");
        let other = with_counts(alert("hard_bounces", campaign("bolt", "spring")), 80, 90);
        assert_eq!(cause_of(&whole, &[other]), None, "another source");
        let blocks = with_counts(alert("blocks", campaign("acme", "spring")), 80, 90);
        assert_eq!(cause_of(&whole, &[blocks]), None, "another measure");
    }

    #[test]
    fn a_part_that_has_grown_since_the_alert_of_the_source_is_compared_with_all_parts() {
        // The excess of the source was 31.9. Since then the campaign has come to 150, at three mailbox providers.
        let whole = alert("hard_bounces", source("acme"));
        let spring = with_counts(alert("hard_bounces", campaign("acme", "spring")), 250, 1000);
        let at = |name, numerator, volume| {
            with_counts(alert("hard_bounces", mailbox("acme", name)), numerator, volume)
        };
        let parts = [at("gmail", 130, 500), at("yahoo", 60, 250), at("outlook", 58, 250), spring];
        let cause = cause_of(&whole, &parts).unwrap();
        assert_eq!(cause.scope, campaign("acme", "spring"));
        assert!((cause.share - 1.0).abs() < 1e-12);
        // A second, more severe episode of Gmail is about the same messages.
        let again = with_counts(alert("bounce_rate", mailbox("acme", "gmail")), 130, 500);
        let again = Alert { metric: whole.metric, ..again };
        let parts = [vec![again], parts.to_vec()].concat();
        assert_eq!(cause_of(&whole, &parts).unwrap().share.to_bits(), cause.share.to_bits());
    }

    #[test]
    fn what_other_kinds_of_scopes_have_counted_later_does_not_hide_the_cause() {
        let whole = alert("hard_bounces", source("acme"));
        let spring = with_counts(alert("hard_bounces", campaign("acme", "spring")), 60, 300);
        let later = |name, numerator, volume| {
            let to = whole.to + MINUTE;
            let at = with_counts(alert("hard_bounces", mailbox("acme", name)), numerator, volume);
            Alert { from: to - (whole.to - whole.from), to, ..at }
        };
        let parts = [spring.clone(), later("gmail", 90, 400), later("yahoo", 60, 250)];
        assert_eq!(cause_of(&whole, &parts).unwrap().scope, spring.scope);
    }

    #[test]
    fn the_threshold_of_the_source_applies_whatever_the_severity_of_the_scope_is() {
        let whole = alert("hard_bounces", source("acme"));
        let spring = with_counts(alert("hard_bounces", campaign("acme", "spring")), 60, 300);
        let milder = Alert { threshold: 0.02, ..spring };
        assert!(cause_of(&whole, std::slice::from_ref(&milder)).unwrap().share < 0.95);
        // The most severe episode leads; the source is found by its rule.
        assert_eq!(cause_of(&milder, &[whole]).unwrap().scope, milder.scope);
    }

    #[test]
    fn a_rate_that_is_too_low_has_a_cause_too() {
        let low = |scope, numerator, volume| Alert {
            threshold: 0.95,
            ..with_counts(alert("delivery", scope), numerator, volume)
        };
        let whole = low(source("acme"), 800, 1000);
        let gmail = low(mailbox("acme", "gmail"), 150, 300);
        let yahoo = low(mailbox("acme", "yahoo"), 90, 100);
        assert_eq!(cause_of(&whole, &[gmail.clone(), yahoo]).unwrap().scope, gmail.scope);
    }

    /// The campaign broke the rule in its window of five minutes, and the source in that of one minute.
    #[test]
    fn scopes_are_compared_in_the_window_of_the_source() {
        let whole = Alert {
            width: "1m".to_owned(),
            from: START - MINUTE,
            ..with_counts(alert("hard_bounces", source("acme")), 50, 312)
        };
        let spring = with_counts(alert("hard_bounces", campaign("acme", "spring")), 130, 780);
        assert_eq!(cause_of(&whole, std::slice::from_ref(&spring)), None, "five minutes have more");
        let by_window = [("1m".to_owned(), (49, 300)), ("5m".to_owned(), (130, 780))].into();
        let spring = Alert { by_window, ..spring };
        let cause = cause_of(&whole, std::slice::from_ref(&spring)).unwrap();
        assert_eq!((cause.scope, cause.numerator, cause.volume), (spring.scope, 49, 300));
        assert_eq!((cause.rest_numerator, cause.rest_volume), (1, 12));
    }

    /// Of the short day: the campaign became a page half a minute before the source did.
    #[test]
    fn scopes_are_compared_at_the_alerts_that_are_closest_to_each_other() {
        let at = |second: i64, scope: &Scope, numerator, volume, threshold| {
            let to = START + second * SECOND;
            let counts = with_counts(alert("hard_bounces", scope.clone()), numerator, volume);
            Alert { width: "1m".to_owned(), from: to - MINUTE, to, threshold, ..counts }
        };
        let whole = source("acme");
        let whole = [
            at(30, &whole, 48, 303, 0.02),
            at(40, &whole, 49, 307, 0.05),
            at(60, &whole, 57, 307, 0.10),
        ];
        // At second 40, the campaign of second 30 has all of the excess.
        let spring = campaign("acme", "spring");
        let spring = [at(20, &spring, 45, 294, 0.02), at(30, &spring, 48, 291, 0.10)];
        assert_eq!(cause_of(&whole[2], &spring[1..]), None, "nine bounces more in half a minute");
        let cause = cause_of_courses(&[&whole, &spring]).unwrap();
        assert_eq!((cause.numerator, cause.volume, cause.rest_numerator), (48, 291, 1));
        assert_eq!((cause.rest_volume, cause.to), (16, START + 40 * SECOND));
    }

    #[test]
    fn an_early_moment_with_little_excess_names_no_cause() {
        let at = |second: i64, scope: Scope, numerator, volume| {
            let to = START + second * SECOND;
            let counts = with_counts(alert("hard_bounces", scope), numerator, volume);
            Alert { from: to - 5 * MINUTE, to, ..counts }
        };
        let whole = [at(0, source("acme"), 31, 300), at(120, source("acme"), 130, 500)];
        let early = [at(0, campaign("acme", "early"), 28, 100)];
        assert_eq!(cause_of_courses(&[&whole, &early]), None);
        let late = [at(120, campaign("acme", "late"), 120, 400)];
        let cause = cause_of_courses(&[&whole, &early, &late]).unwrap();
        assert_eq!(cause.scope, late[0].scope);
    }

    #[test]
    fn a_shorter_window_of_the_scope_is_part_of_that_of_the_source() {
        let whole = alert("hard_bounces", source("acme"));
        let spring = with_counts(alert("hard_bounces", campaign("acme", "spring")), 80, 90);
        let of = |minutes: i64, later: i64| {
            let to = whole.to + later * MINUTE;
            let (width, from) = (format!("{minutes}m"), to - minutes * MINUTE);
            cause_of(&whole, &[Alert { width, from, to, ..spring.clone() }]).is_some()
        };
        assert!(of(1, 0) && of(1, 2) && of(5, 0));
        assert!(!of(15, 0), "it may have more than the source had");
        assert!(!of(1, 9) && !of(5, 9), "another time");
        let later = Alert { from: whole.from + 9 * MINUTE, to: whole.to + 9 * MINUTE, ..spring };
        let by_window = [("5m".to_owned(), (80, 90))].into();
        assert_eq!(cause_of(&whole, &[Alert { by_window, width: "1m".to_owned(), ..later }]), None);
    }
}
