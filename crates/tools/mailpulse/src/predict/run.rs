//! One run: every source, one after the other.

use std::cell::OnceCell;
use std::io::{self, Write};
use std::time::Instant;

use jiff::Timestamp;
use predict::MIN_RECIPIENTS;

use super::best_time::BestTimes;
use super::engagement::{Engagement, Fitted, Read};
use super::mails::{self, Scope};
use super::sample::Sample;
use super::scoring::{GREATEST_ECE, Scoring};
use super::tables::{Fit, FitRow, ScoreRow};
use crate::args::Predict;
use crate::database::{Database, literal};
use crate::text::escape_line;
use crate::{InputError, Outcome};

/// One run at one time.
pub(super) struct Run<'a> {
    database: &'a Database,
    /// Whole seconds.
    at: Timestamp,
    written_at: Timestamp,
    only: Option<&'a str>,
    /// Whether the results are only printed.
    is_dry: bool,
    /// The model of all sources, for those whose recipients have too few mails. Most runs do not need it.
    of_all_sources: OnceCell<Option<Fitted>>,
}

/// What is predicted for a source, and how good it was.
struct Predicted {
    row: FitRow,
    scores: Vec<ScoreRow>,
}

impl<'a> Run<'a> {
    pub(super) fn new(database: &'a Database, args: &'a Predict) -> Self {
        let now = crate::now();
        let at = args.at.unwrap_or(now);
        Self {
            database,
            at: Timestamp::from_second(at.as_second()).unwrap_or(at),
            written_at: Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now),
            only: args.source.as_deref(),
            is_dry: args.print,
            of_all_sources: OnceCell::new(),
        }
    }

    /// Predicts every source, and prints a line for each. A source that fails is logged, and the others go on.
    ///
    /// # Errors
    /// If ClickHouse cannot be reached, has no such tables, or has no mail of the source that was asked for.
    pub(super) fn all_sources(&self) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::Done;
        for source in self.sources()? {
            match self.source(&source) {
                Ok(predicted) => self.report(&source, &predicted)?,
                Err(error) => {
                    outcome = Outcome::Incomplete;
                    tracing::error!(
                        source,
                        error = format!("{error:#}"),
                        "the source could not be predicted; earlier predictions stay in place. Remove the cause, \
                         and run the command again"
                    );
                }
            }
        }
        Ok(outcome)
    }

    fn sources(&self) -> anyhow::Result<Vec<String>> {
        let condition = self.only.map_or_else(String::new, |only| {
            format!(" WHERE message_life.source = {}", literal(only))
        });
        let sources: Vec<String> = self.database.long_rows(&format!(
            "SELECT toString(message_life.source) AS name FROM message_life{condition} GROUP BY name ORDER BY name"
        ))?;
        match self.only {
            Some(only) if sources.is_empty() => {
                let problem = format!(
                    "no mail of the source {only} is stored; write the name of a source of the settings"
                );
                Err(InputError(problem).into())
            }
            _ => Ok(sources),
        }
    }

    fn source(&self, source: &str) -> anyhow::Result<Predicted> {
        let began = Instant::now();
        let database = self.database;
        let fit = Fit { source, fitted_at: self.at, written_at: self.written_at };
        let recipients = Scope::Source(source).condition();
        let sample: Vec<u64> = database.long_rows(&format!(
            "SELECT toUInt64(uniq(recipient)) FROM message_life WHERE {recipients}"
        ))?;
        let sample = Sample::of(sample.into_iter().sum());
        let histories = if self.is_dry {
            mails::histories(Scope::Source(source), self.at)
        } else {
            fit.forget_erased(database)?;
            fit.write_histories(database)?;
            format!("SELECT * FROM engagement_histories WHERE {}", fit.condition())
        };
        let read = Read::from(database, &histories, sample)?;
        let engagement = Engagement::new(read, || self.of_all_sources())?;
        let mut row = engagement.row();
        let best_times = BestTimes::fit(database, source, self.at, sample)?;
        best_times.complete(&mut row);
        let scores = Scoring { database, source, at: self.at, sample }.scores()?;
        if !self.is_dry {
            engagement.write(database, &fit)?;
            best_times.write(database, &fit)?;
            fit.write_scores(database, &scores)?;
            row.seconds = began.elapsed().as_secs_f64();
            fit.forget_erased(database)?;
            fit.write(database, &row)?;
            fit.replace_earlier(database)?;
        }
        Ok(Predicted { row, scores })
    }

    fn of_all_sources(&self) -> anyhow::Result<Option<Fitted>> {
        if let Some(fitted) = self.of_all_sources.get() {
            return Ok(*fitted);
        }
        let fitted = Read::of_all_sources(self.database, self.at)?.fit();
        Ok(*self.of_all_sources.get_or_init(|| fitted))
    }

    /// Prints a line of tab-separated texts, and warns of predictions that were too far from what happened.
    fn report(&self, source: &str, Predicted { row, scores }: &Predicted) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let name = escape_line(source.as_bytes());
        writeln!(out, "{name}\tnext\t{}", describe_engagement(row))?;
        writeln!(out, "{name}\tbest_time\t{}", describe_best_time(row))?;
        for score in scores {
            writeln!(out, "{name}\tscore of {}\t{}", score.prediction, describe_score(score))?;
            if score.is_hidden() {
                tracing::warn!(
                    source,
                    prediction = score.prediction,
                    ece = score.ece,
                    greatest = GREATEST_ECE,
                    forecasts = score.forecasts,
                    "predictions of 30 days ago differ too much from what happened, so the view predictions shows NULL \
                     for this source until a score is better. Look for what has changed: other mail, another \
                     frequency, or opens that are no longer seen (docs/prediction.md)"
                );
            }
        }
        out.flush()
    }
}

fn describe_engagement(row: &FitRow) -> String {
    let Some(shapes) = row.shapes else {
        return format!(
            "unknown: {} recipients, of whom {} have got two mails or more; {MIN_RECIPIENTS} are needed",
            row.recipients, row.recipients_of_two
        );
    };
    let engages = shapes.engages();
    let quits = shapes.quits().map_or_else(
        || "nobody quits".to_owned(),
        |quits| format!("gamma {:.4}, delta {:.4}", quits.a(), quits.b()),
    );
    format!(
        "{} of {}: {} recipients, alpha {:.4}, beta {:.4}, {quits}",
        row.model,
        row.fitted_to,
        row.recipients,
        engages.a(),
        engages.b()
    )
}

fn describe_best_time(row: &FitRow) -> String {
    let recipients = row.best_time_recipients;
    row.best_slot.map_or_else(
        || {
            format!(
                "unknown: {recipients} recipients have a time zone and two opens; {MIN_RECIPIENTS} are needed"
            )
        },
        |slot| {
            let hour = slot * 2;
            format!("{hour:02} to {:02} local time: {recipients} recipients", hour + 2)
        },
    )
}

fn describe_score(score: &ScoreRow) -> String {
    let number = |name: &str, value: Option<f64>| {
        value.map_or_else(String::new, |value| format!(", {name} {value:.4}"))
    };
    format!(
        "{} forecasts of {}{}{}{}{}",
        score.forecasts,
        score.predicted_at,
        number("Brier", score.brier),
        number("log loss", score.log_loss),
        number("ECE", score.ece),
        number("coverage", score.coverage)
    )
}
