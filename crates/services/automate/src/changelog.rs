//! Changelogs that notice when they have lost records.
//!
//! With each change of a partition's state, its number of commits is written to the changelog and as the metadata of
//! the committed offset. If the changelog has a smaller number than the offset, records are missing, and the stage
//! would act again on what it has forgotten.

use std::collections::BTreeMap;

use kafka::{Outgoing, Output, Restore};

/// The key of the number of commits. No other key has neither slash.
const COMMITS_KEY: &[u8] = b"commits";

/// The changelog lost records, or it does not belong to the committed offsets.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{topic}` partition {partition} contains {commits} of {expected} commits, so rules would act again on people; \
     restore the topic, or accept this by resetting the offsets of the group of {stage}"
)]
struct IncompleteChangelog {
    topic: String,
    partition: i32,
    commits: u64,
    expected: u64,
    stage: &'static str,
}

/// The records that a batch adds to one partition of a changelog.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    commits: u64,
    changed: BTreeMap<String, Option<Vec<u8>>>,
}

impl Changes {
    /// Reads the changelog of a partition. `apply` gets keys and values; a missing value is a deletion.
    pub(crate) fn restore(
        restore: &Restore<'_>,
        (topic, partition): (&str, i32),
        stage: record::Stage,
        mut apply: impl FnMut(&str, Option<&[u8]>) -> Result<(), kafka::Error>,
    ) -> Result<Self, kafka::Error> {
        let mut commits = 0;
        let restored = restore.changelog(topic, partition, None, |key, value| {
            if key == COMMITS_KEY {
                commits = number(value.unwrap_or_default());
                return Ok(());
            }
            apply(std::str::from_utf8(key).map_err(kafka::Error::state)?, value)
        })?;
        let expected = number(restore.metadata().as_bytes());
        if commits < expected {
            let (topic, stage) = (topic.to_owned(), stage.code());
            let error = IncompleteChangelog { topic, partition, commits, expected, stage };
            return Err(kafka::Error::state(error));
        }
        tracing::info!(
            stage = stage.code(),
            partition,
            records = restored.records,
            commits,
            "state restored from changelog"
        );
        Ok(Self { commits, changed: BTreeMap::new() })
    }

    /// Notes that a key has a new value, or that it is deleted.
    pub(crate) fn set(&mut self, key: String, value: Option<Vec<u8>>) {
        self.changed.insert(key, value);
    }

    /// Writes the changes of a batch.
    pub(crate) fn write(
        &mut self,
        (topic, partition): (&str, i32),
        out: &mut Output<'_>,
    ) -> Result<(), kafka::Error> {
        if self.changed.is_empty() {
            return Ok(());
        }
        let send = |out: &mut Output<'_>, key: &[u8], value: Option<&[u8]>| {
            out.send(Outgoing { topic, partition: Some(partition), key, value, headers: &[] })
        };
        for (key, value) in std::mem::take(&mut self.changed) {
            send(out, key.as_bytes(), value.as_deref())?;
        }
        self.commits += 1;
        send(out, COMMITS_KEY, Some(self.metadata().as_bytes()))
    }

    /// Returns what is committed with the offset.
    pub(crate) fn metadata(&self) -> String {
        self.commits.to_string()
    }
}

/// Reads a number of commits. Anything else is 0.
fn number(text: &[u8]) -> u64 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}
