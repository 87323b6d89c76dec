-- Transitions of episodes: the values of mail.alerts.
CREATE TABLE IF NOT EXISTS alerts
(
    -- One episode from firing to resolved, 32 hexadecimal digits.
    episode_id       String,
    rule             LowCardinality(String),
    -- source, mailbox_provider or campaign.
    scope            LowCardinality(String),
    provider         LowCardinality(String),
    source           LowCardinality(String),
    mailbox_provider LowCardinality(String),
    campaign         LowCardinality(String),
    severity         LowCardinality(String),
    state            LowCardinality(String),
    metric           LowCardinality(String),
    width_seconds    UInt32,
    -- NULL when resolved with nothing to divide by.
    value            Nullable(Float64),
    threshold        Float64,
    -- The denominator of value.
    volume           UInt64,
    -- Event time.
    started_at       DateTime64(6, 'UTC'),
    at               DateTime64(6, 'UTC'),
    runbook          String,
    summary          String,
    kafka_partition  UInt16,
    kafka_offset     UInt64,
    archived_at      DateTime64(3, 'UTC') DEFAULT now64(3),
    INDEX kafka_offset_range kafka_offset TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
ORDER BY (source, rule, started_at, episode_id, at)
SETTINGS non_replicated_deduplication_window = 10000, enable_block_number_column = 1;
