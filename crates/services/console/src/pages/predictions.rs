//! `/predictions`: what is predicted about recipients, and how right earlier predictions were. No number is shown without
//! the interval or the counts that tell how sure it is.

use std::collections::BTreeMap;

use askama::Template;
use http::StatusCode;
use serde::Deserialize;

use super::{Ask, Frame, Part, TimeCell};
use crate::format;
use crate::problem::Problem;
use crate::response::{self, Response};
use crate::store::Query;
use crate::traffic::Rate;

/// 80 % of a normal distribution are within this many standard deviations, as in `predictions`.
const DEVIATIONS_80: f64 = 1.281_55;

/// Above this expected calibration error, the view `predictions` hides predictions.
const GREATEST_ECE: f64 = 0.05;

/// The size of a calibration plot, without the margins.
const PLOT: f64 = 240.0;

#[derive(Template)]
#[template(path = "predictions.html")]
struct Page {
    frame: Frame,
    sources: Part<Vec<SourceRow>>,
    scores: Part<Vec<ScoreCard>>,
}

struct SourceRow {
    row: Source,
    recipients: String,
    known: String,
    status: &'static str,
    /// The expected share of recipients who engage with their next mail, and its interval. Empty: unknown.
    next: String,
    next_interval: String,
    certain: String,
    certain_share: String,
    fitted: TimeCell,
}

/// The latest score of one prediction of a source.
struct ScoreCard {
    source: String,
    title: &'static str,
    prediction: String,
    forecasts: String,
    scored: TimeCell,
    ece: String,
    ece_interval: String,
    is_off: bool,
    /// Of the intervals for the next ten mails. Empty: unknown.
    coverage: String,
    coverage_interval: String,
    /// Where probabilities end: 1, or less so that small ones can be seen.
    end: String,
    bins: Vec<Bin>,
}

/// A point of the plot, in its coordinates, and the interval of what happened.
struct Bin {
    x: String,
    y: String,
    low: String,
    high: String,
    predicted: String,
    happened: String,
    interval: String,
    forecasts: u64,
}

#[derive(Deserialize)]
struct Source {
    source: String,
    model: String,
    recipients: u64,
    known: u64,
    miscalibrated: u64,
    /// The expected number of known recipients who engage with their next mail.
    expected: f64,
    variance: f64,
    certain: u64,
    with_slot: u64,
    /// Seconds since the Unix epoch.
    fitted_at: i64,
}

#[derive(Deserialize)]
struct Score {
    source: String,
    prediction: String,
    /// Seconds since the Unix epoch.
    scored_at: i64,
    forecasts: u64,
    ece: Option<f64>,
    coverage: Option<f64>,
    bin_forecasts: Vec<f64>,
    bin_predicted: Vec<f64>,
    bin_happened: Vec<f64>,
}

