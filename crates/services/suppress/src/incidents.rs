//! The incidents about the hard bounces of a mailbox provider. Entries that begin while one is open are provisional.
//!
//! Every instance reads all of `mail.incidents`, because every recipient may have an address at the mailbox provider.
//! Decision 13 explains why the topic is followed and is not an input of the stage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use alerting::{Family, Incident, IncidentGroup, IncidentId, IncidentState, Measure};
use event::Dimension;
use kafka::changes::{Changes, Polled};
use kafka::{Cluster, Record, Stage};
use service::Service;
use window::{Metric, Scope};

use crate::stage::Suppress;

const POLL_TIMEOUT: Duration = Duration::from_millis(50);
/// The greatest numbers of open incidents and of those that are over. An installation has far fewer in 90 days; the limit
/// bounds the memory if the topic has nonsense.
const MAX_INCIDENTS: usize = 10_000;

/// What is known of incidents at one moment.
#[derive(Debug, Clone, Default)]
pub struct KnownIncidents {
    open: BTreeMap<IncidentId, Span>,
    /// The incidents that are over, or part of others now: the newest ones. `suppress` may be behind.
    ended: BTreeMap<IncidentId, Ended>,
    /// When each of them ended, UTC microseconds of event time.
    ends: BTreeSet<(i64, IncidentId)>,
}

/// What an incident is about, and since when.
#[derive(Debug, Clone)]
struct Span {
    /// The mailbox provider whose hard bounces the incident is about.
    mailbox_provider: Option<String>,
    /// UTC microseconds of event time.
    opened_at: i64,
}

impl Span {
    /// Returns whether hard bounces at a mailbox provider that happen at `at` (seconds) are in doubt, unless it is over.
    fn is_about(&self, mailbox_provider: &str, at: i64) -> bool {
        self.mailbox_provider.as_deref() == Some(mailbox_provider)
            && self.opened_at.div_euclid(1_000_000) <= at
    }
}

#[derive(Debug, Clone)]
struct Ended {
    span: Span,
    /// UTC microseconds of event time.
    at: i64,
    /// The incident that it is part of now.
    merged_into: Option<IncidentId>,
}

impl KnownIncidents {
    /// Takes over the newest record of an incident.
    pub fn apply(&mut self, incident: &Incident) {
        let id = incident.id;
        let earlier = self.ended.remove(&id);
        if let Some(earlier) = &earlier {
            self.ends.remove(&(earlier.at, id));
        }
        let mailbox_provider = mailbox_provider(incident).map(str::to_owned);
        let span = Span { mailbox_provider, opened_at: incident.opened_at };
        if incident.state == IncidentState::Resolved {
            self.open.remove(&id);
            // What people do with it later has a later time. If only that record is left, the end looks later than it was.
            let at = earlier.map_or(incident.at, |it| it.at.min(incident.at));
            let merged_into = incident.merged_into;
            self.ends.insert((at, id));
            self.ended.insert(id, Ended { span, at, merged_into });
            if self.ended.len() > MAX_INCIDENTS
                && let Some((_, oldest)) = self.ends.pop_first()
            {
                self.ended.remove(&oldest);
            }
        } else if self.open.len() < MAX_INCIDENTS || self.open.contains_key(&id) {
            self.open.insert(id, span);
        } else {
            tracing::warn!(%id, "so many incidents are open that this one makes no entry provisional");
        }
    }

    /// Returns the incident during which a hard bounce at a mailbox provider happened, at `at` (seconds): an open one, or
    /// else one that is over by now. Of several, it is the first.
    pub fn about(&self, mailbox_provider: &str, at: i64) -> Option<IncidentId> {
        let of = |id: &IncidentId, span: &Span| {
            span.is_about(mailbox_provider, at).then_some((span.opened_at, *id))
        };
        let open = self.open.iter().filter_map(|(id, span)| of(id, span)).min();
        let ended = || {
            let later = self.ends.iter().rev();
            let later = later.take_while(|(end, _)| end.div_euclid(1_000_000) >= at);
            later.filter_map(|(_, id)| of(id, &self.ended.get(id)?.span)).min()
        };
        open.or_else(ended).map(|(_, id)| id)
    }

