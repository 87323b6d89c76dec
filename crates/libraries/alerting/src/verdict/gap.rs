use super::{KINDS, Level, OwnWindow, Reading, Verdict, Windows};
use crate::Severity;
use crate::baseline::{SHORTEST_SILENCE, Series};
use crate::bounds::float;
use crate::evidence::Evidence;
use crate::rule::{Rule, RuleWindow};

/// Returns the series that are tracked, with the time of their last event.
pub(crate) fn silences(evidence: &dyn Evidence) -> impl Iterator<Item = (Series, i64)> {
    let series = std::iter::once(Series::Events).chain(KINDS);
    series.filter_map(|series| Some((series, evidence.last_event_of(series)?)))
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
        thresholds: [Severity::Warning, Severity::Critical, Severity::Page].map(limit),
        as_of: windows.as_of.clone(),
        series: (series != Series::Events).then_some(series),
    };
    let own = own.is_some().then(|| reading.clone());
    Some(Verdict { level, worst: Some(reading), own })
}
