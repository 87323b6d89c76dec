//! Sliding windows over email events, and the alerts that rules derive from them.
//!
//! This crate does no I/O and reads no clock. Time is event time: the caller passes the watermark
//! in UTC microseconds, so the same input gives the same output at any speed and after any restart.
//!
//! From an event to an alert:
//! 1. The fold stage reads a [`CountedEvent`] from each event, adds it to the [`Counts`] of each
//!    [`Scope`] of the event, in the pane ([`PaneStart`]) in which the event happened, and publishes
//!    a [`PaneDelta`] for each of them.
//! 2. The rate stage applies the deltas to the [`ScopeWindows`] of the scope and advances them to
//!    the watermark. This yields a [`Slide`] for every slide end at which some window changed.
//! 3. The rate stage publishes each changed [`WindowResult`] as a [`ScopeRate`].
//! 4. [`OpenEpisodes`] evaluates the [`Rule`]s on each slide and yields [`Alert`]s.

mod alert;
mod counts;
mod episode;
mod measurement;
mod metric;
mod open_episodes;
mod pane;
mod payload;
mod rates;
mod rule;
mod scope;
mod sliding_sums;
mod time;
mod windows;

pub use alert::{Alert, EpisodeId, State};
pub use counts::{CountedEvent, Counts};
pub use measurement::Severity;
pub use metric::Metric;
pub use open_episodes::OpenEpisodes;
pub use pane::Pane;
pub use payload::{PaneDelta, ScopeRate};
pub use rates::Rates;
pub use rule::{Direction, Rule, RuleError};
pub use scope::{Scope, ScopeError, ScopeFields, ScopeKind};
pub use time::{NotAPaneStart, PANE, PaneStart, Width};
pub use windows::{Applied, ScopeWindows, Slide, WindowResult};
