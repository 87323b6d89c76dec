//! The incidents that are open, for the channels that send them again and again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alerting::{Family, Incident, IncidentGroup, IncidentId, IncidentState, Severity};

use crate::received::Received;
use alerting::page::Page;

/// The greatest number of incidents that are sent again. An installation has far fewer; the limit bounds
/// the memory if the topic has nonsense.
const MAX_OPEN: usize = 1_000;

/// The number of resolved incidents that are remembered, so that an older record of one does not open it
/// again.
const MAX_RESOLVED: usize = 10_000;

/// The newest state of each open incident that a channel delivers.
#[derive(Debug, Default)]
pub struct OpenIncidents(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    open: BTreeMap<IncidentId, OpenIncident>,
    /// By resolved incident: the number of its last record, and its identity.
    resolved: HashMap<IncidentId, (u32, Identity)>,
}

/// An open incident and its page.
#[derive(Debug, Clone)]
pub struct OpenIncident {
    pub received: Arc<Received>,
    pub page: Page,
    pub identity: Identity,
}

/// What identifies an incident for systems that do not know its id. Group and family of an incident can
/// change, for example when it is found that a mailbox provider blocks several sources; the identity is
/// what they were in the first record that this process has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub group: IncidentGroup,
    pub family: Family,
    /// The severities that the incident has had so far.
    pub severities: BTreeSet<Severity>,
}

impl Identity {
    /// Returns the identity that the incident has by this record.
    pub fn of(incident: &Incident) -> Self {
        let severities = BTreeSet::from([incident.severity]);
        Self { group: incident.group.clone(), family: incident.family, severities }
    }
}

impl OpenIncidents {
    /// Takes over a record of an incident, unless a newer one is known. `identity` is used if the
    /// incident is not known yet.
    pub fn update(&self, received: &Arc<Received>, page: Page, identity: Identity) {
        let mut state = self.lock();
        let (id, seq) = (received.id(), received.incident.seq);
        let known =
            state.open.get(&id).map(|one| (one.received.incident.seq, one.identity.clone()));
        let known = known.or_else(|| state.resolved.get(&id).cloned());
        if known.as_ref().is_some_and(|(known, _)| *known > seq) {
            return;
        }
        let is_open = state.open.contains_key(&id);
        let mut identity = known.map_or(identity, |(_, identity)| identity);
        identity.severities.insert(received.incident.severity);
        if received.incident.state == IncidentState::Resolved {
            state.open.remove(&id);
            if state.resolved.len() >= MAX_RESOLVED {
                state.resolved.clear();
            }
            state.resolved.insert(id, (seq, identity));
        } else if is_open || state.open.len() < MAX_OPEN {
            let received = Arc::clone(received);
            state.open.insert(id, OpenIncident { received, page, identity });
        } else {
            tracing::error!(
                incident = %id,
                "more than {MAX_OPEN} incidents are open; this one is not sent to Alertmanager again. \
                 Find out why so many are open."
            );
        }
    }

    /// Returns the identity of an incident, if it is known.
    pub fn identity(&self, id: IncidentId) -> Option<Identity> {
        let state = self.lock();
        let open = state.open.get(&id).map(|one| one.identity.clone());
        open.or_else(|| state.resolved.get(&id).map(|(_, identity)| identity.clone()))
    }

    /// Forgets the incidents of other partitions than these.
    pub fn retain(&self, partitions: &BTreeSet<i32>) {
        self.lock().open.retain(|_, one| partitions.contains(&one.received.record.partition));
    }

    /// Returns all open incidents.
    pub fn list(&self) -> Vec<OpenIncident> {
        self.lock().open.values().cloned().collect()
    }

    /// Returns the number of open incidents.
    pub fn len(&self) -> usize {
        self.lock().open.len()
    }

    /// Returns whether no incident is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use alerting::Change;

    use super::*;
    use crate::sample;

    fn update(open: &OpenIncidents, received: Received) {
        let identity = Identity::of(&received.incident);
        let page = Page { title: String::new(), lines: Vec::new() };
        open.update(&Arc::new(received), page, identity);
    }

    #[test]
    fn the_newest_record_counts() {
        let open = OpenIncidents::default();
        let seq_after = |change, seq| {
            update(&open, sample::received(change, seq, "acme"));
            open.list().first().map(|one| one.received.incident.seq)
        };
        assert_eq!(seq_after(Change::Opened, 1), Some(1));
        assert_eq!(seq_after(Change::Updated, 3), Some(3));
        assert_eq!(seq_after(Change::Updated, 2), Some(3), "older");
        assert_eq!(seq_after(Change::Resolved, 4), None);
        assert_eq!(seq_after(Change::Updated, 3), None, "an older record does not open it again");
        update(&open, sample::received(Change::Opened, 1, "other"));
        open.retain(&BTreeSet::from([0]));
        assert_eq!(open.len(), 1);
        open.retain(&BTreeSet::from([1]));
        assert!(open.is_empty());
    }

    #[test]
    fn the_identity_is_that_of_the_first_record() {
        let open = OpenIncidents::default();
        let first = sample::received(Change::Opened, 1, "acme");
        let (id, identity) = (first.id(), Identity::of(&first.incident));
        assert_eq!(open.identity(id), None);
        update(&open, first);
        for (change, seq) in [(Change::Updated, 2), (Change::Resolved, 3)] {
            let mut later = sample::received(change, seq, "acme");
            later.incident.group = IncidentGroup::MailboxProvider { of: "gmail".to_owned() };
            later.incident.family = Family::Blocks;
            update(&open, later);
            assert_eq!(open.identity(id).as_ref(), Some(&identity));
        }
    }

    #[test]
    fn the_number_of_open_incidents_is_limited() {
        let open = OpenIncidents::default();
        for n in 0..MAX_OPEN + 5 {
            update(&open, sample::received(Change::Opened, 1, &format!("source-{n}")));
        }
        assert_eq!(open.len(), MAX_OPEN);
    }
}
