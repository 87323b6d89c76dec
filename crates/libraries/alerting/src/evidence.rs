use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use window::{Counts, Width};

use crate::baseline::{Baseline, Series};

/// By partition of `mail.events`: the next offset. It names a prefix of the log: exactly the events before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AsOf(pub BTreeMap<i32, i64>);

/// The counts of one scope that a judgement may ask for, as they are after a prefix of the log.
pub trait Evidence {
    /// Returns the end of the newest window, in UTC microseconds of event time: the end of the pane of the
    /// newest event. If time has passed since, the slide end up to which windows have lost panes.
    fn end(&self) -> i64;

    /// Returns the end of the newest window of this width. It differs from [`end`](Self::end) only for windows
    /// that slide in longer steps.
    fn window_end(&self, _width: Width) -> i64 {
        self.end()
    }

    /// Returns what happened in the window of this width that ends at [`window_end`](Self::window_end), or
    /// `None` if the ring no longer has its panes.
    fn window(&self, width: Width) -> Option<Counts>;

    /// Returns what has happened to the messages that were sent in `[from, to)`, in UTC microseconds. Both are
    /// multiples of an hour.
    fn cohort(&self, from: i64, to: i64) -> Counts;

    /// Returns when the campaign began, in UTC microseconds, and its counts since. The counts of a campaign
    /// that goes on are restarted daily. `None` if the scope is no campaign.
    fn campaign(&self) -> Option<(i64, Counts)>;

    /// Returns false if the source sends no `delivered` events. Then no rule is judged whose rate needs them.
    fn rates_known(&self) -> bool;

    /// Returns false if a kind of events lags. Then nothing is judged, because a prefix may have bounces
    /// without their deliveries.
    fn aligned(&self) -> bool;

    /// Returns when the last event happened, in UTC microseconds.
    fn last_event(&self) -> Option<i64>;

    /// Returns when the last event of a series happened, if that is tracked.
    fn last_event_of(&self, series: Series) -> Option<i64> {
        if series == Series::Events { self.last_event() } else { None }
    }

    /// Returns what is usual for the scope, if there is a history.
    fn baseline(&self) -> Option<&Baseline>;

    /// Returns the evidence at earlier ends, in ascending order, with everything that is known now. A rule that
    /// begins to be broken is judged by it first: the commits before may have known a part of the events only.
    fn earlier(&self) -> Vec<Box<dyn Evidence + '_>> {
        Vec::new()
    }
}
