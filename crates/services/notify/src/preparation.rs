//! What happens to a change before the channels get it: a new or more severe incident waits for a moment
//! for newer records, because the cause is often known right after the first alert, and ClickHouse is
//! asked for an explanation at the same time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use alerting::{Change, IncidentId};
use service::Shutdown;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;

use crate::delivery::Command;
use crate::explainer::Explainer;
use crate::message::{Delivery, combine};
use crate::received::Received;
use alerting::page::Explanation;

/// Prepares changes and passes them to the workers.
pub struct Preparation {
    gather: Duration,
    explainer: Option<Arc<Explainer>>,
    queues: Vec<UnboundedSender<Command>>,
}

impl Preparation {
    /// A new incident waits for `gather`. Without an explainer, ClickHouse is not asked.
    pub fn new(
        gather: Duration,
        explainer: Option<Explainer>,
        queues: Vec<UnboundedSender<Command>>,
    ) -> Self {
        Self { gather, explainer: explainer.map(Arc::new), queues }
    }

    /// Runs until the queue is closed. If the shutdown is requested, what is still in preparation is left
    /// to the next process.
    pub async fn run(self, mut incoming: UnboundedReceiver<Arc<Received>>, shutdown: Shutdown) {
        let mut gathered: HashMap<IncidentId, Vec<Delivery>> = HashMap::new();
        let mut ready: JoinSet<Prepared> = JoinSet::new();
        loop {
            tokio::select! {
                received = incoming.recv() => {
                    let Some(received) = received else { return };
                    let (id, change) = (received.id(), received.change());
                    let delivery = Delivery::of(Arc::clone(&received));
                    if let Some(earlier) = gathered.get_mut(&id) {
                        earlier.push(delivery);
                    } else if self.must_wait(change) {
                        gathered.insert(id, vec![delivery]);
                        ready.spawn(prepare(self.gather, self.explainer.clone(), received));
                    } else {
                        self.pass_on(vec![delivery]);
                    }
                }
                Some(Ok((id, explained))) = ready.join_next(), if !ready.is_empty() => {
                    let changes = gathered.remove(&id).unwrap_or_default();
                    self.pass_on(merged(changes, explained.as_ref()));
                }
                () = shutdown.wait() => return,
            }
        }
    }

    fn must_wait(&self, change: Change) -> bool {
        let is_news = matches!(change, Change::Opened | Change::Escalated);
        is_news && (!self.gather.is_zero() || self.explainer.is_some())
    }

    fn pass_on(&self, changes: Vec<Delivery>) {
        let changes: Arc<[Delivery]> = changes.into();
        for queue in &self.queues {
            let _ = queue.send(Command::Deliver(Arc::clone(&changes)));
        }
    }
}

/// An incident and its explanation.
type Prepared = (IncidentId, Option<Arc<Explanation>>);

async fn prepare(
    gather: Duration,
    explainer: Option<Arc<Explainer>>,
    received: Arc<Received>,
) -> Prepared {
    let explain = async {
        match explainer {
            Some(explainer) => explainer.explain(&received.incident).await,
            None => None,
        }
    };
    let ((), explained) = tokio::join!(tokio::time::sleep(gather), explain);
    (received.id(), explained)
}

/// Merges updates, of which people are not notified, into the change before them. The other changes stay
/// separate, so that each has the same identity in every process.
fn merged(changes: Vec<Delivery>, explained: Option<&Arc<Explanation>>) -> Vec<Delivery> {
    let mut merged: Vec<Delivery> = Vec::new();
    for mut delivery in changes {
        if matches!(delivery.change, Change::Opened | Change::Escalated) {
            delivery.explanation = explained.cloned();
        }
        let previous = merged.pop_if(|_| delivery.change == Change::Updated);
        match previous {
            Some(previous) => merged.extend(combine(&[previous, delivery])),
            None => merged.push(delivery),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn updates_are_merged_into_the_change_before_them() {
        use Change::{Escalated, Handled, Opened, Resolved, Updated};
        let changes = [Opened, Updated, Updated, Handled, Escalated, Updated, Resolved];
        let changes = (1..)
            .zip(changes)
            .map(|(seq, change)| Delivery::of(Arc::new(sample::received(change, seq, "acme"))));
        let asked = Arc::new(Explanation::unavailable("for a test"));
        let merged = merged(changes.collect(), Some(&asked));
        let found: Vec<_> = merged
            .iter()
            .map(|one| (one.change, one.seq, one.received.incident.seq, one.positions.len()))
            .collect();
        assert_eq!(
            found,
            [(Opened, 1, 3, 3), (Handled, 4, 4, 1), (Escalated, 5, 6, 2), (Resolved, 7, 7, 1)]
        );
        let explained: Vec<_> = merged.iter().map(|one| one.explanation.is_some()).collect();
        assert_eq!(explained, [true, false, true, false]);
    }
}
