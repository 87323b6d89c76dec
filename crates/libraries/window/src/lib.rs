//! Sliding windows over email events.
//!
//! This crate does no I/O and reads no clock. Time is event time: the caller passes the watermark
//! in UTC microseconds, so the same input gives the same output at any speed and after any restart.
//!
//! From an event to a rate:
//! 1. The fold stage adds what each event counts for, and what it corrects, to the [`Counts`] of each
//!    [`Scope`] of the event, in the pane ([`PaneStart`]) in which it happened and in the cohort of its
//!    message, and publishes a [`PaneDelta`] for each of them.
//! 2. The rate stage applies the deltas to the [`ScopeWindows`] and [`Cohorts`] of the scope, and
//!    advances the windows to the watermark. This yields a [`Slide`] for every slide end at which some
//!    window changed.
//! 3. The rate stage publishes each [`Window`] that is due as a [`ScopeRate`].
//! 4. The rules of the crate `alerting` judge the [`JudgedWindows`] and [`Cohorts`] of the scope.

mod cohorts;
mod counts;
mod judged;
mod metric;
mod pane;
mod payload;
mod rates;
mod scope;
mod sliding_sums;
mod time;
mod windows;

pub use cohorts::{Cohort, Cohorts};
pub use counts::{Counts, PaneCounts};
pub use judged::{EARLIER, JUDGED_BACK, JudgedWindows};
pub use metric::{Direction, Metric};
pub use pane::Pane;
pub use payload::{PaneDelta, ScopeRate};
pub use rates::{BOUNCES, Rates, View, accepted_by_recipient, fraction, reports_injected, sent};
pub use scope::{Scope, ScopeError, ScopeFields, ScopeKind};
pub use time::{HourStart, NotAPaneStart, NotAnHourStart, PANE, PaneStart, Ring, Width};
pub use windows::{
    Admission, Advanced, Applied, Emits, ScopeWindows, Slide, Window, WindowKey, WindowResult,
};
