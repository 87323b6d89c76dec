//! Scores: what was predicted 30 days ago, compared with what has happened since.

use clickhouse::Row;
use jiff::{SignedDuration, Timestamp};
use predict::{
    Beta, BgBb, Bin, Forecast, HORIZON, Histories, History, OddsTable, Scores, SlotCounts,
    SlotModel, coverage,
};
use serde::Deserialize;

use super::deliveries::{Selection, beginning};
use super::mails::{self, ENGAGED_WITHIN, HISTORY, Scope, before, sql_time};
use super::sample::Sample;
use super::tables::ScoreRow;
use crate::database::{Database, literal};

/// How long ago the predictions were made that are scored.
const AGO: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A fit that is older than this before [`AGO`] is not scored.
const TOLERANCE: SignedDuration = SignedDuration::from_hours(24);

/// Above this expected calibration error, the view `predictions` shows nothing.
pub(super) const GREATEST_ECE: f64 = 0.05;

/// The scores of a source.
pub(super) struct Scoring<'a> {
    pub(super) database: &'a Database,
    pub(super) source: &'a str,
    /// Whole seconds.
    pub(super) at: Timestamp,
    pub(super) sample: Sample,
}

/// Shapes as they are stored. NaN: none.
#[derive(Debug, Row, Deserialize)]
struct ShapesRow {
    fitted_at: i64,
    alpha: f64,
    beta: f64,
    gamma: f64,
    delta: f64,
}

/// A history, what happened after it, and how often.
#[derive(Debug, Clone, Copy, Row, Deserialize)]
struct OutcomeRow {
    mails: u32,
    engaged: u32,
    last_engaged: u32,
    /// The mails after it, at most [`HORIZON`].
    following: u32,
    /// 1: engaged with the first of them.
    first: u8,
    /// How many of them are engaged.
    of_following: u32,
    recipients: u64,
}

