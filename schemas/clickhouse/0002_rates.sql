-- Windows and their rates: the values of mail.rates. A window can come several times, the greatest
-- revision holds: read with FINAL.
CREATE TABLE IF NOT EXISTS rates
(
    -- source, mailbox_provider or campaign.
    scope                 LowCardinality(String),
    provider              LowCardinality(String),
    source                LowCardinality(String),
    mailbox_provider      LowCardinality(String),
    campaign              LowCardinality(String),
    width_seconds         UInt32,
    -- The first moment after the window.
    window_end            DateTime64(6, 'UTC') CODEC(Delta, LZ4),
    revision              UInt32,
    -- What was counted in the window.
    accepted              UInt64,
    delivered             UInt64,
    deferred              UInt64,
    bounced_hard          UInt64,
    bounced_soft          UInt64,
    bounced_undetermined  UInt64,
    late_bounces          UInt64,
    dropped               UInt64,
    opened                UInt64,
    clicked               UInt64,
    engaged               UInt64,
    machine_opened        UInt64,
    machine_clicked       UInt64,
    complained            UInt64,
    unsubscribed          UInt64,
    -- The denominators: bounces divide by sent, the rest by accepted_by_recipient.
    sent                  UInt64,
    sent_is_estimated     Bool,
    accepted_by_recipient UInt64,
    -- 0.05 is 5 %; NULL while the denominator is 0.
    bounce_rate           Nullable(Float64),
    hard_bounce_rate      Nullable(Float64),
    complaint_rate        Nullable(Float64),
    unsubscribe_rate      Nullable(Float64),
    open_rate             Nullable(Float64),
    click_rate            Nullable(Float64),
    engagement_rate       Nullable(Float64),
    kafka_partition       UInt16,
    kafka_offset          UInt64 CODEC(Delta, LZ4),
    archived_at           DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    INDEX kafka_offset_range kafka_offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(revision)
PARTITION BY toYYYYMM(window_end)
ORDER BY (scope, provider, source, mailbox_provider, campaign, width_seconds, window_end)
SETTINGS non_replicated_deduplication_window = 10000, enable_block_number_column = 1;
