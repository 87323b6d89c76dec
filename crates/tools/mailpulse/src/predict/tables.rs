//! The tables of schemas/clickhouse/0022_predictions.sql, as a run writes them.

use std::fmt::Write;

use jiff::Timestamp;
use predict::{BgBb, Bin, Odds};

use super::best_time::BestTime;
use super::mails::{self, Scope, sql_time};
use crate::database::{Database, literal};

/// The rows of one insert; about 2 MB of text.
const ROWS_AT_ONCE: usize = 10_000;

/// The tables of which the rows of a fit are a part.
const OF_A_FIT: [&str; 3] = ["engagement_histories", "odds", "best_times"];
/// Those of them with addresses.
const WITH_RECIPIENTS: [&str; 2] = ["engagement_histories", "best_times"];

/// The TTL of these two, and a day: older rows do not exist.
const KEPT_DAYS: u32 = 8;

/// One fit of one source: which rows belong to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fit<'a> {
    pub(super) source: &'a str,
    /// Whole seconds.
    pub(super) fitted_at: Timestamp,
    pub(super) written_at: Timestamp,
}

/// What a row of `fits` says besides the times.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FitRow {
    pub(super) model: &'static str,
    pub(super) fitted_to: &'static str,
    pub(super) recipients: u64,
    pub(super) recipients_of_two: u64,
    pub(super) recipients_fitted: u64,
    pub(super) shapes: Option<BgBb>,
    pub(super) ln_likelihood: Option<f64>,
    pub(super) best_time_recipients: u64,
    /// From 0 to 11.
    pub(super) best_slot: Option<usize>,
    pub(super) concentration: Option<f64>,
    pub(super) seconds: f64,
}

/// The scores of one prediction of a source.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ScoreRow {
    pub(super) prediction: &'static str,
    pub(super) predicted_at: Timestamp,
    pub(super) refitted: bool,
    pub(super) forecasts: u64,
    pub(super) brier: Option<f64>,
    pub(super) log_loss: Option<f64>,
    pub(super) ece: Option<f64>,
    pub(super) coverage: Option<f64>,
    pub(super) bins: Vec<Bin>,
}

