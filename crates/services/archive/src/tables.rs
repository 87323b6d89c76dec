//! The tables, and how the records of a topic become rows of its table.

mod actions;
mod alerts;
mod dead_letters;
mod events;
mod incidents;
mod rates;
mod suppressions;

pub use actions::Actions;
pub use alerts::Alerts;
pub use dead_letters::DeadLetters;
pub use events::Events;
pub use incidents::Incidents;
pub use rates::Rates;
pub use suppressions::Suppressions;

use kafka::Record;
use privacy::Eraser;
use record::{Reason, Topics};

use crate::native::Block;

/// The keys of the records of `mail.alerts` that are no alerts: the times of the shards of monitor, and what
/// people do with incidents.
const NO_ALERTS: [&[u8]; 2] = [b"clock", b"action"];

/// A table. Each table is filled from one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Table {
    /// The records of `mail.events`.
    Events,
    /// The records of `mail.rates`.
    Rates,
    /// The alerts of `mail.alerts`. Clocks and actions, which are there too, become no rows.
    Alerts,
    /// The records of `mail.incidents`.
    Incidents,
    /// The records of `mail.actions`.
    Actions,
    /// The records of `mail.suppressions`, with its tombstones.
    Suppressions,
    /// The records of `mail.dead-letters`.
    DeadLetters,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 7] = [
        Self::Events,
        Self::Rates,
        Self::Alerts,
        Self::Incidents,
        Self::Actions,
        Self::Suppressions,
        Self::DeadLetters,
    ];

    /// Returns the name in ClickHouse.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Rates => "rates",
            Self::Alerts => "alerts",
            Self::Incidents => "incidents",
            Self::Actions => "actions",
            Self::Suppressions => "suppressions",
            Self::DeadLetters => "dead_letters",
        }
    }

    /// Returns the names and types of the columns that are sent.
    pub const fn columns(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Events => Events::COLUMNS,
            Self::Rates => Rates::COLUMNS,
            Self::Alerts => Alerts::COLUMNS,
            Self::Incidents => Incidents::COLUMNS,
            Self::Actions => Actions::COLUMNS,
            Self::Suppressions => Suppressions::COLUMNS,
            Self::DeadLetters => DeadLetters::COLUMNS,
        }
    }

    /// Returns the topic that fills the table.
    pub fn topic(self, topics: &Topics) -> &str {
        match self {
            Self::Events => &topics.events,
            Self::Rates => &topics.rates,
            Self::Alerts => &topics.alerts,
            Self::Incidents => &topics.incidents,
            Self::Actions => &topics.actions,
            Self::Suppressions => &topics.suppressions,
            Self::DeadLetters => &topics.dead_letters,
        }
    }

    /// Returns true if newer rows replace older ones. In such a table a row that was inserted can
    /// be absent later without being lost.
    pub(crate) fn replaces_rows(self) -> bool {
        self == Self::Rates
    }

    /// Returns whether a record of the table's topic becomes a row.
    pub(crate) fn takes(self, record: &Record<'_>) -> bool {
        let is_redriven_for_another = || {
            let others = [record::Stage::Incidents, record::Stage::Notify];
            others.into_iter().any(|stage| record.is_redriven_for(stage))
        };
        match self {
            Self::Events => {
                record.time_record().is_none() && !record.is_redriven_for_another(crate::STAGE)
            }
            Self::Alerts => !NO_ALERTS.contains(&record.key()) && !is_redriven_for_another(),
            // A tombstone would only remove an incident from the topic.
            Self::Incidents => record.value().is_some() && !is_redriven_for_another(),
            // An action that was redriven for its delivery is stored already.
            Self::Actions => !record.is_redriven_for_another(crate::STAGE),
            Self::Rates | Self::Suppressions | Self::DeadLetters => true,
        }
    }

    /// Returns the table that a topic fills.
    pub fn of_topic(topics: &Topics, topic: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.topic(topics) == topic)
    }

    /// Returns empty columns for rows of this table.
    pub fn empty_rows(self) -> Rows {
        match self {
            Self::Events => Rows::Events(Box::default()),
            Self::Rates => Rows::Rates(Box::default()),
            Self::Alerts => Rows::Alerts(Box::default()),
            Self::Incidents => Rows::Incidents(Box::default()),
            Self::Actions => Rows::Actions(Box::default()),
            Self::Suppressions => Rows::Suppressions(Box::default()),
            Self::DeadLetters => Rows::DeadLetters(Box::default()),
        }
    }
}

