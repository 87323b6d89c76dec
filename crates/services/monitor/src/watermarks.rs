//! How far event time has come in each event partition. Fold publishes it, rate reads it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Whether more records are expected from an event partition.
///
/// This is the only place where the monitor depends on real time. It decides when windows close, and
/// never what they contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Activity {
    /// Records arrive or may be unread. Event time waits for this partition.
    #[serde(rename = "busy")]
    Active,
    /// The partition has had no unread records for a while. Either no events happen, or the service
    /// that writes to it has just crashed. Event time runs ahead of this partition, but only so far
    /// that its next events are not late.
    #[serde(rename = "quiet")]
    Idle,
    /// The partition has been idle for so long that event time ignores it.
    #[serde(rename = "gone")]
    Gone,
}

/// How far event time has come in one event partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartitionProgress {
    /// The time of the newest event minus the out-of-orderness, in UTC microseconds. `None` before
    /// the first event.
    pub(crate) watermark: Option<i64>,
    #[serde(rename = "presence")]
    pub(crate) activity: Activity,
}

impl Default for PartitionProgress {
    fn default() -> Self {
        Self { watermark: None, activity: Activity::Active }
    }
}

/// The progress of event partitions, by partition number. A member of fold sends it to every
/// partition of `mail.panes` as the value of a record with the key [`Watermarks::KEY`].
///
/// All entries of one record were taken at the same moment. A shard therefore never acts on the new
/// watermark of one partition before it has that of another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Watermarks(pub(crate) BTreeMap<i32, PartitionProgress>);

impl Watermarks {
    /// Differs from the key of every scope, which contains a slash.
    pub(crate) const KEY: &[u8] = b"watermarks";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members of different releases exchange this form during an upgrade.
    #[test]
    fn the_json_form_does_not_change() {
        let progress = |watermark, activity| PartitionProgress { watermark, activity };
        let watermarks = Watermarks(BTreeMap::from([
            (0, progress(Some(5), Activity::Active)),
            (1, progress(None, Activity::Idle)),
            (2, progress(Some(-7), Activity::Gone)),
        ]));
        let json = r#"{"0":{"watermark":5,"presence":"busy"},"1":{"watermark":null,"presence":"quiet"},"2":{"watermark":-7,"presence":"gone"}}"#;
        assert_eq!(serde_json::to_string(&watermarks).unwrap(), json);
        assert_eq!(serde_json::from_str::<Watermarks>(json).unwrap(), watermarks);
    }
}
