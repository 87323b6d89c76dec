//! Generates request ids.

use std::sync::atomic::{AtomicU32, Ordering};

use event::ReceivedAt;
use uuid::{Builder, Uuid};

/// Generates version 7 UUIDs (RFC 9562 §5.7) without a system call for random bytes per request. A
/// request id need not be secret.
///
/// A counter makes the ids of one process unique. 42 random bits distinguish the ids of different
/// processes.
pub(crate) struct RequestIds {
    process: [u8; 6],
    next: AtomicU32,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        let mut process = [0; 6];
        // The last bytes of a version 4 UUID are random.
        process.copy_from_slice(&Uuid::new_v4().as_bytes()[10..]);
        Self { process, next: AtomicU32::new(0) }
    }

    /// Returns the next id: 32 hexadecimal digits in lower case.
    pub(crate) fn next(&self, now: ReceivedAt) -> String {
        let mut random = [0; 10];
        random[..6].copy_from_slice(&self.process);
        random[6..].copy_from_slice(&self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let millis = u64::try_from(now.micros() / 1000).unwrap_or(0);
        Builder::from_unix_timestamp_millis(millis, &random).into_uuid().simple().to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_of_one_millisecond_are_distinct_version_7_uuids() {
        let processes = [RequestIds::new(), RequestIds::new()];
        let ids: HashSet<String> = processes
            .iter()
            .flat_map(|ids| (0..1000).map(|_| ids.next(ReceivedAt(1_795_255_200_123_456))))
            .collect();
        assert_eq!(ids.len(), 2000);
        for id in ids {
            let uuid = Uuid::parse_str(&id).unwrap();
            assert_eq!(uuid.get_version_num(), 7);
            assert!(id.starts_with(&format!("{:012x}", 1_795_255_200_123_u64)), "{id}");
        }
    }
}
