//! One assignment of a partition of `mail.actions`: its deliveries end when the partition moves to another member.

use std::collections::HashMap;
use std::sync::Arc;

use courier::{Position, Progress, Worker};
use kafka::Offset;

use super::outgoing::Outgoing;
use super::receiver::ActionPlace;

/// How many later actions may be finished while an earlier one of the partition is not. After a restart, they are delivered
/// again.
pub(super) const MOST_FINISHED_BEHIND: usize = 10_000;

/// What was read in one assignment.
pub(super) struct Partition {
    /// Distinguishes this assignment from others.
    pub(super) assignment: u64,
    pub(super) progress: Progress,
    /// One for each action of a rule.
    pub(super) workers: HashMap<ActionPlace, Worker<Outgoing>>,
    /// What the workers have.
    pub(super) deliveries: HashMap<Offset, Arc<Outgoing>>,
}

impl Partition {
    /// Returns an assignment of which nothing was read yet.
    pub(super) fn new(assignment: u64) -> Self {
        let (progress, workers, deliveries) = (Progress::default(), HashMap::new(), HashMap::new());
        Self { assignment, progress, workers, deliveries }
    }

    /// Ends the deliveries: the next owner makes them.
    pub(super) fn abort(self) {
        for worker in self.workers.into_values() {
            worker.abort();
        }
    }

    /// Takes back the deliveries that have waited while too many later ones were finished. No attempt of them begins
    /// any more.
    pub(super) fn take_overdue(&mut self) -> Vec<Arc<Outgoing>> {
        let overdue = self.progress.overdue(MOST_FINISHED_BEHIND).into_iter();
        let taken: Vec<_> =
            overdue.filter_map(|Position { offset, .. }| self.deliveries.remove(&offset)).collect();
        for outgoing in &taken {
            outgoing.cancel();
        }
        taken
    }
}
