//! Sliding windows over email events, and the alerts that come of them.
//!
//! Pure: no I/O and no clock. Time is event time, handed in as a watermark in UTC microseconds,
//! so the same input gives the same output at any speed and after any restart.
//!
//! The way of a number:
//! 1. the fold step reads a [`Fact`] from each event, adds it to the [`Counts`] of each [`Scope`]
//!    it belongs to in the [`PaneStart`] it happened in, and publishes [`PaneDelta`]s;
//! 2. the rate step applies the deltas to the scope's [`ScopeWindows`] and advances its clock,
//!    which yields a [`Slide`] for every end at which some window changed;
//! 3. each changed [`WindowResult`] is published as a [`ScopeRate`];
//! 4. [`Episodes`] judges each slide by the [`Rule`]s and yields [`Alert`]s.

mod alert;
mod counts;
mod episode;
mod episodes;
mod message;
mod metric;
mod pane;
mod rates;
mod reading;
mod rule;
mod scope;
mod time;
mod walk;
mod windows;

pub use alert::{Alert, EpisodeId, State};
pub use counts::{Counts, Fact};
pub use episodes::Episodes;
pub use message::{PaneDelta, ScopeRate};
pub use metric::Metric;
pub use pane::Pane;
pub use rates::Rates;
pub use reading::Severity;
pub use rule::{Direction, Rule, RuleError};
pub use scope::{Scope, ScopeError};
pub use time::{NotAPaneStart, PANE, PaneStart, Width};
pub use windows::{Applied, ScopeWindows, Slide, WindowResult};
