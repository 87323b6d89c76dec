//! The incidents stage: joins episodes into incidents, and decides when people are notified.
//!
//! All sources must meet, because a block at one mailbox provider hits many of them. Therefore the state
//! is that of partition 0, and monitor-rate publishes alerts there. Records in other partitions, which
//! an earlier release has written, are forwarded to partition 0.

use alerting::{Incident, IncidentSettings, Incidents, IncidentsRestore, Received};
use kafka::{
    AfterRollback, CommittedCounter, Inputs, Outcome, Outgoing, Output, Record, Restore, Stage,
    TopicPartition,
};
use record::{Reason, Topics, content_types, names};

use crate::incidents_record::Input;

/// The partition of `mail.alerts` and of the changelog that has the state.
const PARTITION: i32 = 0;

/// The key of the changelog whose value is the number of commits that have changed the state. The
/// metadata of the committed offset is the same number. At a restore, a smaller number in the changelog
/// means that records are missing.
const COMMITS_KEY: &[u8] = b"commits";

/// The changelog lost records, or it does not belong to the committed offsets. People would be notified
/// again, or not at all, if the stage continued.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{topic}` contains {commits} of {expected} commits; restore the topic, or reset the offsets of the \
     group of the incidents stage to start from the beginning"
)]
struct IncompleteChangelog {
    topic: String,
    commits: u64,
    expected: u64,
}

pub(crate) struct IncidentsStage {
    alerts_topic: String,
    partitions: usize,
    incidents_topic: String,
    changelog: String,
    settings: IncidentSettings,
    /// `None` if another member has partition 0.
    state: Option<State>,
    /// The records of the current batch that are not sent yet.
    unsent: Vec<Incident>,
    /// The notifications of the current batch. They are logged when it is committed.
    notifications: Vec<Incident>,
    meters: Meters,
}

/// What partition 0 has.
#[derive(Default)]
struct State {
    incidents: Incidents,
    commits: u64,
}

/// The metrics of the stage.
struct Meters {
    dropped_alerts: CommittedCounter,
    open_incidents: metrics::Gauge,
    open_episodes: metrics::Gauge,
    clock: metrics::Gauge,
}

impl Meters {
    fn new() -> Self {
        Self {
            dropped_alerts: CommittedCounter::new(metrics::counter!(
                "mailpulse_monitor_incident_alerts_dropped_total"
            )),
            open_incidents: metrics::gauge!("mailpulse_monitor_open_incidents"),
            open_episodes: metrics::gauge!("mailpulse_monitor_open_episodes"),
            clock: metrics::gauge!("mailpulse_monitor_incidents_clock_seconds"),
        }
    }
}

impl IncidentsStage {
    /// Returns the stage. `partitions` is the number of partitions of `mail.alerts`.
    pub(crate) fn new(topics: &Topics, partitions: usize, settings: IncidentSettings) -> Self {
        Self {
            alerts_topic: topics.alerts.clone(),
            partitions,
            incidents_topic: topics.incidents.clone(),
            changelog: topics.incidents_changelog.clone(),
            settings,
            state: None,
            unsent: Vec::new(),
            notifications: Vec::new(),
            meters: Meters::new(),
        }
    }

    fn publish(&mut self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        for incident in self.unsent.drain(..) {
            let value = serde_json::to_vec(&incident).map_err(kafka::Error::state)?;
            let key = incident.id.to_string();
            out.send(Outgoing {
                headers: &[(names::CONTENT_TYPE, content_types::INCIDENT.as_bytes())],
                ..outgoing(&self.incidents_topic, None, key.as_bytes(), Some(&value))
            })?;
            let counter = metrics::counter!("mailpulse_monitor_incident_changes_total",
                "change" => incident.change.as_str());
            out.count(&CommittedCounter::new(counter), 1);
            if incident.change.notifies() {
                self.notifications.push(incident);
            }
        }
        Ok(())
    }

    fn write_changelog(&mut self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        let Some(state) = &mut self.state else { return Ok(()) };
        let records = state.incidents.changed().map_err(kafka::Error::state)?;
        if records.is_empty() {
            return Ok(());
        }
        for (key, value) in records {
            let key = key.as_bytes();
            out.send(outgoing(&self.changelog, Some(PARTITION), key, value.as_deref()))?;
        }
        state.commits += 1;
        let commits = state.commits.to_string();
        let commits = Some(commits.as_bytes());
        out.send(outgoing(&self.changelog, Some(PARTITION), COMMITS_KEY, commits))
    }
}

impl Stage for IncidentsStage {
    const STAGE: record::Stage = record::Stage::Incidents;

    fn inputs(&self) -> Inputs {
        Inputs { topics: vec![self.alerts_topic.clone()], partitions: self.partitions }
    }