impl Scoring<'_> {
    /// Scores every prediction about which something happened.
    ///
    /// # Errors
    /// If ClickHouse cannot be reached, or has no such tables.
    pub(super) fn scores(&self) -> anyhow::Result<Vec<ScoreRow>> {
        let mut scores = self.engagement()?;
        scores.extend(self.best_time()?);
        Ok(scores)
    }

    /// Scores the next engagement with the shapes that are stored, or with those that would have been fitted.
    fn engagement(&self) -> anyhow::Result<Vec<ScoreRow>> {
        let stored = self.stored_shapes()?;
        let predicted_at = stored.as_ref().map_or_else(|| before(self.at, AGO), |(at, _)| *at);
        let outcomes = self.outcomes(predicted_at)?;
        let mut histories = Histories::default();
        let mut happened = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            let history = History::new(outcome.mails, outcome.engaged, outcome.last_engaged)?;
            histories.add(history, outcome.recipients);
            happened.push((history, outcome));
        }
        let refitted = stored.is_none();
        let model = stored.map(|(_, model)| model).or_else(|| BgBb::fit(&histories).ok());
        let Some(model) = model else { return Ok(Vec::new()) };
        let table = OddsTable::new(&model, &histories);
        let (mut forecasts, mut intervals) = (Vec::new(), Vec::new());
        for (history, outcome) in happened {
            let Some(odds) = table.get(history).filter(|_| outcome.following > 0) else { continue };
            let forecast = Forecast { probability: odds.next, happened: outcome.first == 1 };
            let recipients = usize::try_from(outcome.recipients)?;
            forecasts.extend(std::iter::repeat_n(forecast, recipients));
            if outcome.following == HORIZON {
                let interval = (odds.next_ten, outcome.of_following);
                intervals.extend(std::iter::repeat_n(interval, recipients));
            }
        }
        let next = row("next", predicted_at, refitted, &forecasts);
        let next_ten = coverage(&intervals).map(|coverage| ScoreRow {
            prediction: "next_ten",
            predicted_at,
            refitted,
            forecasts: intervals.len() as u64,
            brier: None,
            log_loss: None,
            ece: None,
            coverage: Some(coverage),
            bins: Vec::new(),
        });
        Ok(next.into_iter().chain(next_ten).collect())
    }

    /// Returns the shapes that were fitted about 30 days ago, and when.
    fn stored_shapes(&self) -> anyhow::Result<Option<(Timestamp, BgBb)>> {
        let to = before(self.at, AGO);
        let rows: Vec<ShapesRow> = self.database.long_rows(&format!(
            "SELECT toInt64(toUnixTimestamp(fits.fitted_at)) AS fitted_at, ifNull(alpha, nan) AS alpha, \
             ifNull(beta, nan) AS beta, ifNull(gamma, nan) AS gamma, ifNull(delta, nan) AS delta FROM fits FINAL \
             WHERE source = {} AND model != 'unknown' AND fits.fitted_at > {} AND fits.fitted_at <= {} \
             ORDER BY fits.fitted_at DESC LIMIT 1",
            literal(self.source),
            before(to, TOLERANCE).as_second(),
            to.as_second(),
        ))?;
        let Some(row) = rows.into_iter().next() else { return Ok(None) };
        let quits = Beta::new(row.gamma, row.delta).ok();
        let Ok(engages) = Beta::new(row.alpha, row.beta) else { return Ok(None) };
        Ok(Some((Timestamp::from_second(row.fitted_at)?, BgBb::new(engages, quits))))
    }

    /// Reads the histories of the sample at a time, and the mails from then on of which it is known whether they are engaged.
    fn outcomes(&self, predicted_at: Timestamp) -> anyhow::Result<Vec<OutcomeRow>> {
        let known = before(predicted_at, ENGAGED_WITHIN);
        let mails =
            mails::mails(Scope::Source(self.source), &format!(" AND {}", self.sample.condition()));
        Ok(self.database.long_rows(&format!(
            "SELECT mails, engaged, last_engaged, following, first, of_following, count() AS recipients FROM \
             (SELECT {numbers}, arraySlice(future, 1, {HORIZON}) AS next, toUInt32(length(next)) AS following, \
             toUInt8(next[1]) AS first, toUInt32(arraySum(next)) AS of_following FROM \
             (SELECT recipient, {past} AS past, {future} AS future FROM ({mails}) \
             WHERE sent >= {from} AND sent < {to} GROUP BY recipient) WHERE notEmpty(past)) \
             GROUP BY mails, engaged, last_engaged, following, first, of_following \
             ORDER BY mails, engaged, last_engaged, following, first, of_following SETTINGS {bounds}",
            numbers = mails::numbers("past"),
            past = mails::sequence(&format!("sent < {}", sql_time(known))),
            future = mails::sequence(&format!("sent >= {}", sql_time(predicted_at))),
            from = sql_time(before(predicted_at, HISTORY)),
            to = sql_time(before(self.at, ENGAGED_WITHIN)),
            bounds = mails::BOUNDS,
        ))?)
    }

    /// Scores the best time with the model that would have been fitted, because its rates are not stored.
    fn best_time(&self) -> anyhow::Result<Option<ScoreRow>> {
        let predicted_at = before(self.at, AGO);
        let recipients = format!(" AND {}", self.sample.condition());
        let selection = Selection {
            source: self.source,
            zones: mails::zones(self.source, predicted_at, &recipients),
            recipients,
            from: beginning(predicted_at),
            to: self.at,
        };
        let read = selection.read(self.database)?;
        let counts: Vec<SlotCounts> = read.iter().map(|it| it.counts(predicted_at)).collect();
        let Ok(model) = SlotModel::fit(&counts) else { return Ok(None) };
        let forecasts = read.iter().zip(&counts).filter_map(|(deliveries, counts)| {
            let delivery = deliveries.first_from(predicted_at)?;
            let probability = model.rate(counts, delivery.slot);
            Some(Forecast { probability, happened: delivery.is_opened })
        });
        Ok(row("best_time", predicted_at, true, &forecasts.collect::<Vec<_>>()))
    }
}

/// Returns `None` without forecasts.
fn row(
    prediction: &'static str,
    predicted_at: Timestamp,
    refitted: bool,
    forecasts: &[Forecast],
) -> Option<ScoreRow> {
    let scores = Scores::of(forecasts)?;
    Some(ScoreRow {
        prediction,
        predicted_at,
        refitted,
        forecasts: forecasts.len() as u64,
        brier: Some(scores.brier),
        log_loss: Some(scores.log_loss),
        ece: Some(scores.ece),
        coverage: None,
        bins: Bin::of(forecasts),
    })
}

impl ScoreRow {
    /// Returns whether the view hides the prediction because of this score.
    pub(super) fn is_hidden(&self) -> bool {
        self.ece.is_some_and(|ece| ece > GREATEST_ECE)
    }
}
