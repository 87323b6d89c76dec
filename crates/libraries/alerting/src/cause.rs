//! The cause of an incident: the smallest scope that holds most of the excess.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use window::{Scope, ScopeKind};

use crate::{Alert, Basis, Cause, Measure};

/// The share of the excess that a scope must hold to be the cause.
pub(crate) const MOST: f64 = 0.8;

/// Returns the smallest scope that holds at least 80 % of the excess of the source or tenant of `lead`,
/// or `None` if no scope does, or if the alerts do not tell.
///
/// The excess of a scope is its numerator minus threshold × denominator, with the threshold of the
/// source (the other way around for rules that want a high rate). The source and the scope must have
/// episodes of the same measure. Scopes are compared in the window of the source ([`counts_within`]).
///
/// The alerts are of different moments, so a part can have grown since the alert of the source. Scopes of
/// one kind have no message in common. The source therefore counts with the sum of their excesses, if that
/// is greater than its own. Scopes of another kind than the part count only as far as their alerts are not later
/// than that of the part: they may have grown since.
pub(crate) fn cause<'a>(
    lead: &Alert,
    episodes: impl Iterator<Item = &'a Alert> + Clone,
) -> Option<Cause> {
    let whole_scope = lead.scope.whole();
    let is_whole = |alert: &&Alert| alert.scope == whole_scope && alert.metric == lead.metric;
    let whole = if is_whole(&lead) {
        lead
    } else {
        let same_rule = |alert: &&&Alert| alert.rule == lead.rule;
        let mut wholes = episodes.clone().filter(is_whole);
        wholes.clone().find(|alert| same_rule(&alert)).or_else(|| wholes.next())?
    };
    let parts = episodes
        .filter(|alert| alert.scope != whole_scope && alert.scope.whole() == whole_scope)
        .filter(|alert| counts_within(alert, whole).is_some());
    let excess_of_whole = excess(whole, whole)?;
    if excess_of_whole <= 0.0 {
        return None;
    }
    let most_of_a_kind = |part: &Alert| {
        let is_comparable = |it: &&Alert| it.scope.kind() == part.scope.kind() || it.to <= part.to;
        let sums = sums_by_kind(parts.clone().filter(is_comparable), whole);
        sums.into_values().fold(excess_of_whole, f64::max)
    };
    parts
        .clone()
        .filter_map(|alert| Some((alert, excess(alert, whole)?)))
        // The sums are at least the excess of the source, so few scopes need them.
        .filter(|(_, excess)| excess / excess_of_whole >= MOST)
        .map(|(alert, excess)| (alert, (excess / most_of_a_kind(alert)).clamp(0.0, 1.0)))
        .filter(|(_, share)| *share >= MOST)
        .min_by(|(left, _), (right, _)| smaller(left, right, whole))
        .and_then(|(alert, share)| {
            let (numerator, volume) = counts_within(alert, whole)?;
            Some(Cause {
                scope: alert.scope.clone(),
                share,
                numerator,
                volume,
                rest_numerator: whole.numerator.saturating_sub(numerator),
                rest_volume: whole.volume.saturating_sub(volume),
            })
        })
}

/// Returns the sum of the excesses of the scopes of each kind. A scope with several episodes counts once,
/// with the greatest excess.
fn sums_by_kind<'a>(
    parts: impl Iterator<Item = &'a Alert>,
    whole: &Alert,
) -> BTreeMap<ScopeKind, f64> {
    let mut by_scope: BTreeMap<&Scope, f64> = BTreeMap::new();
    for alert in parts {
        let greatest = by_scope.entry(&alert.scope).or_default();
        *greatest = greatest.max(excess(alert, whole).unwrap_or(0.0));
    }
    let mut by_kind = BTreeMap::new();
    for (scope, excess) in by_scope {
        *by_kind.entry(scope.kind()).or_default() += excess;
    }
    by_kind
}

/// Returns the share of the excess of `whole` that the scope of `alert` holds, from 0 to 1. `None` if
/// `whole` has no excess.
pub(crate) fn share_of_excess(alert: &Alert, whole: &Alert) -> Option<f64> {
    let excess_of_whole = excess(whole, whole)?;
    // The scope alone can have more excess than the whole, if the rest is below the threshold.
    (excess_of_whole > 0.0)
        .then(|| excess(alert, whole).map(|excess| (excess / excess_of_whole).clamp(0.0, 1.0)))?
}

/// Returns the excess of a scope, measured with the threshold and direction of `whole`, in messages.
fn excess(alert: &Alert, whole: &Alert) -> Option<f64> {
    if matches!(alert.metric, Measure::Share(crate::Share::Gap)) || whole.basis == Basis::Gap {
        return None; // the rate is a time, not a share of messages
    }
    let (numerator, volume) = counts_within(alert, whole)?;
    let over = numerator as f64 - whole.threshold * volume as f64;
    let wants_low_rate = whole.value.is_none_or(|value| value >= whole.threshold);
    Some(if wants_low_rate { over } else { -over })
}

/// Returns the numerator and denominator of a scope in the window of its source or tenant. But for the moment
/// of the alert, they are part of those of `whole`.
///
/// Rules are broken in the window with the worst rate, which can be another one for each scope. If the counts
/// in the window of `whole` are not known, those of a shorter window are returned: the excess is then
/// underestimated. `None` if the counts are no part of those of `whole`.
pub(crate) fn counts_within(alert: &Alert, whole: &Alert) -> Option<(u64, u64)> {
    if alert.metric != whole.metric || alert.basis != whole.basis {
        return None;
    }
    let length = |alert: &Alert| alert.to - alert.from;
    let is_inside = length(alert) <= length(whole)
        && alert.to.abs_diff(whole.to) <= length(whole).unsigned_abs();
    let own = is_inside.then_some((alert.numerator, alert.volume));
    alert.counts_in(&whole.width).or(own)
}

/// Compares by denominator. Of two equal scopes, the one with more dimensions is smaller.
fn smaller(left: &Alert, right: &Alert, whole: &Alert) -> Ordering {
    let dimensions = |alert: &Alert| alert.scope.kind().dimensions().len();
    let volume = |alert: &Alert| counts_within(alert, whole).map(|(_, volume)| volume);
    let by_size = volume(left).cmp(&volume(right)).then(dimensions(right).cmp(&dimensions(left)));
    by_size.then_with(|| left.scope.cmp(&right.scope))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::samples::*;

    fn cause_of(lead: &Alert, others: &[Alert]) -> Option<Cause> {
        cause(lead, std::iter::once(lead).chain(others))
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
        assert!(!of(1, 9), "another time");
    }
}
