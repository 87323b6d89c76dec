//! What was measured. docs/benchmarks.md has the same figures; a test compares them.

/// Events per CPU-second of each process, and sizes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figures {
    /// Requests of one event, per CPU-second of the ingress.
    pub(super) ingress_one: f64,
    /// Events in requests of fifty, per CPU-second of the ingress.
    pub(super) ingress_fifty: f64,
    pub(super) enrich: f64,
    pub(super) dedupe: f64,
    /// Fold and rate together.
    pub(super) monitor: f64,
    /// Rows per CPU-second of archive.
    pub(super) archive: f64,
    /// Rows per CPU-second of ClickHouse, with all tables, in large inserts.
    pub(super) clickhouse_rows: f64,
    /// CPU-seconds of ClickHouse for an insert, besides its rows.
    pub(super) insert_seconds: f64,
    /// Events per second of everything together, with Kafka, ClickHouse and the load generator.
    pub(super) together: f64,
    /// The cores on which `together` was measured.
    pub(super) together_cores: f64,
    /// GB of a million events in all topics, one copy, before compression.
    pub(super) kafka_gb: f64,
    /// GB of a million events in all tables, one copy, before compression.
    pub(super) clickhouse_gb: f64,
}

pub(super) const MEASURED: Figures = Figures {
    ingress_one: 18_100.0,
    ingress_fifty: 155_000.0,
    enrich: 106_000.0,
    dedupe: 88_000.0,
    monitor: 193_000.0,
    archive: 161_000.0,
    clickhouse_rows: 74_500.0,
    insert_seconds: 0.08,
    together: 11_000.0,
    together_cores: 2.0,
    kafka_gb: 4.24,
    clickhouse_gb: 1.34,
};

impl Figures {
    /// Returns the CPU-seconds of the ingress for one event: a part for each request, and one for each event.
    pub(super) fn ingress(&self, events_per_request: u32) -> f64 {
        let (one, fifty) = (1.0 / self.ingress_one, 50.0 / self.ingress_fifty);
        let per_event = (fifty - one) / 49.0;
        let per_request = one - per_event;
        per_request / f64::from(events_per_request) + per_event
    }

    /// Returns the CPU-seconds of all processes for one event.
    pub(super) fn everything(&self) -> f64 {
        self.together_cores / self.together
    }
}
