//! Comparisons with what is usual.

use super::{DELIVERY_CHANGE, Level, Sample, Windows};
use crate::baseline::{Baseline, Engagement, Series};
use crate::bounds::float;
use crate::rule::{Rule, RuleWindow};

/// Returns the thresholds of a rule that is also broken at a multiple of the usual rate.
pub(super) fn relative(rule: &Rule, baseline: Option<&Baseline>, end: i64) -> [Option<f64>; 3] {
    let thresholds = [rule.warning, rule.critical, rule.page];
    let usual = || {
        let relative = rule.baseline?;
        let share = baseline?.usual_share(Series::Deferred, Series::Attempted, end - 1)?;
        Some((share * relative.factor?).max(relative.at_least.unwrap_or(0.0)))
    };
    let Some(multiple) = usual() else { return thresholds };
    // The multiple concerns the mildest severity.
    let mut is_mildest = true;
    thresholds.map(|threshold| {
        let threshold = threshold?;
        Some(if std::mem::take(&mut is_mildest) { threshold.min(multiple) } else { threshold })
    })
}

/// Returns the engagement of recent mail, and the usual rate. `None` without history, or if fewer messages than
/// usual were delivered: then the cause is another one. Without recent mail there is nothing to compare, and the
/// usual rate is 0.
pub(super) fn engagement(windows: &Windows<'_>, window: &RuleWindow) -> Option<(Sample, f64)> {
    let RuleWindow::Cohort { youngest, oldest } = *window else { return None };
    let (from, to) = RuleWindow::cohort_at(youngest, oldest, windows.evidence.end());
    let baseline = windows.evidence.baseline()?;
    let compared = baseline.engagement(to);
    let (now, usual) =
        compared.unwrap_or_else(|| (baseline.recent_engagement(to), Engagement::default()));
    let (k, n) = (now.engaged.min(now.accepted), now.accepted);
    let sample = Sample { from, to, k, n, judged: (k, n) };
    if now.sent == 0 {
        return Some((sample, 0.0));
    }
    let share = |part: u64, whole: u64| (whole > 0).then(|| float(part) / float(whole));
    let is_unchanged =
        share(now.accepted, now.sent)? >= share(usual.accepted, usual.sent)? - DELIVERY_CHANGE;
    let usual = share(usual.engaged, usual.accepted).filter(|_| is_unchanged)?;
    Some((sample, usual))
}

/// Compares the number of events in an hour with the same hour of seven days.
pub(super) fn burst(
    rule: &Rule,
    sample: &Sample,
    thresholds: &mut [Option<f64>; 3],
    baseline: &Baseline,
) -> Option<Level> {
    let (usual, _) = baseline.usual_at_hour(Series::Complained, sample.to - 1)?;
    // Thresholds as rates, like the value: so many times the usual number of this mail.
    *thresholds = [rule.warning, rule.critical, rule.page]
        .map(|factor| Some(factor? * usual.mean() / float(sample.n.max(1))));
    let is_rare = sample.k >= rule.min_count && usual.tail(sample.k) < rule.confidence;
    for severity in Rule::SEVERITIES {
        let times = rule.threshold(severity).map(|factor| factor * usual.mean());
        if is_rare && times.is_some_and(|times| float(sample.k) > times) {
            return Some(Level::Breach(severity));
        }
    }
    let lowest = rule.resolve.below * rule.lowest_threshold() * usual.mean();
    let is_elevated = sample.k >= rule.min_count && float(sample.k) > lowest;
    Some(if is_elevated { Level::Elevated } else { Level::Good })
}

/// Returns whether deliveries are missing: none, many other events, and both is unusual at this hour.
pub(super) fn missing(rule: &Rule, sample: &Sample, baseline: &Baseline) -> Option<Level> {
    if sample.k < sample.n || sample.n == 0 {
        return Some(if sample.n == 0 { Level::Starved } else { Level::Good });
    }
    if sample.n < rule.min_volume {
        return Some(Level::Starved);
    }
    let share = baseline.usual_share(Series::Delivered, Series::Events, sample.to - 1)?;
    let chance = baseline.ln_silence(Series::Delivered, sample.from, sample.to);
    let is_unusual = chance < rule.confidence.ln();
    let severity = Rule::SEVERITIES
        .into_iter()
        .find(|severity| rule.threshold(*severity).is_some_and(|least| share >= least));
    Some(severity.filter(|_| is_unusual).map_or(Level::Elevated, Level::Breach))
}
