//! What a new owner of a partition has to know of its past.

use std::collections::HashMap;
use std::sync::Arc;

use alerting::{IncidentId, IncidentState};
use jiff::{SignedDuration, Timestamp};
use kafka::OwnedRecord;

use crate::delivery::Deliveries;
use crate::open_incidents::Identity;
use crate::received::Received;

/// How many incidents are kept before those that were over long ago are dropped.
const MANY: usize = 2_000;

/// How long an incident that is over can matter: a digest after quiet hours names it.
const OVER_FOR: SignedDuration = SignedDuration::from_hours(48);

/// Keeps the newest record of each incident, the identity of the first one, and all severities.
#[derive(Debug, Default)]
pub struct Newest {
    incidents: HashMap<IncidentId, (Arc<Received>, Identity)>,
    /// The latest time of all records.
    latest: Timestamp,
    /// The number of incidents at which those that are over are dropped next.
    limit: usize,
}

impl Newest {
    /// Takes over a record, unless it is not valid: the feed makes a dead letter of it, or has made one.
    pub fn add(&mut self, record: &OwnedRecord) {
        let Ok(Some(received)) = Received::read(record) else { return };
        self.latest = self.latest.max(received.at);
        let id = received.id();
        match self.incidents.get_mut(&id) {
            Some((newest, identity)) => {
                identity.severities.insert(received.incident.severity);
                if newest.incident.seq < received.incident.seq {
                    *newest = Arc::new(received);
                }
            }
            None => {
                let identity = Identity::of(&received.incident);
                self.incidents.insert(id, (Arc::new(received), identity));
            }
        }
        self.drop_old();
    }

    /// Drops what was over long ago, so that the memory does not grow with the topic.
    fn drop_old(&mut self) {
        if self.incidents.len() < self.limit.max(MANY) {
            return;
        }
        let latest = self.latest;
        self.incidents.retain(|_, (received, _)| {
            let is_over = received.incident.state == IncidentState::Resolved;
            !is_over || latest.duration_since(received.at) < OVER_FOR
        });
        self.limit = 2 * self.incidents.len();
    }

    /// Returns the number of incidents.
    pub fn len(&self) -> usize {
        self.incidents.len()
    }

    /// Returns whether there is no incident.
    pub fn is_empty(&self) -> bool {
        self.incidents.is_empty()
    }

    /// Tells all channels the records.
    pub fn restore(self, deliveries: &Deliveries) {
        for (received, identity) in self.incidents.values() {
            deliveries.restore(received, identity);
        }
    }
}

#[cfg(test)]
mod tests {
    use alerting::Change;

    use super::*;
    use crate::sample;

    fn add(newest: &mut Newest, change: Change, seq: u32, source: &str) {
        newest.add(&sample::received(change, seq, source).record);
    }

    #[test]
    fn the_newest_record_is_kept_with_all_severities() {
        let mut newest = Newest::default();
        for (change, seq) in [(Change::Opened, 1), (Change::Escalated, 3), (Change::Updated, 2)] {
            add(&mut newest, change, seq, "acme");
        }
        assert_eq!(newest.len(), 1);
        let (received, identity) = newest.incidents.values().next().unwrap();
        assert_eq!(received.incident.seq, 3);
        assert_eq!(identity.severities.len(), 2);
    }

    #[test]
    fn what_was_over_long_ago_is_dropped() {
        let mut newest = Newest::default();
        let over = |n: usize| format!("over-{n}");
        for n in 0..MANY - 2 {
            add(&mut newest, Change::Resolved, 2, &over(n));
        }
        add(&mut newest, Change::Opened, 1, "open");
        assert_eq!(newest.len(), MANY - 1);
        // The sequence number is also the second of the record: this one is three days later.
        add(&mut newest, Change::Resolved, 3 * 24 * 3600, "late");
        assert_eq!(newest.len(), 2, "the open one, and the one that was over last");
    }
}
