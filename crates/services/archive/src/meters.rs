//! The archive's metrics.

use std::time::Instant;

use record::Reason;
use kafka::TopicPartition;

use crate::tables::Table;

/// An insert that succeeded.
pub(crate) fn inserted(table: Table, rows: usize, bytes: usize, started: Instant) {
    let table = table.name();
    metrics::counter!("mailpulse_archive_rows_total", "table" => table).increment(rows as u64);
    metrics::counter!("mailpulse_archive_inserts_total", "table" => table).increment(1);
    metrics::counter!("mailpulse_archive_bytes_total", "table" => table).increment(bytes as u64);
    metrics::histogram!("mailpulse_archive_insert_seconds", "table" => table)
        .record(started.elapsed().as_secs_f64());
}

/// How old events are when they can be read in ClickHouse: from receipt by the ingress. `received`
/// stands for all `rows`.
pub(crate) fn freshness(received: &[i64], rows: usize, now: i64) {
    let histogram = metrics::histogram!("mailpulse_archive_freshness_seconds");
    for &received_at in received {
        let age = now.saturating_sub(received_at).max(0) as f64 / 1e6;
        histogram.record_many(age, rows / received.len());
    }
}

/// A try that failed and will be made again.
pub(crate) fn retried(reason: &'static str) {
    metrics::counter!("mailpulse_archive_retries_total", "reason" => reason).increment(1);
}

/// A batch in which ClickHouse refuses a row.
pub(crate) fn refused(table: Table) {
    metrics::counter!("mailpulse_archive_refused_total", "table" => table.name()).increment(1);
}

/// A record in `mail.dead-letters`, durably.
pub(crate) fn dead_letter(stage: &'static str, reason: Reason) {
    metrics::counter!("mailpulse_dead_letters_total", "stage" => stage, "reason" => reason.code())
        .increment(1);
}

/// Whether a partition waits for this reason.
pub(crate) fn held(partition: &TopicPartition, reason: &'static str, is_held: bool) {
    metrics::gauge!("mailpulse_archive_held",
        "topic" => partition.topic.clone(),
        "partition" => partition.partition.to_string(),
        "reason" => reason)
    .set(f64::from(u8::from(is_held)));
}

/// Bytes of rows in memory.
pub(crate) fn memory(bytes: usize) {
    metrics::gauge!("mailpulse_archive_memory_bytes").set(bytes as f64);
}
