//! The metrics of `archive`. `service` holds their help texts.

use std::time::Instant;

use kafka::TopicPartition;

use crate::tables::Table;

/// Counts a successful insert.
pub(crate) fn inserted(table: Table, rows: usize, bytes: usize, started: Instant) {
    let table = table.name();
    metrics::counter!("mailpulse_archive_rows_total", "table" => table).increment(rows as u64);
    metrics::counter!("mailpulse_archive_inserts_total", "table" => table).increment(1);
    metrics::counter!("mailpulse_archive_insert_bytes_total", "table" => table)
        .increment(bytes as u64);
    metrics::histogram!("mailpulse_archive_insert_duration_seconds", "table" => table)
        .record(started.elapsed().as_secs_f64());
}

/// Counts events that dedupe could not judge and that the table has already.
pub(crate) fn repeated(events: usize) {
    metrics::counter!("mailpulse_archive_repeated_events_total").increment(events as u64);
}

/// Records how old events are when they become readable in ClickHouse, counted from their receipt
/// by the ingress. `received` is a sample of the times of receipt; each represents an equal part
/// of `rows`. Times are UTC microseconds.
pub(crate) fn event_age(received: &[i64], rows: usize, now: i64) {
    let histogram = metrics::histogram!("mailpulse_archive_event_age_seconds");
    for &received_at in received {
        let age = now.saturating_sub(received_at).max(0) as f64 / 1e6;
        histogram.record_many(age, rows / received.len());
    }
}

/// Counts an operation that failed and will be retried.
pub(crate) fn retried(reason: &'static str) {
    metrics::counter!("mailpulse_archive_retries_total", "reason" => reason).increment(1);
}

/// Counts an insert that ClickHouse rejected because of the content of a row.
pub(crate) fn insert_rejected(table: Table) {
    metrics::counter!("mailpulse_archive_rejected_inserts_total", "table" => table.name())
        .increment(1);
}

/// Records whether a partition is held for this reason.
pub(crate) fn partition_held(partition: &TopicPartition, reason: &'static str, is_held: bool) {
    metrics::gauge!("mailpulse_archive_partition_held",
        "topic" => partition.topic.clone(),
        "partition" => partition.partition.to_string(),
        "reason" => reason)
    .set(f64::from(u8::from(is_held)));
}

/// Records the memory of all rows that are not inserted yet.
pub(crate) fn buffer_bytes(bytes: usize) {
    metrics::gauge!("mailpulse_archive_buffer_bytes").set(bytes as f64);
}
