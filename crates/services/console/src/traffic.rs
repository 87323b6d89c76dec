//! The counters of docs/metrics.md from the table `traffic`, and the rates that follow from them.

use serde::Deserialize;
use window::{Counts, Metric, View, fraction};

use crate::format;
use crate::parameters::{Period, SourceFilter};
use crate::store::{Query, Store, StoreError};

/// By what counters are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Everything together.
    Nothing,
    /// The operator of the mailboxes.
    MailboxProvider,
    /// The email service provider.
    Provider,
    /// Provider, source and campaign, separated by `/`.
    Campaign,
}

impl By {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::MailboxProvider => "mailbox_provider",
            Self::Provider => "provider",
            Self::Campaign => "campaign",
        }
    }
}

/// What happened to the messages of a group, in a step of time.
#[derive(Debug, Clone, Deserialize)]
pub struct Traffic {
    /// The group.
    pub name: String,
    /// The start of the step, seconds since the Unix epoch. 0: all the time.
    pub at: i64,
    /// All events, also repeated ones.
    pub events: u64,
    /// The counters.
    #[serde(flatten)]
    pub counts: Counts,
}

/// Asks for the counters. `step` is in seconds, a multiple of a quarter of an hour; 0: no steps.
///
/// # Errors
/// See [`StoreError`].
pub async fn ask(
    store: &Store,
    by: By,
    step: i64,
    period: Period,
    source: &SourceFilter,
) -> Result<Vec<Traffic>, StoreError> {
    let query = Query::new("traffic", include_str!("sql/traffic.sql"))
        .with("by", by.as_str())
        .with("step", step);
    store.rows(&filtered(query, period, source)).await
}

/// Adds the parameters of a period and a source to a query.
pub fn filtered(query: Query, period: Period, source: &SourceFilter) -> Query {
    query
        .with("from", period.from)
        .with("to", period.to)
        .with("provider", &source.provider)
        .with("source", &source.source)
}

/// A rate with what it follows from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// How many messages count, from 0 to `denominator`.
    pub numerator: u64,
    /// Of how many.
    pub denominator: u64,
}

impl Rate {
    /// Returns a rate of these counters, by arrival.
    pub fn of(metric: Metric, counts: &Counts) -> Self {
        let (numerator, denominator) = fraction(metric, counts, View::Arrival);
        Self { numerator, denominator }
    }

    /// Returns the share, at most 1, or `None` if the denominator is 0.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub fn share(self) -> Option<f64> {
        let share = || (self.numerator as f64 / self.denominator as f64).min(1.0);
        (self.denominator > 0).then(share)
    }

    /// Returns the interval of Wilson at 95 %, as in the view `deliverability`.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub fn interval(self) -> Option<(f64, f64)> {
        let n = self.denominator as f64;
        let k = self.numerator.min(self.denominator) as f64;
        let middle = k + 1.920_8;
        let width = 1.96 * (k * (n - k) / n + 0.960_4).sqrt();
        let end = |at: f64| (at / (n + 3.841_6)).clamp(0.0, 1.0);
        (self.denominator > 0).then(|| (end(middle - width), end(middle + width)))
    }

    /// Returns the percentage; `–` if it is not known.
    pub fn percent(self) -> String {
        self.share().map_or_else(|| "–".to_owned(), format::percent)
    }

    /// Returns the interval as text, such as `1.2 % to 3.4 %`.
    pub fn interval_text(self) -> String {
        self.interval().map_or_else(String::new, |(low, high)| {
            format!("{} to {}", format::percent(low), format::percent(high))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_view() {
        let rate = Rate { numerator: 5, denominator: 100 };
        let (low, high) = rate.interval().unwrap();
        // statsmodels: proportion_confint(5, 100, method='wilson')
        assert!((low - 0.021_543).abs() < 1e-4 && (high - 0.111_75).abs() < 1e-4, "{low} {high}");
        let none = Rate { numerator: 3, denominator: 0 };
        assert_eq!((none.share(), none.interval(), &*none.percent()), (None, None, "–"));
        let late = Rate { numerator: 3, denominator: 2 };
        assert_eq!(late.share(), Some(1.0), "complaints about mail of other days");
    }
}
