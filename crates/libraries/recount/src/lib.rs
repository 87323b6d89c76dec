//! Recomputes the numbers of an alert from the stored events, as `mailpulse alerts verify` and the console show it.
//!
//! The counts come from SQL over the table `events`, not from the code of `monitor`: a fault of both would have to be
//! made twice to stay hidden. This crate does no I/O. Its caller asks ClickHouse:
//!
//! 1. [`TRANSITIONS`] are the columns of a [`Transition`] in the table `alerts`.
//! 2. [`cannot_verify`] and [`StoredEvents::not_yet`] tell whether the stored events can give its numbers.
//! 3. [`query`] returns the query that counts them.
//! 4. [`verdict`] compares.

mod formula;
mod query;
mod stored;
mod transition;

pub use query::{CORRECTED_AT, COUNTED_AT, Query, SENT_AT, query};
pub use stored::{PARTITIONS, PartitionRows, StoredEvents};
pub use transition::{TRANSITIONS, Transition, cannot_verify, rules_by_weekday};

use serde::Serialize;

/// The result for one transition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Verdict {
    /// The stored events give the numbers of the alert.
    Equal,
    /// They give other numbers.
    Different {
        /// The numerator of the stored events.
        numerator: u64,
        /// Their denominator.
        volume: u64,
    },
    /// The stored events cannot tell.
    Unverifiable {
        /// Why.
        reason: String,
    },
}

impl Verdict {
    /// Returns the stable name, as in JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Different { .. } => "different",
            Self::Unverifiable { .. } => "unverifiable",
        }
    }
}

/// Compares the numerator and the denominator that [`query`] returned with those of the alert.
pub fn verdict(
    transition: &Transition,
    stored: &StoredEvents,
    (numerator, volume): (u64, u64),
) -> Verdict {
    let is_equal = (numerator, volume) == (transition.numerator, transition.volume);
    match stored.missing(transition, is_equal) {
        Some(reason) => Verdict::Unverifiable { reason },
        None if is_equal => Verdict::Equal,
        None => Verdict::Different { numerator, volume },
    }
}