    fn restore(
        &mut self,
        partition: &TopicPartition,
        restore: &Restore<'_>,
    ) -> Result<(), kafka::Error> {
        if partition.partition != PARTITION {
            return Ok(());
        }
        let (mut restored, mut commits) = (IncidentsRestore::default(), 0);
        restore.changelog(&self.changelog, PARTITION, None, |key, value| {
            if key == COMMITS_KEY {
                commits = number(value.unwrap_or_default());
                return Ok(());
            }
            restored.apply(key, value).map_err(kafka::Error::state)
        })?;
        let expected = number(restore.metadata().as_bytes());
        if commits < expected {
            let topic = self.changelog.clone();
            return Err(kafka::Error::state(IncompleteChangelog { topic, commits, expected }));
        }
        let mut incidents = restored.finish();
        // `mail.alerts` has as many partitions as `mail.panes`, of which each shard owns one.
        incidents.keep_shards(u32::try_from(self.partitions).unwrap_or(u32::MAX));
        let (open_incidents, open_episodes) =
            (incidents.open_incidents(), incidents.open_episodes());
        tracing::info!(open_incidents, open_episodes, commits, "incidents restored");
        self.state = Some(State { incidents, commits });
        Ok(())
    }

    fn release(&mut self, partition: &TopicPartition) {
        if partition.partition == PARTITION {
            self.state = None;
        }
    }

    fn process(
        &mut self,
        record: &Record<'_>,
        out: &mut Output<'_>,
    ) -> Result<Outcome, kafka::Error> {
        if [record::Stage::Archive, record::Stage::Notify]
            .into_iter()
            .any(|stage| record.is_redriven_for(stage))
        {
            return Ok(Outcome::Dropped); // it was counted when it was first read
        }
        if record.partition() != PARTITION {
            // The copy is for this stage only: archive has read the original.
            let redriven = (names::REDRIVEN, Self::STAGE.code().as_bytes());
            out.forward(record, &self.alerts_topic, PARTITION, &[redriven])?;
            return Ok(Outcome::Passed);
        }
        let Some(State { incidents, .. }) = &mut self.state else {
            let problem = format!("{} belongs to a partition without state", record.origin());
            return Err(kafka::Error::state(problem));
        };
        let input = match Input::read(record.key(), record.value().unwrap_or_default()) {
            Ok(input) => input,
            Err(error) => return out.dead_letter(record, error.reason(), &error.to_string()),
        };
        let (settings, unsent) = (&self.settings, &mut self.unsent);
        match input {
            Input::Clock(clock) => {
                incidents.receive_clock(clock.shard, clock.now, clock.sources, settings, unsent);
            }
            // An earlier release judged by other rules. Its alerts open no incidents, or an upgrade would
            // notify people of three months.
            Input::Alert(alert) if alert.seq == 0 => return Ok(Outcome::Dropped),
            Input::Alert(alert) => {
                // Before the first clock, the alerts are the only time.
                let now = if incidents.now() == 0 { alert.at } else { incidents.now() };
                match incidents.receive(&alert, now, settings, unsent) {
                    Received::Counted => {}
                    Received::Repeated => return Ok(Outcome::Dropped),
                    Received::TooMany => {
                        out.count(&self.meters.dropped_alerts, 1);
                        return Ok(Outcome::Dropped);
                    }
                }
            }
            Input::Action(action) => {
                if let Err(error) = incidents.handle(&action, incidents.now(), settings, unsent) {
                    return out.dead_letter(record, Reason::WrongShape, &error.to_string());
                }
            }
        }
        Ok(Outcome::Counted)
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        self.publish(out)?;
        self.write_changelog(out)
    }

    /// Returns the number of the commit; see [`COMMITS_KEY`].
    fn offset_metadata(&self, partition: &TopicPartition) -> String {
        let state = self.state.as_ref().filter(|_| partition.partition == PARTITION);
        state.map_or(String::new(), |state| state.commits.to_string())
    }

    fn committed(&mut self) -> Result<(), kafka::Error> {
        for incident in self.notifications.drain(..) {
            tracing::info!(
                incident = %incident.id,
                change = incident.change.as_str(),
                summary = incident.lead.summary,
                "incident published; people are notified"
            );
        }
        if let Some(State { incidents, .. }) = &self.state {
            self.meters.open_incidents.set(incidents.open_incidents() as f64);
            self.meters.open_episodes.set(incidents.open_episodes() as f64);
            self.meters.clock.set(incidents.now() as f64 / 1e6);
        }
        Ok(())
    }

    /// The batch changed the state in place, so it is restored from the changelog.
    fn rolled_back(&mut self) -> AfterRollback {
        self.state = None;
        self.unsent.clear();
        self.notifications.clear();
        AfterRollback::Restore
    }
}

/// Reads a number of commits. Anything else is 0.
fn number(text: &[u8]) -> u64 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn outgoing<'a>(
    topic: &'a str,
    partition: Option<i32>,
    key: &'a [u8],
    value: Option<&'a [u8]>,
) -> Outgoing<'a> {
    Outgoing { topic, partition, key, value, headers: &[] }
}
