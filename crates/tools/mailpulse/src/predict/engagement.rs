//! The next engagement: the histories of a source, and the model that is fitted to them.

use clickhouse::Row;
use predict::{BgBb, Histories, History, MIN_RECIPIENTS, OddsTable};
use serde::Deserialize;

use super::mails::{self, Scope};
use super::sample::Sample;
use super::tables::{Fit, FitRow, name};
use crate::database::Database;

/// The most distinct histories that are read, and have odds. It bounds the memory. They are the most frequent ones. Recipients with
/// another history have no prediction.
const MOST_HISTORIES: u64 = 1_000_000;

/// A history, how many recipients have it, and how many of these are in the sample.
#[derive(Debug, Row, Deserialize)]
struct HistoryRow {
    mails: u32,
    engaged: u32,
    last_engaged: u32,
    recipients: u64,
    sampled: u64,
}

/// The histories of some recipients.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) all: Histories,
    sampled: Histories,
}

/// A model, and what it was fitted to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fitted {
    pub(super) model: BgBb,
    ln_likelihood: f64,
    recipients: u64,
}

impl Read {
    /// Reads the histories from a query with `recipient` and the three numbers.
    ///
    /// # Errors
    /// If ClickHouse cannot be reached, or has no such tables.
    pub(super) fn from(
        database: &Database,
        histories: &str,
        sample: Sample,
    ) -> anyhow::Result<Self> {
        let rows: Vec<HistoryRow> = database.long_rows(&format!(
            "SELECT mails, engaged, last_engaged, count() AS recipients, countIf({}) AS sampled \
             FROM ({histories}) GROUP BY mails, engaged, last_engaged \
             ORDER BY recipients DESC, mails, engaged, last_engaged LIMIT {MOST_HISTORIES} SETTINGS {}",
            sample.condition(),
            mails::BOUNDS,
        ))?;
        let mut read = Self::default();
        for row in rows {
            let history = History::new(row.mails, row.engaged, row.last_engaged)?;
            read.all.add(history, row.recipients);
            read.sampled.add(history, row.sampled);
        }
        Ok(read)
    }

    /// Reads the histories of all sources at a time.
    ///
    /// # Errors
    /// If ClickHouse cannot be reached, or has no such tables.
    pub(super) fn of_all_sources(database: &Database, at: jiff::Timestamp) -> anyhow::Result<Self> {
        let recipients: Vec<u64> = database.long_rows(
            "SELECT toUInt64(uniq(source, recipient)) FROM message_life WHERE recipient != ''",
        )?;
        let sample = Sample::of(recipients.into_iter().sum());
        let histories = format!(
            "SELECT * FROM ({}) WHERE {}",
            mails::histories(Scope::All, at),
            sample.condition()
        );
        Self::from(database, &histories, sample)
    }

    pub(super) fn recipients(&self) -> u64 {
        count(&self.all, 1)
    }

    /// Returns the model, or `None` if fewer than [`MIN_RECIPIENTS`] have got two mails or more.
    pub(super) fn fit(&self) -> Option<Fitted> {
        // Few of many recipients have got two mails: all of them are needed then.
        [&self.sampled, &self.all].into_iter().find_map(|histories| {
            let model = BgBb::fit(histories).ok()?;
            let (ln_likelihood, recipients) = (model.ln_likelihood(histories), count(histories, 1));
            Some(Fitted { model, ln_likelihood, recipients })
        })
    }
}

/// Returns how many recipients have got at least this number of mails.
fn count(histories: &Histories, mails: u32) -> u64 {
    let enough = histories.iter().filter(|(history, _)| history.mails() >= mails);
    enough.map(|(_, recipients)| recipients).sum()
}

/// What was found out about the next engagement of the recipients of a source.
#[derive(Debug)]
pub(super) struct Engagement {
    read: Read,
    /// `None`: unknown.
    fitted: Option<(Fitted, &'static str)>,
}

impl Engagement {
    /// Fits the model. A source with fewer than [`MIN_RECIPIENTS`] recipients is unknown. If it has more, but fewer than
    /// [`MIN_RECIPIENTS`] of them have got two mails or more, it gets the model of all sources.
    ///
    /// # Errors
    /// Those of `of_all_sources`.
    pub(super) fn new(
        read: Read,
        of_all_sources: impl FnOnce() -> anyhow::Result<Option<Fitted>>,
    ) -> anyhow::Result<Self> {
        let fitted = if read.recipients() < MIN_RECIPIENTS {
            None
        } else if let Some(fitted) = read.fit() {
            Some((fitted, "source"))
        } else {
            of_all_sources()?.map(|fitted| (fitted, "all_sources"))
        };
        Ok(Self { read, fitted })
    }

    /// Writes the odds of every history. Nothing, if they are unknown.
    ///
    /// # Errors
    /// If ClickHouse cannot be reached, or has no such table.
    pub(super) fn write(&self, database: &Database, fit: &Fit<'_>) -> anyhow::Result<()> {
        let Some((Fitted { model, .. }, _)) = &self.fitted else { return Ok(()) };
        let table = OddsTable::new(model, &self.read.all);
        let recipients = self.read.all.iter().map(|(_, recipients)| recipients);
        let rows = table.iter().zip(recipients);
        let rows = rows.map(|((history, odds), recipients)| (history, odds, recipients));
        fit.write_odds(database, model, rows)
    }

    /// Returns the part of the row of `fits` about the next engagement.
    pub(super) fn row(&self) -> FitRow {
        let (fitted, fitted_to) = self.fitted.unzip();
        FitRow {
            model: fitted.map_or("unknown", |fitted| name(&fitted.model)),
            fitted_to: fitted_to.unwrap_or_default(),
            recipients: self.read.recipients(),
            recipients_of_two: count(&self.read.all, 2),
            recipients_fitted: fitted.map_or(0, |fitted| fitted.recipients),
            shapes: fitted.map(|fitted| fitted.model),
            ln_likelihood: fitted.map(|fitted| fitted.ln_likelihood),
            best_time_recipients: 0,
            best_slot: None,
            concentration: None,
            seconds: 0.0,
        }
    }
}
