use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{PaneCounts, PaneStart};

/// The counts of one pane of one scope, as stored in the changelog of the rate stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pane {
    /// The first moment of the pane.
    pub start: PaneStart,
    /// The number of deltas that came after a window that contains the pane had been emitted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub corrections: u32,
    /// What happened in the pane.
    pub counts: PaneCounts,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde requires this signature")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// The panes of one ring of a scope, sorted by their start. Panes in which nothing happened are absent. Events are almost in order, so
/// almost every delta belongs to the last pane; the pane of a late delta is found by binary
/// search.
#[derive(Debug, Clone, Default)]
pub(crate) struct Panes(VecDeque<Pane>);

impl Panes {
    /// Returns the index of the first pane for which `precedes` is false. It must be true for all
    /// panes before and false for all panes after some start.
    pub(crate) fn index(&self, precedes: impl Fn(PaneStart) -> bool) -> usize {
        self.0.partition_point(|pane| precedes(pane.start))
    }

    /// Returns the pane that starts at `start`, and true if it was created by this call.
    pub(crate) fn entry(&mut self, start: PaneStart) -> (&mut Pane, bool) {
        let index = match self.0.back() {
            Some(back) if back.start == start => self.0.len() - 1,
            Some(back) if back.start > start => self.index(|other| other < start),
            _ => self.0.len(),
        };
        let created = self.0.get(index).is_none_or(|pane| pane.start != start);
        if created {
            self.0.insert(index, Pane { start, corrections: 0, counts: PaneCounts::default() });
        }
        (&mut self.0[index], created)
    }

    pub(crate) fn find(&self, start: PaneStart) -> Option<&Pane> {
        self.0.get(self.index(|other| other < start)).filter(|pane| pane.start == start)
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Pane> {
        self.0.get(index)
    }

    pub(crate) fn range(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = &Pane> {
        self.0.range(range)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Pane> {
        self.0.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Removes the oldest panes, for which `expired` is true, and returns their starts.
    pub(crate) fn drop_while(&mut self, expired: impl Fn(PaneStart) -> bool) -> Vec<PaneStart> {
        let keep_from = self.index(expired);
        self.0.drain(..keep_from).map(|pane| pane.start).collect()
    }
}
