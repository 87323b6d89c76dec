//! The best time of each recipient.

use jiff::Timestamp;
use predict::{BestSlot, Probability, SlotCounts, SlotModel};

use super::deliveries::{Deliveries, Selection, beginning};
use super::mails;
use super::sample::Sample;
use super::tables::{Fit, FitRow};
use crate::database::{Database, literal};

/// Recipients whose deliveries are read at once.
const RECIPIENTS_AT_ONCE: u64 = 20_000;

/// The least number of opens of a recipient with a best time. The library fits the model to recipients with at least as
/// many, because fewer tell nothing about a recipient's day.
const LEAST_OPENS: u32 = 2;

/// The best time of a recipient.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BestTime {
    pub(super) recipient: String,
    pub(super) zone: String,
    pub(super) delivered: u32,
    pub(super) opened: u32,
    pub(super) slot: BestSlot,
    /// In the slot.
    pub(super) rate: Probability,
    pub(super) rate_low: Probability,
    pub(super) rate_high: Probability,
}

/// What was found out about the best times of the recipients of a source.
#[derive(Debug)]
pub(super) struct BestTimes {
    /// `None`: unknown, because too few recipients have opened two mails or more.
    model: Option<SlotModel>,
    recipients: u64,
}

impl BestTimes {
    /// Fits the model to a sample of the recipients.
    ///
    /// # Errors
    /// If ClickHouse cannot be reached, or has no such tables.
    pub(super) fn fit(
        database: &Database,
        source: &str,
        at: Timestamp,
        sample: Sample,
    ) -> anyhow::Result<Self> {
        let recipients = format!(" AND {}", sample.condition());
        let zones = mails::zones(source, at, &recipients);
        let (from, to) = (beginning(at), at);
        let read = Selection { source, zones, recipients, from, to }.read(database)?;
        let counts: Vec<SlotCounts> = read.iter().map(|it| it.counts(at)).collect();
        let recipients = counts.iter().filter(|counts| opened(counts) >= LEAST_OPENS).count();
        Ok(Self { model: SlotModel::fit(&counts).ok(), recipients: recipients as u64 })
    }

    /// Writes the best time of every recipient with enough opens. The histories of the fit must have been written: they
    /// have the time zones.
    ///
    /// # Errors
    /// If ClickHouse cannot be reached, or has no such tables.
    pub(super) fn write(&self, database: &Database, fit: &Fit<'_>) -> anyhow::Result<()> {
        let Some(model) = &self.model else { return Ok(()) };
        let mut from = String::new();
        loop {
            let next = format!(
                "FROM engagement_histories WHERE {} AND zone != '' AND recipient > {}",
                fit.condition(),
                literal(&from)
            );
            // The last recipient of the next page. Pages are ranges of the key of both tables.
            let last: Vec<String> = database.long_rows(&format!(
                "SELECT recipient FROM (SELECT recipient {next} ORDER BY recipient LIMIT {RECIPIENTS_AT_ONCE}) \
                 ORDER BY recipient DESC LIMIT 1"
            ))?;
            let Some(last) = last.into_iter().next() else { return Ok(()) };
            let page =
                format!(" AND recipient > {} AND recipient <= {}", literal(&from), literal(&last));
            let selection = Selection {
                source: fit.source,
                zones: format!("SELECT recipient, zone {next} AND recipient <= {}", literal(&last)),
                recipients: page,
                from: beginning(fit.fitted_at),
                to: fit.fitted_at,
            };
            let read = selection.read(database)?;
            let best_times = read.into_iter().map(|it| BestTime::new(model, it, fit.fitted_at));
            fit.write_best_times(database, &best_times.flatten().collect::<Vec<_>>())?;
            from = last;
        }
    }

    /// Adds what `fits` says about the best time.
    pub(super) fn complete(&self, row: &mut FitRow) {
        row.best_time_recipients = self.recipients;
        row.best_slot = self.model.as_ref().map(|model| model.best().index());
        row.concentration = self.model.as_ref().map(SlotModel::concentration);
    }
}

impl BestTime {
    /// Returns `None` if the recipient has opened too few mails.
    fn new(model: &SlotModel, deliveries: Deliveries, at: Timestamp) -> Option<Self> {
        let counts = deliveries.counts(at);
        let opened = opened(&counts);
        if opened < LEAST_OPENS {
            return None;
        }
        let slot = model.best_of(&counts);
        let (rate_low, rate_high) = model.interval(&counts, slot.slot);
        Some(Self {
            recipient: deliveries.recipient,
            zone: deliveries.zone,
            delivered: counts.0.iter().map(|count| count.delivered()).sum(),
            opened,
            slot,
            rate: model.rate(&counts, slot.slot),
            rate_low,
            rate_high,
        })
    }
}

fn opened(counts: &SlotCounts) -> u32 {
    counts.0.iter().map(|count| count.opened()).sum()
}