/// The partition and offset of a record, in the types of the columns `kafka_partition` and
/// `kafka_offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coordinates {
    /// The partition, counted from 0.
    pub partition: u16,
    pub offset: u64,
}

/// The reason why a record cannot become a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", reason.code())]
pub struct RowError {
    /// The reason for the dead letter.
    pub reason: Reason,
    /// The explanation for people.
    pub detail: String,
}

impl RowError {
    /// Removes erased recipients from the explanation, which may quote the record.
    fn without_erased(mut self, eraser: &Eraser) -> Self {
        let detail = eraser.erase_body(self.detail.as_bytes()).into_owned();
        self.detail = String::from_utf8_lossy(&detail).into_owned();
        self
    }
}

impl From<serde_json::Error> for RowError {
    fn from(error: serde_json::Error) -> Self {
        let reason = Reason::of_json(&error);
        Self { reason, detail: error.to_string() }
    }
}

impl From<record::HeaderError> for RowError {
    fn from(error: record::HeaderError) -> Self {
        Self { reason: Reason::BadHeaders, detail: error.to_string() }
    }
}

/// The rows of one table, stored as columns.
#[derive(Debug)]
pub enum Rows {
    /// Rows of [`Table::Events`].
    Events(Box<Events>),
    /// Rows of [`Table::Rates`].
    Rates(Box<Rates>),
    /// Rows of [`Table::Alerts`].
    Alerts(Box<Alerts>),
    /// Rows of [`Table::Incidents`].
    Incidents(Box<Incidents>),
    /// Rows of [`Table::Actions`].
    Actions(Box<Actions>),
    /// Rows of [`Table::Suppressions`].
    Suppressions(Box<Suppressions>),
    /// Rows of [`Table::DeadLetters`].
    DeadLetters(Box<DeadLetters>),
}

impl Rows {
    /// Adds the record as a row, without what it says about erased recipients. On an error no column has changed.
    ///
    /// # Errors
    /// Fails if the record does not have the shape of its topic. Dead letters always become rows.
    pub fn push(&mut self, record: &Record<'_>, eraser: &Eraser) -> Result<(), RowError> {
        // Neither conversion fails in practice: partitions and offsets are never negative, and no
        // topic has 65,536 partitions.
        let at = Coordinates {
            partition: u16::try_from(record.partition()).unwrap_or(u16::MAX),
            offset: u64::try_from(record.offset().0).unwrap_or_default(),
        };
        let value = record.value().unwrap_or_default();
        match self {
            Self::Events(rows) => {
                let pushed = rows.push_erased(at, value, |name| record.header(name), eraser);
                pushed.map_err(|error| error.without_erased(eraser))
            }
            Self::Rates(rows) => rows.push(at, value),
            Self::Alerts(rows) => rows.push(at, value),
            Self::Incidents(rows) => rows.push(at, value),
            Self::Actions(rows) => {
                // A redrive has a time of its own.
                let is_original = !record.is_redriven_for(crate::STAGE);
                let decided_at = record.written_at().filter(|_| is_original);
                rows.push_erased(at, decided_at, value, eraser)
            }
            // Its columns name no person.
            Self::Suppressions(rows) => {
                rows.push(at, record.written_at(), record.key(), record.value())
            }
            Self::DeadLetters(rows) => {
                let headers = record.headers().collect::<Vec<_>>();
                rows.push_erased(at, record.key(), value, &headers, eraser);
                Ok(())
            }
        }
    }

    /// Returns a sample of the times when the ingress received the rows, in UTC microseconds. The
    /// sample is evenly spread. Only events have such a time.
    pub fn received(&self) -> Vec<i64> {
        match self {
            Self::Events(rows) => rows.received(),
            _ => Vec::new(),
        }
    }

    /// Takes all rows and returns them as a block.
    pub fn finish(&mut self) -> Block {
        match self {
            Self::Events(rows) => rows.finish(),
            Self::Rates(rows) => rows.finish(),
            Self::Alerts(rows) => rows.finish(),
            Self::Incidents(rows) => rows.finish(),
            Self::Actions(rows) => rows.finish(),
            Self::Suppressions(rows) => rows.finish(),
            Self::DeadLetters(rows) => rows.finish(),
        }
    }
}
