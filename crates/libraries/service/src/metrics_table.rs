//! Every metric of Mailpulse: its name, kind, unit and HELP text. `docs/operations.md` explains
//! which ones to watch.

use metrics::Unit;

/// Bounds of requests, transactions and inserts, in seconds. They include the 2 s that we promise
/// from POST to readable row, and the 5 s that the least patient provider (Postal) waits.
const DURATIONS: &[f64] = &[
    0.001, 0.002, 0.004, 0.006, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0,
    30.0, 60.0,
];

/// Bounds of ages, in seconds. They include what we promise at half load: 2 s from POST to readable
/// row and 5 s from breach to page.
const AGES: &[f64] =
    &[0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];

/// Bounds of the time to restore a partition's state, in seconds.
const RESTORES: &[f64] =
    &[0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// The description of a metric.
pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub unit: Unit,
    pub help: &'static str,
}

/// The kind of a metric.
#[derive(Clone, Copy)]
pub enum MetricKind {
    Counter,
    Gauge,
    /// The upper bounds of its buckets.
    Histogram(&'static [f64]),
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Counter, unit: Unit::Count, help }
}

const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Gauge, unit, help }
}

const fn seconds(name: &'static str, bounds: &'static [f64], help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Histogram(bounds), unit: Unit::Seconds, help }
}