/// Renders the page. What ClickHouse does not answer is named in its place.
///
/// # Errors
/// If the template fails.
pub async fn render(ask: &Ask<'_>) -> Result<Response, Problem> {
    let store = &ask.pages.store;
    let sources = Query::new("predictions", include_str!("../sql/predictions.sql"));
    let scores = Query::new("scores", include_str!("../sql/scores.sql"));
    let (sources, scores) =
        tokio::join!(store.rows::<Source>(&sources), store.rows::<Score>(&scores));
    let page = Page {
        frame: ask.frame("Predictions", "predictions"),
        sources: sources.map(|rows| rows.into_iter().map(source_row).collect()).into(),
        scores: scores.map(cards).into(),
    };
    response::page(StatusCode::OK, &page)
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn source_row(row: Source) -> SourceRow {
    let known = row.known as f64;
    let share = |number: f64| format::percent((number / known).clamp(0.0, 1.0));
    let width = DEVIATIONS_80 * row.variance.max(0.0).sqrt();
    let is_known = row.known > 0;
    SourceRow {
        recipients: format::count(row.recipients),
        known: format::count(row.known),
        status: match &row {
            row if row.known > 0 => "known",
            row if row.miscalibrated > 0 => "miscalibrated",
            _ => "unknown",
        },
        next: if is_known { share(row.expected) } else { String::new() },
        next_interval: if is_known {
            format!("{} to {}", share(row.expected - width), share(row.expected + width))
        } else {
            String::new()
        },
        certain: if row.with_slot > 0 { format::count(row.certain) } else { String::new() },
        certain_share: format!("of {}", format::count(row.with_slot)),
        fitted: TimeCell::new(row.fitted_at * 1_000_000),
        row,
    }
}

/// Returns a card for each source and scored probability.
fn cards(rows: Vec<Score>) -> Vec<ScoreCard> {
    let coverage: BTreeMap<String, Rate> = rows
        .iter()
        .filter(|row| row.prediction == "next_ten")
        .filter_map(|row| Some((row.source.clone(), rate(row.coverage?, row.forecasts))))
        .collect();
    let mut cards: Vec<ScoreCard> = rows
        .into_iter()
        .filter_map(|row| {
            let title = match &*row.prediction {
                "next" => "Next engagement",
                "best_time" => "Best time",
                _ => return None,
            };
            let coverage = coverage.get(&row.source).filter(|_| row.prediction == "next");
            Some(card(row, title, coverage.copied()))
        })
        .collect();
    cards.sort_by(|a, b| (&a.source, b.title).cmp(&(&b.source, a.title)));
    cards
}

fn card(row: Score, title: &'static str, coverage: Option<Rate>) -> ScoreCard {
    let bins = row.bin_forecasts.iter().zip(&row.bin_predicted).zip(&row.bin_happened);
    let bins: Vec<(f64, Rate, f64)> = bins
        .filter(|((forecasts, _), _)| **forecasts >= 0.5)
        .map(|((forecasts, predicted), happened)| {
            (*predicted, rate(*happened, forecasts.round() as u64), *happened)
        })
        .collect();
    let bins = merged(bins);
    let ends = bins.iter().flat_map(|(predicted, happened)| {
        [*predicted, happened.interval().map_or(0.0, |(_, high)| high)]
    });
    let greatest = ends.fold(0.0, f64::max);
    let end = [0.1, 0.25, 0.5].into_iter().find(|end| greatest <= *end).unwrap_or(1.0);
    let error = bounds_of_error(&bins).filter(|_| row.ece.is_some());
    ScoreCard {
        title,
        forecasts: format::count(row.forecasts),
        scored: TimeCell::new(row.scored_at * 1_000_000),
        ece: row.ece.map_or_else(|| "unknown".to_owned(), |ece| format!("{ece:.3}")),
        ece_interval: error
            .map_or_else(String::new, |(low, high)| format!("{low:.3} to {high:.3}")),
        is_off: row.ece.is_some_and(|ece| ece > GREATEST_ECE),
        coverage: coverage.map_or_else(String::new, Rate::percent),
        coverage_interval: coverage.map_or_else(String::new, Rate::interval_text),
        end: format!("{:.0} %", 100.0 * end),
        bins: bins.iter().map(|(predicted, happened)| bin(*predicted, *happened, end)).collect(),
        source: row.source,
        prediction: row.prediction,
    }
}

/// Merges adjacent bins with the same values: forecasts of one probability that fill several bins were divided among them
/// evenly, so that their intervals would be too wide.
fn merged(bins: Vec<(f64, Rate, f64)>) -> Vec<(f64, Rate)> {
    let mut groups: Vec<(f64, Rate, f64)> = Vec::with_capacity(bins.len());
    for (predicted, happened, share) in bins {
        match groups.last_mut() {
            Some(last) if is_same(last.0, predicted) && is_same(last.2, share) => {
                last.1.numerator += happened.numerator;
                last.1.denominator += happened.denominator;
            }
            _ => groups.push((predicted, happened, share)),
        }
    }
    groups.into_iter().map(|(predicted, happened, _)| (predicted, happened)).collect()
}

/// Whether two sums of floating-point numbers differ only by rounding.
fn is_same(one: f64, other: f64) -> bool {
    (one - other).abs() < 1e-9
}

fn bin(predicted: f64, happened: Rate, end: f64) -> Bin {
    let at = |share: f64| format!("{:.1}", PLOT * (share / end).clamp(0.0, 1.0));
    // In SVG, 0 is at the top.
    let above = |share: f64| format!("{:.1}", PLOT * (1.0 - (share / end).clamp(0.0, 1.0)));
    let (low, high) = happened.interval().unwrap_or((0.0, 1.0));
    Bin {
        x: at(predicted),
        y: above(happened.share().unwrap_or(0.0)),
        low: above(low),
        high: above(high),
        predicted: format::percent(predicted),
        happened: happened.percent(),
        interval: happened.interval_text(),
        forecasts: happened.denominator,
    }
}

/// Returns the least and the greatest calibration error that the intervals of the bins allow. `None` without a bin.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn bounds_of_error(bins: &[(f64, Rate)]) -> Option<(f64, f64)> {
    let all: u64 = bins.iter().map(|(_, happened)| happened.denominator).sum();
    let bounds = bins.iter().filter_map(|(predicted, happened)| {
        let (low, high) = happened.interval()?;
        let weight = happened.denominator as f64 / all as f64;
        let least = (low - predicted).max(predicted - high).max(0.0);
        let greatest = (predicted - low).abs().max((high - predicted).abs());
        Some((weight * least, weight * greatest))
    });
    let sums = bounds.fold((0.0, 0.0), |sum, bound| (sum.0 + bound.0, sum.1 + bound.1));
    (all > 0).then_some(sums)
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn rate(share: f64, of: u64) -> Rate {
    Rate { numerator: (share.clamp(0.0, 1.0) * of as f64).round() as u64, denominator: of }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_of_the_error_contain_it_and_are_0_only_if_calibration_is_possible() {
        let right = [
            (0.1, Rate { numerator: 10, denominator: 100 }),
            (0.5, Rate { numerator: 52, denominator: 100 }),
        ];
        let (low, high) = bounds_of_error(&right).unwrap();
        assert!(low == 0.0 && high > 0.01, "{low} {high}");
        let wrong = [(0.1, Rate { numerator: 300, denominator: 1_000 })];
        let (low, high) = bounds_of_error(&wrong).unwrap();
        assert!(low > 0.15 && low < 0.2 && high > 0.2, "{low} {high}");
        assert_eq!(bounds_of_error(&[]), None);
    }

    #[test]
    fn bins_with_the_same_values_are_one() {
        let of = |predicted, share| (predicted, rate(share, 50), share);
        let bins = merged(vec![of(0.1, 0.2), of(0.1, 0.2), of(0.1, 0.3), of(0.2, 0.3)]);
        let found: Vec<_> =
            bins.iter().map(|(_, happened)| (happened.numerator, happened.denominator)).collect();
        assert_eq!(found, [(20, 100), (15, 50), (15, 50)]);
        assert_eq!(merged(Vec::new()).len(), 0);
    }

    #[test]
    fn a_source_without_known_recipients_has_no_number() {
        let source = |known, expected, variance| Source {
            source: "shop".to_owned(),
            model: "unknown".to_owned(),
            recipients: 7,
            known,
            miscalibrated: 0,
            expected,
            variance,
            certain: 0,
            with_slot: 0,
            fitted_at: 0,
        };
        let row = source_row(source(0, 0.0, 0.0));
        assert_eq!(
            (row.status, &*row.next, &*row.next_interval, &*row.certain),
            ("unknown", "", "", "")
        );
        let row = source_row(source(100, 20.0, 16.0));
        assert_eq!((&*row.next, &*row.next_interval), ("20.0 %", "14.9 % to 25.1 %"));
    }
}
