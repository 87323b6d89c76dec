//! The tables, and how the records of a topic become rows of one.

mod alerts;
mod dead_letters;
mod events;
mod rates;
mod scope;

pub use alerts::Alerts;
pub use dead_letters::DeadLetters;
pub use events::Events;
pub use rates::Rates;

use record::{Reason, Topics};
use kafka::Record;

use crate::native::Block;

/// A table that one topic goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Table {
    /// `mail.events`.
    Events,
    /// `mail.rates`.
    Rates,
    /// `mail.alerts`.
    Alerts,
    /// `mail.dead-letters`.
    DeadLetters,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 4] = [Self::Events, Self::Rates, Self::Alerts, Self::DeadLetters];

    /// The name in ClickHouse.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Rates => "rates",
            Self::Alerts => "alerts",
            Self::DeadLetters => "dead_letters",
        }
    }

    /// Names and types of the columns we send.
    pub const fn columns(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Events => Events::COLUMNS,
            Self::Rates => Rates::COLUMNS,
            Self::Alerts => Alerts::COLUMNS,
            Self::DeadLetters => DeadLetters::COLUMNS,
        }
    }

    /// The topic it is filled from.
    pub fn topic(self, topics: &Topics) -> &str {
        match self {
            Self::Events => &topics.events,
            Self::Rates => &topics.rates,
            Self::Alerts => &topics.alerts,
            Self::DeadLetters => &topics.dead_letters,
        }
    }

    /// Whether a newer row takes an older one's place: one that is not there any more need not be
    /// missing.
    pub(crate) fn replaces_rows(self) -> bool {
        self == Self::Rates
    }

    /// The table that a topic goes to.
    pub fn of_topic(topics: &Topics, topic: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.topic(topics) == topic)
    }

    /// Room for rows of this table.
    pub fn rows(self) -> Rows {
        match self {
            Self::Events => Rows::Events(Box::default()),
            Self::Rates => Rows::Rates(Box::default()),
            Self::Alerts => Rows::Alerts(Box::default()),
            Self::DeadLetters => Rows::DeadLetters(Box::default()),
        }
    }
}

/// Where in its topic a row was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coordinates {
    /// The partition, which Kafka numbers from 0.
    pub partition: u16,
    /// The offset.
    pub offset: u64,
}

/// A record that cannot become a row, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", reason.code())]
pub struct BadRow {
    /// The dead letter's reason.
    pub reason: Reason,
    /// In words.
    pub detail: String,
}

impl From<serde_json::Error> for BadRow {
    fn from(error: serde_json::Error) -> Self {
        let reason = if error.is_data() { Reason::WrongShape } else { Reason::NotJson };
        Self { reason, detail: error.to_string() }
    }
}

impl From<record::HeaderError> for BadRow {
    fn from(error: record::HeaderError) -> Self {
        Self { reason: Reason::BadHeaders, detail: error.to_string() }
    }
}

/// Rows of one table, as columns.
#[derive(Debug)]
pub enum Rows {
    /// See [`Table::Events`].
    Events(Box<Events>),
    /// See [`Table::Rates`].
    Rates(Box<Rates>),
    /// See [`Table::Alerts`].
    Alerts(Box<Alerts>),
    /// See [`Table::DeadLetters`].
    DeadLetters(Box<DeadLetters>),
}

impl Rows {
    /// Adds the record as a row: all columns, or none on an error.
    ///
    /// # Errors
    /// When the record is not of its topic's shape. Dead letters always become rows.
    pub fn push(&mut self, record: &Record<'_>) -> Result<(), BadRow> {
        // Kafka has no negative ones; a cluster has fewer than 65,536 partitions of a topic.
        let at = Coordinates {
            partition: u16::try_from(record.partition()).unwrap_or(u16::MAX),
            offset: u64::try_from(record.offset()).unwrap_or_default(),
        };
        let value = record.value().unwrap_or_default();
        match self {
            Self::Events(rows) => rows.push(at, value, |name| record.header(name)),
            Self::Rates(rows) => rows.push(at, value),
            Self::Alerts(rows) => rows.push(at, value),
            Self::DeadLetters(rows) => {
                rows.push(at, record.key(), value, &record.headers().collect::<Vec<_>>());
                Ok(())
            }
        }
    }

    /// When some of the rows, evenly spread, were received by the ingress, in UTC microseconds;
    /// events only.
    pub fn received(&self) -> Vec<i64> {
        match self {
            Self::Events(rows) => rows.received(),
            _ => Vec::new(),
        }
    }

    /// The rows so far as a block; leaves none.
    pub fn finish(&mut self) -> Block {
        match self {
            Self::Events(rows) => rows.finish(),
            Self::Rates(rows) => rows.finish(),
            Self::Alerts(rows) => rows.finish(),
            Self::DeadLetters(rows) => rows.finish(),
        }
    }
}