/// All metrics, by service. A test compares the table with the sources.
pub const METRICS: &[Metric] = &[
    // Every service.
    gauge(
        "mailpulse_build_info",
        Unit::Count,
        "Always 1. The labels name the service and its version.",
    ),
    gauge("mailpulse_up", Unit::Count, "Always 1 while the process runs."),
    // The stages that process records in Kafka transactions.
    counter(
        "mailpulse_processed_records_total",
        "Records processed in committed transactions, by component.",
    ),
    counter("mailpulse_transactions_total", "Committed Kafka transactions, by component."),
    counter(
        "mailpulse_unaligned_partitions_total",
        "Partitions that had more records but delivered none in time, so that the records of other \
         topics were processed before theirs, by component.",
    ),
    counter(
        "mailpulse_transaction_failures_total",
        "Kafka transactions that failed and were rolled back, by component.",
    ),
    seconds(
        "mailpulse_transaction_duration_seconds",
        DURATIONS,
        "Time from the beginning of a Kafka transaction to its commit.",
    ),
    seconds(
        "mailpulse_restore_duration_seconds",
        RESTORES,
        "Time to restore the state of a partition after its assignment.",
    ),
    gauge(
        "mailpulse_ledger_records",
        Unit::Count,
        "Records of the owned partitions by outcome, counted since the first record of each \
         partition. read = passed + dropped + counted + dead_letters; redriven are those of read \
         that an operator sent back.",
    ),
    gauge(
        "mailpulse_lag_records",
        Unit::Count,
        "Offsets between the last processed record and the end of the owned partitions, by topic.",
    ),
    gauge(
        "mailpulse_partition_held",
        Unit::Count,
        "1 while a partition is paused because too many records in a row, of several sources, \
         became dead letters, else 0.",
    ),
    counter(
        "mailpulse_dead_letters_total",
        "Dead letters written to Kafka, by stage and reason code.",
    ),
    gauge(
        "mailpulse_position_mismatch",
        Unit::Count,
        "1 while a partition is held because its committed offset contradicts the position in \
         mail.positions, by reason.",
    ),
    counter(
        "mailpulse_source_refusals_total",
        "Dead letters of a source, by component. The source is `(other)` for names beyond the first \
         thousand.",
    ),
    counter(
        "mailpulse_publisher_rebuilds_total",
        "Kafka producers that were replaced after a fatal error, by component.",
    ),
    // ingress
    counter(
        "mailpulse_ingress_requests_total",
        "Requests by provider, source and result. The code is `accepted` or the problem code of \
         the response.",
    ),
    seconds(
        "mailpulse_ingress_request_duration_seconds",
        DURATIONS,
        "Time from the head of an accepted request until its events are durable.",
    ),
    counter(
        "mailpulse_ingress_events_total",
        "Raw events of accepted requests, by provider, source and kind.",
    ),
    counter(
        "mailpulse_ingress_verified_requests_total",
        "Authentic requests by the position of the secret that verified them in the source's \
         `secrets`, or `none` for a source without secrets.",
    ),
    counter(
        "mailpulse_ingress_shadow_rejected_requests_total",
        "Requests that were accepted only because their source is in shadow mode, by the problem \
         code they would have got.",
    ),
    gauge(
        "mailpulse_ingress_time_behind_seconds",
        Unit::Seconds,
        "How far the time of the last time record was behind the clock: the age of the oldest request \
         that is not in Kafka.",
    ),
    gauge(
        "mailpulse_ingress_in_flight_records",
        Unit::Count,
        "Records sent to Kafka and not acknowledged yet.",
    ),
    gauge(
        "mailpulse_ingress_spooling",
        Unit::Count,
        "1 while new requests are written to the spool instead of Kafka, else 0.",
    ),
    gauge("mailpulse_ingress_spool_bytes", Unit::Bytes, "Size of the requests in the spool."),
    gauge(
        "mailpulse_ingress_spool_limit_bytes",
        Unit::Bytes,
        "Largest size of the spool, the setting `ingress.spool_bytes`.",
    ),
    gauge("mailpulse_ingress_spool_requests", Unit::Count, "Requests in the spool."),
    counter("mailpulse_ingress_spooled_requests_total", "Requests accepted into the spool."),
    gauge(
        "mailpulse_ingress_quarantined_items",
        Unit::Count,
        "Parts of the spool that could not be read and wait for an operator in its quarantine.",
    ),
    gauge(
        "mailpulse_ingress_quarantined_bytes",
        Unit::Bytes,
        "Size of the spool's quarantine. It counts towards the limit of the spool.",
    ),
    counter(
        "mailpulse_ingress_quarantined_total",
        "Parts of the spool that were moved to its quarantine, by cause: damaged, bad_headers or sealed.",
    ),
    counter(
        "mailpulse_ingress_over_limit_bodies_total",
        "Accepted bodies that became one dead letter because they exceed a limit, by provider, \
         source and limit.",
    ),
    gauge(
        "mailpulse_ingress_body_memory_bytes",
        Unit::Bytes,
        "Memory reserved for request bodies.",
    ),
    gauge(
        "mailpulse_ingress_body_memory_limit_bytes",
        Unit::Bytes,
        "Memory available for request bodies, the setting `ingress.body_memory_bytes`.",
    ),
    counter(
        "mailpulse_ingress_limit_hits_total",
        "Requests and connections that reached a limit of the ingress, by limit.",
    ),
    gauge(
        "mailpulse_ingress_replay_cache_oldest_token_seconds",
        Unit::Seconds,
        "Age of the oldest remembered signature token of Mailgun when the last one arrived. Older \
         tokens can be replayed.",
    ),
    gauge(
        "mailpulse_ingress_last_reload_successful",
        Unit::Count,
        "1 if what was read last is valid and in use, 0 if the former content stays in use, by part (sources \
         or tls_certificate).",
    ),
    gauge(
        "mailpulse_ingress_last_reload_success_timestamp_seconds",
        Unit::Seconds,
        "Time of the last valid read, as a unix timestamp, by part (sources or tls_certificate).",
    ),
    gauge(
        "mailpulse_ingress_tls_certificate_expiration_timestamp_seconds",
        Unit::Seconds,
        "Time at which the certificate of the ingress expires, or one of its chain if that is earlier, as a \
         unix timestamp.",
    ),
    counter(
        "mailpulse_ingress_tls_handshake_failures_total",
        "Connections that ended before their TLS handshake was complete, by reason.",
    ),
    // enrich
    counter(
        "mailpulse_enrich_clocks_ignored_total",
        "Time records that were ignored because the clock of their ingress is more than ten minutes \
         ahead of the others.",
    ),
    counter(
        "mailpulse_enrich_file_reads_total",
        "Reads of the files named in the settings, by setting and outcome (loaded or failed).",
    ),
    counter(
        "mailpulse_enrich_lookup_queries_total",
        "Queries of ClickHouse for look-up tables, by query and outcome (loaded or failed).",
    ),
    counter(
        "mailpulse_enrich_mx_lookups_total",
        "DNS lookups of mail exchangers, by outcome (found, not_found or failed).",
    ),
    counter(
        "mailpulse_enrich_mx_timeouts_total",
        "Domains whose mail exchangers were not known within `enrich.mx_timeout`.",
    ),
    // dedupe
    counter("mailpulse_dedupe_duplicates_total", "Events dropped as duplicates, by provider."),
    counter(
        "mailpulse_dedupe_beyond_horizon_total",
        "Events older than `dedupe.horizon`. They pass without a check for duplicates.",
    ),
    counter(
        "mailpulse_dedupe_automated_engagements_total",
        "Opens and clicks that dedupe recognised as automated by their timing, by reason.",
    ),
    // monitor
    counter(
        "mailpulse_monitor_late_events_total",
        "Events that came too late to count in the windows of a ring: 10s (windows of up to an hour), 5m \
         (windows of a day) or cohort.",
    ),
    counter(
        "mailpulse_monitor_corrections_without_count_total",
        "Corrections of counts that monitor does not have, for example because the scope was in (other) \
         when they were counted.",
    ),
    gauge("mailpulse_monitor_scopes", Unit::Count, "Scopes held in memory."),
    gauge("mailpulse_monitor_scope_bytes", Unit::Bytes, "Estimated memory of the scopes."),
    gauge(
        "mailpulse_monitor_sources_without_deliveries",
        Unit::Count,
        "Sources that have sent no delivered event for 24 hours, so that their rates are unknown.",
    ),
    counter(
        "mailpulse_monitor_scopes_limited_total",
        "Deltas that were counted for a scope with the name (other), because of \
         monitor.max_scopes_per_source or monitor.max_scope_bytes.",
    ),
    counter(
        "mailpulse_monitor_alert_transitions_total",
        "Alert transitions published, by rule and new state.",
    ),
    counter(
        "mailpulse_monitor_incident_changes_total",
        "Changes of incidents published, by change.",
    ),
    counter(
        "mailpulse_monitor_incident_alerts_dropped_total",
        "Alerts that belong to no incident, because monitor.incidents.max_all_episodes are open.",
    ),
    gauge(
        "mailpulse_monitor_open_incidents",
        Unit::Count,
        "Incidents that are open, whether people know of them or not.",
    ),
    gauge("mailpulse_monitor_open_episodes", Unit::Count, "Open episodes of all incidents."),
    gauge(
        "mailpulse_monitor_incidents_clock_seconds",
        Unit::Seconds,
        "The event time that the incidents stage has reached, in seconds since 1970: that of the slowest shard, at most 15 minutes behind the fastest one.",
    ),
    // archive
    counter("mailpulse_archive_rows_total", "Rows inserted into ClickHouse, by table."),
    counter(
        "mailpulse_archive_repeated_events_total",
        "Events older than dedupe remembers that were left out, because the table has them already.",
    ),
    counter("mailpulse_archive_inserts_total", "Successful inserts into ClickHouse, by table."),
    Metric {
        name: "mailpulse_archive_insert_bytes_total",
        kind: MetricKind::Counter,
        unit: Unit::Bytes,
        help: "Bytes of successful inserts, compressed as sent to ClickHouse, by table.",
    },
    seconds(
        "mailpulse_archive_insert_duration_seconds",
        DURATIONS,
        "Time of a successful insert into ClickHouse, by table.",
    ),
    seconds(
        "mailpulse_archive_event_age_seconds",
        AGES,
        "Age of an event, since its request arrived at the ingress, when its row can be read in \
         ClickHouse.",
    ),
    counter(
        "mailpulse_archive_retries_total",
        "Failed requests to ClickHouse that are retried, by reason.",
    ),
    counter(
        "mailpulse_archive_rejected_inserts_total",
        "Inserts that ClickHouse rejected because of one of their rows, by table.",
    ),
    gauge(
        "mailpulse_archive_partition_held",
        Unit::Count,
        "1 while a partition is not archived for this reason, else 0.",
    ),
    gauge("mailpulse_archive_buffer_bytes", Unit::Bytes, "Memory of rows not inserted yet."),
    // notify
    gauge(
        "mailpulse_notify_pending_transitions",
        Unit::Count,
        "Changes of incidents that at least one channel has not finished yet.",
    ),
    seconds(
        "mailpulse_notify_attempt_duration_seconds",
        DURATIONS,
        "Time of one delivery attempt, by channel.",
    ),
    counter(
        "mailpulse_notify_failed_attempts_total",
        "Failed delivery attempts, by channel and error code.",
    ),
    counter(
        "mailpulse_notify_deliveries_total",
        "Finished messages by channel and outcome (delivered, rejected or gave_up).",
    ),
    seconds(
        "mailpulse_notify_alert_age_seconds",
        AGES,
        "Age of a change that notifies people when the channel accepted it, by channel.",
    ),
    gauge(
        "mailpulse_notify_circuit_open",
        Unit::Count,
        "1 while a channel makes no attempts after failures in a row, else 0.",
    ),
    gauge(
        "mailpulse_notify_open_incidents",
        Unit::Count,
        "Open incidents that an Alertmanager channel sends again and again.",
    ),
    gauge(
        "mailpulse_notify_resend_age_seconds",
        Unit::Seconds,
        "Time since an Alertmanager channel last sent all open incidents; 0 if none is open.",
    ),
    gauge(
        "mailpulse_notify_held_back",
        Unit::Count,
        "Incidents that wait for the end of the channel's quiet hours.",
    ),
    counter(
        "mailpulse_notify_acknowledgement_requests_total",
        "Webhooks of PagerDuty, by outcome: acknowledged, ignored for a reason, or a reason to refuse them.",
    ),
    counter(
        "mailpulse_notify_explanations_total",
        "Questions to ClickHouse for the reasons of an incident, by outcome (found or unavailable).",
    ),
    // forward
    gauge(
        "mailpulse_forward_pending_events",
        Unit::Count,
        "Events that match the filter of a forward and are neither delivered nor dead letters yet.",
    ),
    seconds(
        "mailpulse_forward_attempt_duration_seconds",
        DURATIONS,
        "Time of one attempt to send a batch, by forward.",
    ),
    counter(
        "mailpulse_forward_failed_attempts_total",
        "Failed attempts to send a batch, by forward and error code.",
    ),
    counter(
        "mailpulse_forward_batches_total",
        "Finished batches by forward and outcome (delivered, rejected or gave_up).",
    ),
    counter(
        "mailpulse_forward_events_total",
        "Events of finished batches by forward and outcome (delivered, rejected or gave_up).",
    ),
    seconds(
        "mailpulse_forward_event_age_seconds",
        AGES,
        "Time from the receipt of an event to the acceptance by the receiver, by forward.",
    ),
    gauge(
        "mailpulse_forward_circuit_open",
        Unit::Count,
        "1 while a forward makes no attempts after failures in a row, else 0.",
    ),
    // console
    counter("mailpulse_console_requests_total", "Answered requests, by HTTP status."),
    counter("mailpulse_console_wrong_tokens_total", "Requests and logins with a wrong token."),
    counter(
        "mailpulse_console_closed_connections_total",
        "Connections that were closed because of a limit, by limit.",
    ),
    seconds(
        "mailpulse_console_query_duration_seconds",
        DURATIONS,
        "Time of a query to ClickHouse with the time that it waits for its turn, by query.",
    ),
    counter("mailpulse_console_failed_queries_total", "Queries without an answer, by code."),
    gauge("mailpulse_console_live_clients", Unit::Count, "Browsers that receive live numbers."),
    // canary
    counter(
        "mailpulse_canary_attempts_total",
        "Test events, by the last step that they reached; row is the end.",
    ),
    gauge(
        "mailpulse_canary_last_success_timestamp_seconds",
        Unit::Seconds,
        "The unix time at which a test event was last found as a row.",
    ),
    gauge(
        "mailpulse_canary_step_seconds",
        Unit::Seconds,
        "The time from the request until the last test event reached a step.",
    ),
    // automate
    counter("mailpulse_automate_intents_total", "What rules wanted to do, by rule."),
    counter("mailpulse_automate_actions_total", "Actions that were decided, by rule and type."),
    counter(
        "mailpulse_automate_refused_total",
        "Intents that became no actions, by rule and reason: limit, campaign_limit, parent (a follow-up of a refused intent) or rule_gone.",
    ),
    counter(
        "mailpulse_automate_crowded_out_total",
        "Rules that did not act because eight others with a higher priority acted on the event.",
    ),
    counter(
        "mailpulse_automate_follow_ups_total",
        "Follow-ups by outcome: scheduled, fired, answered, erased, or too_many (32 others wait for the recipient).",
    ),
    gauge("mailpulse_automate_follow_ups_waiting", Unit::Count, "Follow-ups that are not due."),
    gauge(
        "mailpulse_automate_recipients",
        Unit::Count,
        "Recipients of whom something is remembered.",
    ),
    gauge(
        "mailpulse_automate_clock_seconds",
        Unit::Seconds,
        "The latest time record, in Unix time. If it stands still, no follow-up comes.",
    ),
    gauge(
        "mailpulse_automate_pending_actions",
        Unit::Count,
        "Actions that were read and neither delivered nor given up.",
    ),
    counter(
        "mailpulse_automate_mails_refused_total",
        "Mails that were not sent because the recipient is in mail.suppressions.",
    ),
    seconds(
        "mailpulse_automate_attempt_duration_seconds",
        DURATIONS,
        "Time of an attempt to deliver an action, by type and result: delivered, rejected, unavailable, unreachable or address_refused.",
    ),
    gauge(
        "mailpulse_automate_circuit_open",
        Unit::Count,
        "1 while no attempts are made for an action of a rule after failures in a row, else 0.",
    ),
    // suppress
    gauge("mailpulse_suppress_entries", Unit::Count, "Records of mail.suppressions in memory."),
    gauge(
        "mailpulse_suppress_provisional_entries",
        Unit::Count,
        "Entries of hard bounces that are provisional, because an incident about their mailbox provider is open.",
    ),
    gauge(
        "mailpulse_suppress_follow_age_seconds",
        Unit::Seconds,
        "Time since Kafka last answered the thread that reads mail.suppressions. Lookups know nothing newer.",
    ),
    counter(
        "mailpulse_suppress_changes_total",
        "Entries that events have changed, by reason and new state (suppressed or lifted).",
    ),
    seconds(
        "mailpulse_suppress_decision_age_seconds",
        AGES,
        "Age of an event that changes an entry, since its request arrived at the ingress, when the change is committed.",
    ),
    counter("mailpulse_suppress_requests_total", "Answered requests, by route and HTTP status."),
    seconds(
        "mailpulse_suppress_request_duration_seconds",
        DURATIONS,
        "Time of a request, with the time that its body takes, by route.",
    ),
    counter("mailpulse_suppress_wrong_tokens_total", "Requests with a wrong token."),
    counter(
        "mailpulse_suppress_edits_total",
        "Additions and lifts by operators over HTTP, by command and result (done or incomplete).",
    ),
    gauge(
        "mailpulse_erasure_age_seconds",
        Unit::Seconds,
        "Time since it was certain that every tombstone of mail.erased is known. Above 10 s, archive waits, and enrich and dedupe wait up to 10 s before each batch.",
    ),
    gauge(
        "mailpulse_erasure_recipients",
        Unit::Count,
        "Erased recipients that the service knows of.",
    ),
];

#[cfg(test)]
#[path = "metrics_table_tests.rs"]
mod tests;