    /// Returns whether an incident is open, or part of one that is. One that is not known is over: Kafka keeps the newest
    /// record of an incident for 90 days. But one that another has become part of is open until its record is read.
    pub fn is_open(&self, id: IncidentId) -> bool {
        let (mut id, mut is_merged) = (id, false);
        // Each incident is part of one that was open later, so more steps than this are nonsense.
        for _ in 0..=self.ended.len() {
            if self.open.contains_key(&id) {
                return true;
            }
            match self.ended.get(&id).map(|it| it.merged_into) {
                Some(Some(other)) => (id, is_merged) = (other, true),
                Some(None) => return false,
                None => return is_merged,
            }
        }
        false
    }
}

/// Returns the mailbox provider whose hard bounces an incident is about: several sources have it in common, or it is the
/// cause, or no wider scope is known.
fn mailbox_provider(incident: &Incident) -> Option<&str> {
    let others = incident.others.iter().map(|other| &other.alert);
    let mut alerts = std::iter::once(&incident.lead).chain(others);
    let is_about_bounces = incident.family == Family::Bounces
        && alerts.any(|alert| alert.metric == Measure::Rate(Metric::HardBounce));
    if !is_about_bounces {
        return None;
    }
    let name = match (&incident.group, &incident.cause) {
        (IncidentGroup::MailboxProvider { of }, _) => Some(of.as_str()),
        (_, Some(cause)) => cause.scope.value(Dimension::MailboxProvider),
        (_, None) => incident.lead.scope.value(Dimension::MailboxProvider),
    };
    name.filter(|name| *name != Scope::OTHER)
}

/// What is known of incidents now. It is shared by the thread that follows `mail.incidents` and the stage.
#[derive(Debug, Clone, Default)]
pub struct Incidents(Arc<Mutex<Arc<KnownIncidents>>>);

impl Incidents {
    /// Returns what is known now. It stays the same while the caller uses it.
    pub fn known(&self) -> Arc<KnownIncidents> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes over a record of `mail.incidents`.
    fn apply(&self, record: &Record<'_>) {
        // It has been read before, and a newer one may have come since.
        if record.is_redriven_for_another(Suppress::STAGE) {
            return;
        }
        let Some(value) = record.value() else { return };
        match serde_json::from_slice::<Incident>(value) {
            Ok(incident) => {
                let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::make_mut(&mut known).apply(&incident);
            }
            Err(error) => {
                let (partition, offset) = (record.partition(), record.offset().0);
                tracing::warn!(
                    partition, offset, %error,
                    "a record of mail.incidents cannot be read and is ignored"
                );
            }
        }
    }
}

/// Reads the whole topic, and goes on in the background until the service shuts down. Returns when every incident that
/// was published before is known: until then, no entry may become final.
///
/// # Errors
/// If the topic is missing or Kafka rejects the client. If that happens later, the service ends.
pub fn start(
    incidents: &Incidents,
    cluster: &Cluster,
    service: &Service,
) -> anyhow::Result<JoinHandle<()>> {
    let topic = &cluster.topics.incidents;
    let mut changes = Changes::open(&cluster.connection, "suppress-incidents", topic)?;
    while !changes.has_caught_up() && !service.shutdown.requested() {
        service.health.mark_alive();
        if let Polled::Away(error) = poll(&mut changes, incidents)? {
            tracing::warn!(error, "mail.incidents cannot be read yet; retrying");
        }
    }
    let (incidents, shutdown) = (incidents.clone(), service.shutdown.clone());
    let follow = move || {
        while !shutdown.requested() {
            match poll(&mut changes, &incidents) {
                Ok(Polled::Record | Polled::Nothing) => {}
                Ok(Polled::Away(error)) => {
                    tracing::debug!(error, "mail.incidents cannot be read for now");
                }
                Err(error) => {
                    tracing::error!(%error, "mail.incidents is no longer followed; the service ends");
                    shutdown.request();
                }
            }
        }
    };
    Ok(std::thread::Builder::new().name("incidents".to_owned()).spawn(follow)?)
}

