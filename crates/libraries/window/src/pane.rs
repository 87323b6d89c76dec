use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{Counts, PaneStart};

/// One scope's events of one pane: the record of the rate step's changelog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pane {
    /// The first moment of the pane.
    pub start: PaneStart,
    /// How many of its deltas came after a window that holds the pane had been emitted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub corrections: u32,
    /// What happened in it.
    pub counts: Counts,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// One scope's panes, sorted by their start, without empty ones. Events come nearly in order, so
/// nearly every delta ends up at the back; a late one is found by bisection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Panes(VecDeque<Pane>);

impl Panes {
    /// The index of the first pane for which `past` no longer holds.
    pub(crate) fn index(&self, past: impl Fn(PaneStart) -> bool) -> usize {
        self.0.partition_point(|pane| past(pane.start))
    }

    /// The pane that starts there, and whether it had to be made.
    pub(crate) fn entry(&mut self, start: PaneStart) -> (&mut Pane, bool) {
        let index = match self.0.back() {
            Some(back) if back.start == start => self.0.len() - 1,
            Some(back) if back.start > start => self.index(|other| other < start),
            _ => self.0.len(),
        };
        let made = self.0.get(index).is_none_or(|pane| pane.start != start);
        if made {
            self.0.insert(index, Pane { start, corrections: 0, counts: Counts::default() });
        }
        (&mut self.0[index], made)
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

    /// Removes the panes for which `past` holds, which are the oldest, and names them.
    pub(crate) fn drop_while(&mut self, past: impl Fn(PaneStart) -> bool) -> Vec<PaneStart> {
        let keep_from = self.index(past);
        self.0.drain(..keep_from).map(|pane| pane.start).collect()
    }
}
