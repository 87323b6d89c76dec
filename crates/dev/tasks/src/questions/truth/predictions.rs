//! Predictions and their scores. What `mailpulse predict` computes is proven elsewhere; here rows are known.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::text::{Row, round, row, time};
use super::{Others, Parameters};
use crate::clickhouse::Database;
use crate::questions::mail::{DAY, END, HOUR};

/// A row of `best_times`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BestTime {
    pub(crate) source: &'static str,
    /// From 0 to 11.
    pub(crate) slot: u8,
    pub(crate) is_certain: bool,
    /// Whether it is of the latest fit.
    pub(crate) is_latest: bool,
    /// The probability and the ends of its interval.
    pub(crate) rate: [f64; 3],
}

/// A row of `scores`. Its ten bins have 40 forecasts each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Score {
    pub(crate) source: &'static str,
    pub(crate) prediction: &'static str,
    /// Unix seconds.
    pub(crate) scored_at: i64,
    /// By bin: what was predicted, and what has happened.
    pub(crate) bins: &'static [(f64, f64); 10],
}

impl Score {
    /// The mean difference of bins with the same number of forecasts.
    fn ece(&self) -> f64 {
        self.bins.iter().map(|(predicted, happened)| (happened - predicted).abs()).sum::<f64>()
            / 10.0
    }
}

/// The forecasts of a bin.
const FORECASTS: f64 = 40.0;

/// The rows that are inserted. `acme` has certain best times, and a bad score of them.
pub(crate) const BEST_TIMES: [BestTime; 9] = [
    best("shop", 4, true, true, [0.41, 0.31, 0.52]),
    best("shop", 4, true, true, [0.52, 0.40, 0.63]),
    best("shop", 9, true, true, [0.75, 0.61, 0.84]),
    best("shop", 0, true, true, [0.33, 0.21, 0.45]),
    best("shop", 9, false, true, [0.35, 0.30, 0.40]),
    best("shop", 11, true, false, [0.90, 0.80, 0.95]),
    best("shop", 9, true, false, [0.90, 0.80, 0.95]),
    best("acme", 3, true, true, [0.20, 0.10, 0.30]),
    best("acme", 5, true, true, [0.60, 0.50, 0.70]),
];
const GOOD: [(f64, f64); 10] = [
    (0.01, 0.0),
    (0.04, 0.05),
    (0.08, 0.1),
    (0.12, 0.1),
    (0.2, 0.225),
    (0.27, 0.25),
    (0.35, 0.375),
    (0.48, 0.45),
    (0.6, 0.625),
    (0.82, 0.8),
];
const BAD: [(f64, f64); 10] = [
    (0.01, 0.1),
    (0.04, 0.1),
    (0.08, 0.1),
    (0.12, 0.2),
    (0.2, 0.3),
    (0.27, 0.35),
    (0.35, 0.45),
    (0.48, 0.55),
    (0.6, 0.7),
    (0.82, 0.9),
];
pub(crate) const SCORES: [Score; 5] = [
    score("shop", "next", END - 30 * HOUR, &BAD),
    score("shop", "next", END - 6 * HOUR, &GOOD),
    score("shop", "best_time", END - 6 * HOUR, &GOOD),
    score("acme", "best_time", END - 30 * HOUR, &GOOD),
    score("acme", "best_time", END - 6 * HOUR, &BAD),
];

/// See docs/prediction.md.
const GREATEST_ECE: f64 = 0.05;

const fn best(
    source: &'static str,
    slot: u8,
    is_certain: bool,
    is_latest: bool,
    rate: [f64; 3],
) -> BestTime {
    BestTime { source, slot, is_certain, is_latest, rate }
}

const fn score(
    source: &'static str,
    prediction: &'static str,
    scored_at: i64,
    bins: &'static [(f64, f64); 10],
) -> Score {
    Score { source, prediction, scored_at, bins }
}