impl Fit<'_> {
    /// Returns the condition on the rows of this fit.
    pub(super) fn condition(&self) -> String {
        format!("source = {} AND written_at = {}", literal(self.source), sql_time(self.written_at))
    }

    /// Returns the columns `fitted_at` and `written_at` as SQL.
    fn times(&self) -> String {
        format!("{}, {}", text(self.fitted_at), text(self.written_at))
    }

    /// Writes the history of every recipient. ClickHouse computes them, so that no address leaves it.
    ///
    /// # Errors
    /// If ClickHouse cannot be reached, or has no such table.
    pub(super) fn write_histories(&self, database: &Database) -> anyhow::Result<()> {
        let histories = mails::histories(Scope::Source(self.source), self.fitted_at);
        let zones = mails::zones(self.source, self.fitted_at, "");
        database.execute(&format!(
            "INSERT INTO engagement_histories \
             (source, recipient, mails, engaged, last_engaged, zone, fitted_at, written_at) \
             SELECT history.source, history.recipient, history.mails, history.engaged, history.last_engaged, \
             zones.zone, {} FROM ({histories}) AS history \
             LEFT JOIN ({zones}) AS zones ON zones.recipient = history.recipient SETTINGS {}",
            self.times(),
            mails::BOUNDS,
        ))?;
        Ok(())
    }

    /// Writes the odds of every history.
    ///
    /// # Errors
    /// If ClickHouse cannot be reached, or has no such table.
    pub(super) fn write_odds(
        &self,
        database: &Database,
        model: &BgBb,
        odds: impl Iterator<Item = (predict::History, Odds, u64)>,
    ) -> anyhow::Result<()> {
        let (source, model) = (literal(self.source), literal(name(model)));
        let rows = odds.map(|(history, odds, recipients)| {
            format!(
                "({source}, {}, {}, {}, {recipients}, {model}, {}, {}, {}, {}, {})",
                history.mails(),
                history.engaged(),
                history.last_engaged(),
                odds.next.get(),
                odds.alive.get(),
                odds.next_ten.low(),
                odds.next_ten.high(),
                self.times(),
            )
        });
        let columns = "source, mails, engaged, last_engaged, recipients, model, next, alive, next_ten_low, \
                       next_ten_high, fitted_at, written_at";
        insert(database, "odds", columns, rows)
    }

    /// Writes best times of recipients.
    ///
    /// # Errors
    /// If ClickHouse cannot be reached, or has no such table.
    pub(super) fn write_best_times(
        &self,
        database: &Database,
        best_times: &[BestTime],
    ) -> anyhow::Result<()> {
        let source = literal(self.source);
        let rows = best_times.iter().map(|best| {
            format!(
                "({source}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {})",
                literal(&best.recipient),
                literal(&best.zone),
                best.delivered,
                best.opened,
                best.slot.slot.index(),
                best.slot.certain,
                best.rate.get(),
                best.rate_low.get(),
                best.rate_high.get(),
                self.times(),
            )
        });
        let columns = "source, recipient, zone, delivered, opened, slot, certain, rate, rate_low, rate_high, \
                       fitted_at, written_at";
        insert(database, "best_times", columns, rows)
    }

    /// Writes the row of `fits`. From now on, the view shows this fit.
    ///
    /// # Errors
    /// If ClickHouse cannot be reached, or has no such table.
    pub(super) fn write(&self, database: &Database, row: &FitRow) -> anyhow::Result<()> {
        let engages = row.shapes.map(|shapes| shapes.engages());
        let quits = row.shapes.and_then(|shapes| shapes.quits());
        let values = format!(
            "({}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {})",
            literal(self.source),
            self.times(),
            literal(row.model),
            literal(row.fitted_to),
            row.recipients,
            row.recipients_of_two,
            row.recipients_fitted,
            nullable(engages.map(|beta| beta.a())),
            nullable(engages.map(|beta| beta.b())),
            nullable(quits.map(|beta| beta.a())),
            nullable(quits.map(|beta| beta.b())),
            nullable(row.ln_likelihood),
            row.best_time_recipients,
            nullable(row.best_slot),
            nullable(row.concentration),
            row.seconds,
        );
        let columns = "source, fitted_at, written_at, model, fitted_to, recipients, recipients_of_two, \
                       recipients_fitted, alpha, beta, gamma, delta, log_likelihood, best_time_recipients, \
                       best_slot, best_time_concentration, seconds";
        insert(database, "fits", columns, std::iter::once(values))
    }

    /// Writes scores. A row with the same source, prediction and time is replaced.
    ///
    /// # Errors
    /// If ClickHouse cannot be reached, or has no such table.
    pub(super) fn write_scores(
        &self,
        database: &Database,
        scores: &[ScoreRow],
    ) -> anyhow::Result<()> {
        let source = literal(self.source);
        let rows = scores.iter().map(|score| {
            format!(
                "({source}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {})",
                literal(score.prediction),
                text(self.fitted_at),
                text(score.predicted_at),
                score.refitted,
                score.forecasts,
                nullable(score.brier),
                nullable(score.log_loss),
                nullable(score.ece),
                nullable(score.coverage),
                array(score.bins.iter().map(|bin| bin.forecasts)),
                array(score.bins.iter().map(|bin| bin.predicted)),
                array(score.bins.iter().map(|bin| bin.happened)),
                text(self.written_at),
            )
        });
        let columns = "source, prediction, scored_at, predicted_at, refitted, forecasts, brier, log_loss, ece, \
                       coverage, bin_forecasts, bin_predicted, bin_happened, written_at";
        insert(database, "scores", columns, rows)
    }

    /// Deletes the rows of earlier runs for the same time, which this fit replaces.
    ///
    /// # Errors
    /// If ClickHouse cannot be reached, or has no such table.
    pub(super) fn replace_earlier(&self, database: &Database) -> anyhow::Result<()> {
        let (source, written_at) = (literal(self.source), sql_time(self.written_at));
        let replaced = format!(
            "source = {source} AND fitted_at = {} AND written_at < {written_at}",
            self.fitted_at.as_second()
        );
        for table in OF_A_FIT {
            delete(database, table, &replaced)?;
        }
        Ok(())
    }

    /// Deletes the rows of recipients of the source who were erased while this run or an earlier one read them. An erasure is
    /// in `audit` only when it is complete, and a run can be killed, so rows of all runs are compared with `message_life` as
    /// long as one of them may have met an erasure.
    ///
    /// # Errors
    /// If ClickHouse cannot be reached, or has no such table.
    pub(super) fn forget_erased(&self, database: &Database) -> anyhow::Result<()> {
        let source = literal(self.source);
        let erased: Vec<u64> = database.long_rows(&format!(
            "SELECT count() FROM audit WHERE command = 'erase' AND at >= {} - toIntervalDay({KEPT_DAYS})",
            sql_time(self.written_at)
        ))?;
        if erased.into_iter().sum::<u64>() > 0 {
            let gone = format!(
                "source = {source} AND recipient NOT IN (SELECT recipient FROM {}.message_life WHERE source = {source})",
                database.name(),
            );
            for table in WITH_RECIPIENTS {
                delete(database, table, &gone)?;
            }
        }
        Ok(())
    }
}

/// Deletes the rows with a condition, if there are any: each deletion makes ClickHouse rewrite parts.
fn delete(database: &Database, table: &str, condition: &str) -> anyhow::Result<()> {
    let rows: Vec<u64> =
        database.long_rows(&format!("SELECT count() FROM {table} WHERE {condition}"))?;
    if rows.into_iter().sum::<u64>() > 0 {
        database.execute(&format!(
            "ALTER TABLE {table} DELETE WHERE {condition} SETTINGS mutations_sync = 1"
        ))?;
    }
    Ok(())
}

fn insert(
    database: &Database,
    table: &str,
    columns: &str,
    mut rows: impl Iterator<Item = String>,
) -> anyhow::Result<()> {
    loop {
        let mut values = String::new();
        for row in rows.by_ref().take(ROWS_AT_ONCE) {
            let separator = if values.is_empty() { "" } else { ", " };
            // Writing to a string cannot fail.
            let _ = write!(values, "{separator}{row}");
        }
        if values.is_empty() {
            return Ok(());
        }
        database.execute(&format!(
            "INSERT INTO {table} ({columns}) SETTINGS async_insert = 0 VALUES {values}"
        ))?;
    }
}

/// Returns the name of a model in the column `model`.
pub(super) fn name(model: &BgBb) -> &'static str {
    if model.quits().is_some() { "bg_bb" } else { "beta_binomial" }
}

/// Returns a time as a value of a column. ClickHouse reads it faster than an expression.
fn text(at: Timestamp) -> String {
    let fraction = if at.subsec_millisecond() == 0 { "" } else { "%.3f" };
    format!("'{}'", at.strftime(&format!("%Y-%m-%d %H:%M:%S{fraction}")))
}

fn nullable(value: Option<impl std::fmt::Display>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |value| value.to_string())
}

fn array(values: impl Iterator<Item = f64>) -> String {
    let values: Vec<String> = values.map(|value| value.to_string()).collect();
    format!("[{}]", values.join(", "))
}