fn poll(changes: &mut Changes, incidents: &Incidents) -> Result<Polled, kafka::Error> {
    changes.poll(POLL_TIMEOUT, &mut |record| incidents.apply(record))
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SECOND: i64 = 1_000_000;

    pub(crate) fn id(id: char) -> IncidentId {
        IncidentId::try_from(id.to_string().repeat(32)).unwrap()
    }

    fn scope(scope: &str) -> Value {
        match scope {
            "source" => json!({"scope": "source", "provider": "ses", "source": "news"}),
            name => json!({
                "scope": "mailbox_provider", "provider": "ses", "source": "news", "mailbox_provider": name,
            }),
        }
    }

    fn with(mut value: Value, more: Value) -> Value {
        let (Some(fields), Value::Object(more)) = (value.as_object_mut(), more) else { panic!() };
        fields.extend(more);
        value
    }

    fn alert(of: &str, metric: &str) -> Value {
        let alert = json!({
            "episode_id": "e".repeat(32), "rule": "hard_bounces", "severity": "page", "state": "firing", "metric": metric,
            "width": "5m", "value": 0.2, "threshold": 0.1, "numerator": 200, "volume": 1000, "started_at": 100 * SECOND,
            "at": 100 * SECOND, "runbook": "r", "summary": "s", "family": "bounces", "basis": "arrival", "seq": 1,
            "from": 0, "to": 100 * SECOND, "as_of": {},
        });
        with(alert, scope(of))
    }

    /// Returns an incident of a source whose hard bounces Gmail causes.
    pub(crate) fn incident(name: char, more: Value) -> Incident {
        let cause = json!({
            "scope": scope("gmail"), "share": 0.9, "numerator": 1, "volume": 2, "rest_numerator": 0, "rest_volume": 0,
        });
        let value = json!({
            "id": id(name), "seq": 1, "page": 1, "change": "opened", "state": "open", "severity": "page",
            "family": "bounces", "group": "source", "of": "ses/news", "opened_at": 100 * SECOND, "at": 100 * SECOND,
            "lead": alert("source", "hard_bounce"), "cause": cause, "episodes": 1, "open_episodes": 1,
            "opened_by": "e".repeat(32),
        });
        serde_json::from_value(with(value, more)).unwrap()
    }

    #[test]
    fn only_hard_bounces_of_one_mailbox_provider_count() {
        for (more, expected) in [
            (json!({}), Some("gmail")),
            (json!({"group": "mailbox_provider", "of": "yahoo"}), Some("yahoo")),
            (json!({"cause": null}), None),
            (json!({"cause": null, "lead": alert("outlook", "hard_bounce")}), Some("outlook")),
            (json!({"cause": null, "lead": alert("(other)", "hard_bounce")}), None),
            (json!({"family": "blocks"}), None),
            (json!({"lead": alert("source", "bounce")}), None),
            (
                json!({"lead": alert("source", "bounce"), "others": [{"alert": alert("gmail", "hard_bounce")}]}),
                Some("gmail"),
            ),
        ] {
            let incident = incident('a', more);
            assert_eq!(mailbox_provider(&incident), expected, "{incident:?}");
        }
    }

    #[test]
    fn an_incident_is_about_bounces_from_its_beginning_to_its_end() {
        let mut known = KnownIncidents::default();
        known.apply(&incident('b', json!({})));
        known.apply(&incident('a', json!({"opened_at": 200 * SECOND})));
        for (mailbox_provider, at, expected) in [
            ("gmail", 99, None),
            ("gmail", 100, Some(id('b'))),
            ("gmail", 300, Some(id('b'))),
            ("yahoo", 300, None),
        ] {
            assert_eq!(known.about(mailbox_provider, at), expected, "{mailbox_provider} {at}");
        }
        known.apply(&incident('b', json!({"state": "stale"})));
        assert!(known.is_open(id('b')), "it is not over yet");
        known.apply(&incident('b', json!({"state": "resolved"})));
        assert!(!known.is_open(id('b')) && !known.is_open(id('c')));
        assert_eq!(known.about("gmail", 300), Some(id('a')));
    }

    #[test]
    fn what_has_become_part_of_another_incident_is_over_with_it() {
        let mut known = KnownIncidents::default();
        for name in ['a', 'b', 'c'] {
            known.apply(&incident(name, json!({})));
        }
        let merged = |into: char| json!({"state": "resolved", "merged_into": id(into)});
        known.apply(&incident('a', merged('b')));
        known.apply(&incident('b', merged('c')));
        assert!(known.is_open(id('a')) && known.is_open(id('b')));
        known.apply(&incident('c', json!({"state": "resolved"})));
        assert!(!known.is_open(id('a')));
        // Nonsense ends, too.
        known.apply(&incident('c', merged('a')));
        assert!(!known.is_open(id('a')));
    }

    #[test]
    fn the_incident_that_another_has_become_part_of_is_open_until_its_record_is_read() {
        let mut known = KnownIncidents::default();
        known.apply(&incident('a', json!({"state": "resolved", "merged_into": id('b')})));
        assert!(known.is_open(id('a')), "the record of the other is in another partition");
        assert!(!known.is_open(id('b')));
        known.apply(&incident('b', json!({})));
        assert!(known.is_open(id('a')));
        known.apply(&incident('b', json!({"state": "resolved"})));
        assert!(!known.is_open(id('a')));
    }

    #[test]
    fn a_bounce_during_an_incident_that_is_over_by_now_belongs_to_it() {
        let mut known = KnownIncidents::default();
        let over = |at: i64| json!({"state": "resolved", "at": at * SECOND});
        known.apply(&incident('c', over(400)));
        known.apply(&incident('b', over(200)));
        known.apply(&incident('b', over(900))); // somebody has judged it
        for (mailbox_provider, at, expected) in [
            ("gmail", 99, None),
            ("gmail", 100, Some(id('b'))),
            ("gmail", 200, Some(id('b'))),
            ("gmail", 201, Some(id('c'))),
            ("gmail", 401, None),
            ("yahoo", 150, None),
        ] {
            assert_eq!(known.about(mailbox_provider, at), expected, "{mailbox_provider} {at}");
        }
        known.apply(&incident('d', json!({"opened_at": 150 * SECOND})));
        assert_eq!(known.about("gmail", 160), Some(id('d')), "an open one comes first");
        known.apply(&incident('b', json!({})));
        assert_eq!(known.about("gmail", 300), Some(id('b')), "it is open again");
    }

    #[test]
    fn the_newest_incidents_that_are_over_are_kept() {
        let mut known = KnownIncidents::default();
        for number in 0..=MAX_INCIDENTS {
            let mut over = incident('a', json!({"state": "resolved", "opened_at": 0}));
            over.id = IncidentId::try_from(format!("{number:032x}")).unwrap();
            over.at = i64::try_from(number).unwrap() * SECOND;
            known.apply(&over);
        }
        assert_eq!((known.ended.len(), known.ends.len()), (MAX_INCIDENTS, MAX_INCIDENTS));
        let first = |number: usize| Some(IncidentId::try_from(format!("{number:032x}")).unwrap());
        assert_eq!(known.about("gmail", 0), first(1), "the oldest is gone");
    }
}
