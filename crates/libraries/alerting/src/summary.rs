use window::{Direction, Scope};

use crate::bounds::float;
use crate::rule::{Rule, RuleWindow, Test};
use crate::verdict::Reading;
use crate::wording::{
    clock, clock_and_day, count, decimal, duration, limit, percent, scope_name, window_words,
};
use crate::{AlertState, Basis, Measure, ResolveReason, Share};

/// In seconds. The time of a longer silence is shown with its day.
const DAY: u64 = 24 * 3600;

/// What the text of an alert is about.
pub(crate) struct Text<'t> {
    pub(crate) metric: Measure,
    pub(crate) reading: &'t Reading,
    pub(crate) threshold: f64,
    pub(crate) bound: Option<f64>,
    /// `None` if the rule was removed.
    pub(crate) rule: Option<&'t Rule>,
}

/// Returns an alert as one line, such as
/// `acme at SendGrid: hard bounces 16.4 % in 5 min (82 of 501 sent), limit 10 %, lower bound 11.4 %`.
pub(crate) fn summary(
    scope: &Scope,
    text: &Text<'_>,
    state: AlertState,
    reason: Option<ResolveReason>,
) -> String {
    let scope = scope_name(scope);
    let figures = figures(text);
    let since = || clock(text.reading.to);
    match (state, reason) {
        (AlertState::Firing, _) => format!("{scope}: {figures}{}", limits(text)),
        (AlertState::Stale, _) => {
            format!("{scope}: no mail since {}, last seen {figures}", since())
        }
        (AlertState::Resolved, Some(ResolveReason::NoTraffic)) => {
            format!(
                "{scope}: ended without recovery, no mail since {}, last seen {figures}",
                since()
            )
        }
        (AlertState::Resolved, Some(ResolveReason::RuleRemoved)) => {
            format!("{scope}: ended because the rule was removed, last seen {figures}")
        }
        (AlertState::Resolved, Some(ResolveReason::Closed)) => {
            format!("{scope}: closed by a person, last seen {figures}")
        }
        (AlertState::Resolved, Some(ResolveReason::Recovered) | None) => {
            format!("{scope}: recovered, {}", recovered(text, &figures))
        }
    }
}

fn recovered(text: &Text<'_>, figures: &str) -> String {
    match text.metric {
        Measure::Share(Share::Gap) => "events come again".to_owned(),
        _ => figures.to_owned(),
    }
}

/// Returns the rate, numerator and denominator.
fn figures(text: &Text<'_>) -> String {
    let Reading { numerator, volume, .. } = *text.reading;
    let metric = text.metric;
    let window = window_text(text);
    match metric {
        Measure::Share(Share::Gap) => {
            let what = text.reading.series.map_or("events", crate::baseline::Series::as_str);
            let what = if what == "events" { "events" } else { &format!("`{what}` events") };
            let since = match numerator {
                0..DAY => clock(text.reading.from),
                _ => clock_and_day(text.reading.from),
            };
            format!("no {what} for {} (since {since})", duration(numerator))
        }
        Measure::Share(Share::DeliveriesMissing) => {
            format!("no deliveries {window}, but {} other events", count(volume))
        }
        _ => {
            let rate =
                text.reading.value().map_or_else(|| "of an unknown rate".to_owned(), percent);
            let (noun, whole) = (metric.noun(), metric.whole());
            format!("{noun} {rate} {window} ({} of {} {whole})", count(numerator), count(volume))
        }
    }
}

fn window_text(text: &Text<'_>) -> String {
    let basis = text.rule.map_or(Basis::Arrival, |rule| rule.basis);
    let window = RuleWindow::parse(&text.reading.window, basis);
    window.map_or_else(|| format!("in {}", text.reading.window), |window| window_words(&window))
}

/// Returns what the rate was compared with.
fn limits(text: &Text<'_>) -> String {
    let side = match text.rule.map(|rule| rule.direction) {
        Some(Direction::Under) => "upper",
        Some(Direction::Over) | None => "lower",
    };
    let bound = text.bound.map(|bound| format!(", {side} bound {}", percent(bound)));
    let threshold = text.threshold;
    match text.rule.map(|rule| rule.test) {
        Some(Test::Gap) if threshold > 0.0 => {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds")]
            let limit = duration(threshold as u64);
            format!(", usually less than {limit}")
        }
        Some(Test::Gap) => String::new(),
        Some(Test::Missing) => {
            format!(
                ", although usually more than {} of its events are deliveries",
                limit(threshold)
            )
        }
        Some(Test::Burst) => {
            // The thresholds of the reading are those of the rule times what is usual.
            let lowest = text.rule.map_or(1.0, Rule::lowest_threshold);
            let usual = text.reading.thresholds.iter().flatten().next().map(|it| it / lowest);
            let times = |rate: f64| usual.map_or_else(String::new, |usual| decimal(rate / usual));
            let value = text.reading.value().unwrap_or_default();
            // Only one in days is usual, so a multiple of it says nothing.
            let is_rare = |usual: f64| usual * float(text.reading.volume) < 1.0;
            if usual.is_some_and(is_rare) {
                return ", usually less than one at this hour".to_owned();
            }
            let (now, limit) = (times(value), times(threshold));
            format!(", {now} times as many as usual at this hour, limit {limit} times")
        }
        _ => format!(", limit {}{}", limit(threshold), bound.unwrap_or_default()),
    }
}
