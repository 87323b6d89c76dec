use std::collections::BTreeMap;

use super::{Level, OwnWindow, Reading, Verdict, Windows};
use crate::baseline::{Baseline, HORIZON, HOUR, SHORTEST_SILENCE, Series};
use crate::bounds::float;
use crate::evidence::Evidence;
use crate::rule::{Rule, RuleWindow, Test};
use crate::{RuleInForce, Severity};

/// Returns the series that are tracked, with the time of their last event.
fn silences(evidence: &dyn Evidence) -> impl Iterator<Item = (Series, i64)> {
    Series::TRACKED.into_iter().filter_map(|series| Some((series, evidence.last_event_of(series)?)))
}

/// Returns when rules about silence are broken if no event comes after the last ones: by rule, severity and
/// series, in no particular order. At each of these times [`ScopeEpisodes::advance`](crate::ScopeEpisodes::advance)
/// must be called. A silence that is not foreseen within a week is looked for again after a week.
///
/// A newer event can only move the times later.
pub fn silence_times(
    rules: &[RuleInForce],
    baseline: &Baseline,
    last_events: impl Iterator<Item = (Series, i64)> + Clone,
) -> Vec<i64> {
    let rules = rules.iter().filter(|rule| rule.test == Test::Gap);
    let thresholds = rules.flat_map(|rule| [rule.warning, rule.critical, rule.page]).flatten();
    let times = thresholds.flat_map(|probability| {
        last_events.clone().map(move |(series, last)| {
            let foreseen = baseline.silence_at(series, last, probability);
            foreseen.unwrap_or_else(|| last.saturating_add(HORIZON * HOUR))
        })
    });
    times.collect()
}

/// Judges the time without events: of all, and of each series that is tracked.
pub(super) fn gap(
    rule: &Rule,
    windows: &Windows<'_>,
    own: Option<OwnWindow<'_>>,
    not_before: i64,
) -> Option<Verdict> {
    let evidence = windows.evidence;
    let (baseline, now) = (evidence.baseline()?, evidence.end());
    let mut worst: Option<(Level, f64, Series, i64)> = None;
    for (series, last) in
        silences(evidence).filter(|(_, last)| *last >= not_before && now - last >= SHORTEST_SILENCE)
    {
        let chance = baseline.ln_silence(series, last, now);
        let is_below = |severity| {
            rule.threshold(severity).is_some_and(|probability: f64| chance < probability.ln())
        };
        let severity = Rule::SEVERITIES.into_iter().find(|severity| is_below(*severity));
        // The source is no longer usually active, so nothing can be told.
        let fallback =
            if own.is_some_and(|own| own.from == last) { Level::Starved } else { Level::Good };
        let level = severity.map_or(fallback, Level::Breach);
        if worst.is_none_or(|(_, other, ..)| chance < other) {
            worst = Some((level, chance, series, last));
        }
    }
    let Some((level, _, series, last)) = worst else {
        return Some(Verdict { level: Level::Good, worst: None, own: None });
    };
    let seconds = |micros: i64| u64::try_from(micros / 1_000_000).unwrap_or(0);
    let is_worth_a_reading = own.is_some() || level > Level::Elevated;
    if !is_worth_a_reading {
        return Some(Verdict { level, worst: None, own: None });
    }
    let limit = |severity| {
        let at = baseline.silence_at(series, last, rule.threshold(severity)?)?;
        Some(float(seconds(at - last)))
    };
    let reading = Reading {
        window: RuleWindow::Gap.to_string(),
        from: last,
        to: now,
        numerator: seconds(now - last),
        volume: 1,
        by_window: BTreeMap::new(),
        thresholds: [Severity::Warning, Severity::Critical, Severity::Page].map(limit),
        as_of: windows.as_of.clone(),
        series: (series != Series::Events).then_some(series),
    };
    let own = own.is_some().then(|| reading.clone());
    Some(Verdict { level, worst: Some(reading), own })
}
