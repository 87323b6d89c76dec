//! Dead letters of what receivers did not accept.

use std::time::Duration;

use kafka::{DeadLetterWriter, FailedRecord};
use service::Shutdown;

/// The pause after a failed attempt to write dead letters.
const DEAD_LETTER_RETRY: Duration = Duration::from_secs(1);

/// Writes dead letters and retries until all of them are durable. Returns false if the shutdown was requested
/// before that; the next process then reads the records again.
pub async fn write_dead_letters(
    writer: &DeadLetterWriter,
    failed: &[FailedRecord],
    shutdown: &Shutdown,
) -> bool {
    let write = async {
        let mut left = failed;
        while let Some(first) = left.first() {
            match writer.write(left).await {
                Ok(written) => left = left.get(written..).unwrap_or_default(),
                Err(error) => {
                    let origin = first.record.origin();
                    tracing::error!(%error, %origin, "cannot write a dead letter; retrying");
                    tokio::time::sleep(DEAD_LETTER_RETRY).await;
                }
            }
        }
    };
    // While Kafka is away, one attempt takes longer than a process may take to stop.
    tokio::select! {
        () = write => true,
        () = shutdown.wait() => false,
    }
}
