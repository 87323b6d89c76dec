//! Waits until archive has stored everything that it may have read without knowing the tombstones.

use std::time::{Duration, Instant};

use archive::tables::Table;
use kafka::inspect::{Behind, after_last_records, first_behind};

use crate::installation::{Installation, note};

const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How long Kafka has to answer.
const KAFKA_TIMEOUT: Duration = Duration::from_secs(60);

/// Archive has not stored all records in time.
#[derive(Debug, thiserror::Error)]
#[error(
    "archive has not stored partition {partition} of {topic} up to offset {wanted} (it is at {found}); see that archive \
     runs and is ready, and run the command again. The recipient's new events are already erased on their way"
)]
struct ArchiveBehind {
    topic: String,
    partition: usize,
    wanted: i64,
    found: i64,
}

/// Returns when every row that archive inserts from now on is made with the tombstones, and all earlier ones are stored.
///
/// Archive makes no row while its knowledge of the tombstones is older than [`erasure::MAX_AGE`]. So rows that were made
/// without them have smaller offsets than the ends that are read here.
///
/// # Errors
/// If Kafka cannot be reached, or archive does not get there in time.
pub(super) fn wait(installation: &Installation, wait: Duration) -> anyhow::Result<()> {
    std::thread::sleep(erasure::MAX_AGE + Duration::from_secs(1));
    let until = Instant::now() + wait;
    let group = installation.topics.group(record::Stage::Archive.code());
    let counts = kafka::topics::partition_counts(&installation.connection)?;
    for table in Table::ALL {
        let topic = table.topic(&installation.topics);
        let Some(&partitions) = counts.get(topic) else { continue };
        let connection = &installation.connection;
        let ends = after_last_records(connection, topic, partitions, KAFKA_TIMEOUT)?;
        while let Some(behind) = first_behind(connection, &group, topic, &ends)? {
            if Instant::now() >= until {
                let Behind { partition, wanted, found } = behind;
                let topic = topic.to_owned();
                return Err(ArchiveBehind { topic, partition, wanted, found }.into());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
    note("archive knows the tombstones, and has stored everything from before")?;
    Ok(())
}