/// Inserts the rows, as two fits of each source.
pub(crate) async fn insert(database: &Database) -> anyhow::Result<()> {
    // Rows of a fit expire after some days, so they are written now.
    let now = jiff::Timestamp::now().as_second();
    let written = |is_latest: bool| {
        format!("toDateTime64({}, 3, 'UTC')", if is_latest { now - HOUR } else { now - DAY })
    };
    let fitted =
        |is_latest: bool| format!("toDateTime({}, 'UTC')", if is_latest { END } else { END - DAY });
    let (mut fits, mut times, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    for source in ["shop", "acme"] {
        for is_latest in [false, true] {
            fits.push(format!("('{source}', {}, {})", fitted(is_latest), written(is_latest)));
        }
    }
    for (number, it) in BEST_TIMES.iter().enumerate() {
        let BestTime { source, slot, is_certain, is_latest, rate: [rate, low, high] } = it;
        let (fitted, written) = (fitted(*is_latest), written(*is_latest));
        times.push(format!(
            "('{source}', 'r{number}@example.com', {slot}, {is_certain}, {rate}, {low}, {high}, {fitted}, {written})"
        ));
    }
    for score in SCORES {
        let Score { source, prediction, scored_at, bins } = score;
        let ece = score.ece();
        let array = |value: fn((f64, f64)) -> f64| format!("{:?}", bins.map(value));
        let (forecasts, predicted, happened) =
            (array(|_| FORECASTS), array(|bin| bin.0), array(|bin| bin.1));
        scores.push(format!(
            "('{source}', '{prediction}', {scored_at}, {ece}, {forecasts}, {predicted}, {happened}, now64(3))"
        ));
    }
    for (table, columns, rows) in [
        ("fits", "source, fitted_at, written_at", fits),
        (
            "best_times",
            "source, recipient, slot, certain, rate, rate_low, rate_high, fitted_at, written_at",
            times,
        ),
        (
            "scores",
            "source, prediction, scored_at, ece, bin_forecasts, bin_predicted, bin_happened, written_at",
            scores,
        ),
    ] {
        let mut sql = format!("INSERT INTO {table} ({columns}) SETTINGS async_insert = 0 VALUES ");
        let _ = write!(sql, "{}", rows.join(", "));
        database.text(&sql).await?;
    }
    Ok(())
}

fn latest(others: &Others<'_>, source: &str, prediction: &str) -> Option<Score> {
    let of_source =
        others.scores.iter().filter(|it| it.source == source && it.prediction == prediction);
    of_source.max_by_key(|it| it.scored_at).copied()
}

pub(super) fn best_times(others: &Others<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let source = p.text("source")?;
    if latest(others, source, "best_time").is_some_and(|score| score.ece() > GREATEST_ECE) {
        return Ok(Vec::new());
    }
    let mut slots: BTreeMap<u8, Vec<[f64; 3]>> = BTreeMap::new();
    for it in others.best_times.iter().filter(|it| it.source == source) {
        if it.is_certain && it.is_latest {
            slots.entry(it.slot).or_default().push(it.rate);
        }
    }
    let line = |(slot, rates): (u8, Vec<[f64; 3]>)| {
        let mean = |index: usize| {
            round(rates.iter().map(|rate| rate[index]).sum::<f64>() / rates.len() as f64, 4)
        };
        row(&[&(2 * u32::from(slot)), &rates.len(), &mean(0), &mean(1), &mean(2)])
    };
    Ok(slots.into_iter().map(line).collect())
}

pub(super) fn calibration(others: &Others<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let score = latest(others, p.text("source")?, p.text("prediction")?);
    let lines = score.into_iter().flat_map(|score| {
        score.bins.iter().enumerate().map(move |(bin, (predicted, happened))| {
            let difference = round(happened - predicted, 4);
            let ece = round(score.ece(), 4);
            let at = time(score.scored_at);
            row(&[&(bin + 1), &FORECASTS, predicted, happened, &difference, &ece, &at])
        })
    });
    Ok(lines.collect())
}
