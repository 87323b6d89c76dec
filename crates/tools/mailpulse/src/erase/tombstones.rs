//! The tombstones in `mail.erased`.

use std::collections::BTreeSet;
use std::time::Duration;

use erasure::Tombstone;
use privacy::ErasureKey;

use super::target::Target;
use crate::installation::{Installation, note};

/// How long Kafka has for the whole topic.
const KAFKA_TIMEOUT: Duration = Duration::from_secs(120);
/// Distinct recipients are read in this many parts, because all of them may not fit into memory.
const PARTS: u32 = 64;

/// Writes a tombstone for each target. They are durable when this returns.
///
/// # Errors
/// If the topic has tombstones of another key: with both in it, no service could start.
pub(super) fn publish(
    installation: &Installation,
    key: &ErasureKey,
    targets: &[Target],
) -> anyhow::Result<()> {
    erasure::all(&installation.connection, &installation.topics, key, KAFKA_TIMEOUT)?;
    let value = Tombstone { key_id: key.id(), at: crate::now().as_microsecond() };
    let value = serde_json::to_vec(&value)?;
    let records: Vec<_> =
        targets.iter().map(|target| (target.digest.to_string(), value.clone())).collect();
    installation.publish(&installation.topics.erased, &[], &records)?;
    for target in targets {
        note(&format!("tombstone {} is written to {}", target.digest, installation.topics.erased))?;
    }
    Ok(())
}

/// Returns the erased recipients that the tables name as a recipient.
pub(super) fn stored_targets(
    installation: &Installation,
    key: &ErasureKey,
) -> anyhow::Result<Vec<Target>> {
    let digests = erasure::all(&installation.connection, &installation.topics, key, KAFKA_TIMEOUT)?;
    note(&format!("{} recipients were erased before", digests.len()))?;
    let mut found = BTreeSet::new();
    for part in 0..PARTS {
        let sql = format!(
            "SELECT DISTINCT address FROM ( \
             SELECT recipient AS address FROM events UNION ALL SELECT recipient FROM message_life \
             UNION ALL SELECT recipient FROM actions UNION ALL SELECT recipient FROM engagement_histories \
             UNION ALL SELECT recipient FROM best_times UNION ALL SELECT key FROM dead_letters) \
             WHERE address != '' AND cityHash64(address) % {PARTS} = {part}"
        );
        let addresses: Vec<String> = installation.database.long_rows(&sql)?;
        let targets = addresses.iter().filter_map(|address| Target::new(key, address));
        let targets = targets.filter(|target| digests.contains(&target.digest));
        found.extend(targets.map(|target| target.address));
    }
    Ok(found.iter().filter_map(|address| Target::new(key, address)).collect())
}
