//! How far each stage is behind.

use std::collections::HashMap;

use archive::tables::Table;
use kafka::{inspect, topics};
use record::{Stage, Topics};
use serde::Deserialize;

use crate::installation::Installation;

/// The lag of one consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lag {
    /// The stage, or the stage and the name of a `[[forward]]`.
    pub(super) name: String,
    /// Records that were not read; `None` if the group has committed nothing, or if it is not known.
    pub(super) records: Option<i64>,
}

pub(super) struct Lags {
    /// The groups with the topics that they read.
    groups: Vec<(String, Vec<String>)>,
    pub(super) lags: Vec<Lag>,
    /// Why they are not known.
    pub(super) problem: Option<String>,
}

/// The key of a `[[forward]]` that its consumer group is named after.
#[derive(Deserialize)]
struct ForwardName {
    name: String,
}

impl Lags {
    /// # Errors
    /// If `[[forward]]` is invalid.
    pub(super) fn new(installation: &Installation) -> anyhow::Result<Self> {
        let forwards: Vec<ForwardName> = installation.settings.list("forward")?;
        let mut groups = groups(&installation.topics);
        groups.extend(forwards.into_iter().map(|forward| {
            let name = format!("{}-{}", Stage::Forward.code(), forward.name);
            (name, vec![installation.topics.events.clone()])
        }));
        Ok(Self { groups, lags: Vec::new(), problem: None })
    }

    /// Asks Kafka for the offsets. If it does not answer, the last lags stay.
    pub(super) fn refresh(&mut self, installation: &Installation) {
        match self.compute(installation) {
            Ok(lags) => (self.lags, self.problem) = (lags, None),
            Err(error) => self.problem = Some(error.to_string()),
        }
    }

    fn compute(&self, installation: &Installation) -> Result<Vec<Lag>, kafka::Error> {
        let connection = &installation.connection;
        let counts = topics::partition_counts(connection)?;
        let mut ends: HashMap<&str, Vec<(i64, i64)>> = HashMap::new();
        let mut lags = Vec::new();
        for (name, topics) in &self.groups {
            let group = installation.topics.group(name);
            let mut records = None;
            for topic in topics {
                let Some(&partitions) = counts.get(topic) else { continue };
                if !ends.contains_key(topic.as_str()) {
                    ends.insert(topic, topics::watermarks(connection, topic, partitions)?);
                }
                let committed = inspect::committed_offsets(connection, &group, topic, partitions)?;
                let is_raw = installation.topics.all_raw().any(|raw| raw == topic);
                for (&(first, end), committed) in ends[topic.as_str()].iter().zip(committed) {
                    let Some((offset, _)) = committed else { continue };
                    *records.get_or_insert(0) += behind(first, end, offset, is_raw);
                }
            }
            lags.push(Lag { name: name.clone(), records });
        }
        Ok(lags)
    }
}

/// Returns the records of a partition that were not read. The last one of a partition that is written in transactions
/// is the marker of a transaction.
fn behind(first: i64, end: i64, committed: i64, is_raw: bool) -> i64 {
    let markers = i64::from(!is_raw && end > first);
    (end - markers - committed.max(first)).max(0)
}

/// Returns the groups of the stages, with the topics that they read.
fn groups(topics: &Topics) -> Vec<(String, Vec<String>)> {
    let raw: Vec<String> = topics.all_raw().map(str::to_owned).collect();
    let archived = Table::ALL.iter().map(|table| table.topic(topics).to_owned()).collect();
    let events = || vec![topics.events.clone()];
    [
        (Stage::Enrich, raw),
        (Stage::Dedupe, vec![topics.enriched.clone()]),
        (Stage::MonitorFold, events()),
        (Stage::MonitorRate, vec![topics.panes.clone()]),
        (Stage::Incidents, vec![topics.alerts.clone()]),
        (Stage::Archive, archived),
        (Stage::Notify, vec![topics.incidents.clone()]),
        (Stage::Suppress, events()),
        (Stage::AutomateMatch, events()),
        (Stage::AutomateLimit, vec![topics.intents.clone()]),
        (Stage::AutomateDeliver, vec![topics.actions.clone()]),
    ]
    .map(|(stage, topics)| (stage.code().to_owned(), topics))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_of_the_last_transaction_is_no_lag() {
        assert_eq!(behind(0, 0, 0, false), 0);
        assert_eq!(behind(0, 11, 10, false), 0, "a record and a marker");
        assert_eq!(behind(0, 11, 7, false), 3);
        assert_eq!(behind(0, 11, 10, true), 1, "raw topics are written without transactions");
        assert_eq!(behind(5, 11, 0, true), 6, "records that expired are no lag");
    }
}
