//! What is known about a recording: how it was made, what it contains, and what must follow from it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::mail::{UNDATED_KIND, UNDATED_SOURCE};
use serde_json::Value;

use super::home::Addresses;
use super::receiver::Delivery;

/// The file `expected.json`. Its keys are the format of released recordings, so they do not change.
/// Times are UTC microseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Expected {
    /// The commit of the recorded release.
    pub(crate) release: String,
    pub(crate) recorded_at: i64,
    /// The addresses in the settings, by the name of what listens there.
    pub(crate) addresses: Addresses,
    /// The environment variables that the settings refer to.
    pub(crate) environment: BTreeMap<String, String>,
    /// `MAILPULSE__SERVICE__INSTANCE` of each service, which is part of its transactional ids.
    pub(crate) instances: BTreeMap<String, String>,
    pub(crate) posted: Counts,
    /// The part of it that was posted while Kafka was stopped, and is in the spool.
    pub(crate) spooled: Spooled,
    /// Rows of the table `events` by kind, when everything is processed.
    pub(crate) kinds: BTreeMap<String, u64>,
    /// The same rows by `provider/source`.
    pub(crate) sources: BTreeMap<String, u64>,
    /// Rows of each table at the time of the recording.
    pub(crate) tables: BTreeMap<String, u64>,
    /// The rows of the table `schema_migrations`.
    pub(crate) migrations: Vec<Value>,
    /// The state of Kafka when all its clients had been killed.
    pub(crate) cluster: Cluster,
    /// The open episodes, as last published.
    pub(crate) episodes: Vec<Value>,
    /// What was delivered to the channels before the recording.
    pub(crate) deliveries: Vec<Delivery>,
    /// `[[monitor.rule]]` of the settings.
    pub(crate) rules: Value,
    /// The event time of closing events, which close every window.
    pub(crate) closing_at: i64,
    /// By how much the settings let events be out of order.
    pub(crate) out_of_orderness: i64,
    /// Requests whose events are archived, and whose signatures do not expire.
    pub(crate) repeats: Vec<Repeat>,
}

impl Expected {
    /// Returns the number of events in the repeated requests.
    pub(crate) fn repeated_events(&self) -> u64 {
        self.repeats.iter().map(|repeat| repeat.events).sum()
    }
}

/// Numbers of posted requests and events.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Requests answered 200.
    pub(crate) requests: u64,
    /// Requests rejected for a wrong signature.
    #[serde(rename = "refused")]
    pub(crate) rejected: u64,
    /// Accepted events, duplicates included.
    pub(crate) accepted: u64,
    /// Accepted events that must become rows.
    pub(crate) distinct: u64,
    /// Accepted events that are duplicates.
    pub(crate) duplicates: u64,
    /// Accepted events that `enrich` cannot read.
    pub(crate) unreadable: u64,
    /// Bodies that the ingress could not split. They are not part of the accepted events.
    pub(crate) malformed: u64,
}

impl Expected {
    /// Returns what this release must make of the recorded mail. An event without a time was a dead
    /// letter; now it is a row. The release of the recording has read half of them.
    pub(crate) fn with_undated_rows(mut self) -> Self {
        let rows = self.posted.unreadable / 2;
        self.posted.unreadable -= rows;
        self.posted.distinct += rows;
        *self.kinds.entry(UNDATED_KIND.to_string()).or_default() += rows;
        let (provider, source) = UNDATED_SOURCE;
        *self.sources.entry(format!("{provider}/{source}")).or_default() += rows;
        self
    }
}

/// The content of the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spooled {
    pub(crate) requests: u64,
    pub(crate) accepted: u64,
    pub(crate) malformed: u64,
    /// Bytes on the disk.
    pub(crate) bytes: u64,
}

/// The state of Kafka, as `Inspect.java` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cluster {
    pub(crate) topics: BTreeMap<String, Topic>,
    /// The committed offsets of each group by `topic/partition`.
    pub(crate) groups: BTreeMap<String, BTreeMap<String, Committed>>,
    /// The state of each transactional id.
    pub(crate) transactions: BTreeMap<String, String>,
    /// The producer id and epoch of each transactional id. The first recording has none.
    #[serde(default)]
    pub(crate) producers: BTreeMap<String, String>,
    /// The names in the records of each topic. The first recording has none.
    #[serde(default)]
    pub(crate) records: BTreeMap<String, RecordNames>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Topic {
    /// Settings that differ from the broker's defaults.
    pub(crate) configs: BTreeMap<String, String>,
    /// The next offset of each partition.
    pub(crate) ends: Vec<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) metadata: String,
}

/// The names that occur in the records of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordNames {
    /// The names of all headers.
    pub(crate) headers: BTreeSet<String>,
    /// In a changelog, the first part of each key with the fields of its JSON values, or with the
    /// first byte of its binary values. The fields of open episodes are names of rules. In other topics
    /// it is empty.
    pub(crate) values: BTreeMap<String, BTreeSet<String>>,
}

/// A request that is posted again after the upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Repeat {
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    /// In base64.
    pub(crate) body: String,
    /// The number of events in it.
    pub(crate) events: u64,
}
