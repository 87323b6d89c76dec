//! Predictions about recipients: whether they engage with the next mail, and when mail should reach them.
//! See docs/prediction.md.
//!
//! A pure crate: no I/O, no clock and no random numbers, so that the same counts always give the same predictions.
//! Nothing is predicted from fewer than [`MIN_RECIPIENTS`] recipients; the result is then [`Unknown`].

mod beta;
mod bg_bb;
mod history;
mod minimum;
mod odds;
mod probability;
mod scores;
mod slots;

pub use beta::{Beta, ImpossibleShape};
pub use bg_bb::BgBb;
pub use history::{Histories, History, ImpossibleHistory, MAX_MAILS};
pub use odds::{HORIZON, Interval, Odds, OddsTable};
pub use probability::{ImpossibleProbability, Probability};
pub use scores::{Bin, Forecast, Scores, coverage};
pub use slots::{BestSlot, ImpossibleCount, SLOTS, Slot, SlotCount, SlotCounts, SlotModel};

/// A model is fitted to at least this many recipients. With fewer, the error of the fitted shapes is as large as the
/// differences between recipients that the shapes describe.
pub const MIN_RECIPIENTS: u64 = 500;

/// Why nothing is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// Only recipients who tell something are counted: those with two mails or more for the next engagement, and
    /// those with two opens or more for the best time.
    #[error(
        "unknown: {recipients} recipients have enough history, and {MIN_RECIPIENTS} are needed"
    )]
    TooFewRecipients { recipients: u64 },
}

impl Unknown {
    /// # Errors
    /// If there are fewer than [`MIN_RECIPIENTS`].
    fn unless_enough(recipients: u64) -> Result<(), Self> {
        if recipients < MIN_RECIPIENTS {
            Err(Self::TooFewRecipients { recipients })
        } else {
            Ok(())
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
const fn float(count: u64) -> f64 {
    count as f64
}
