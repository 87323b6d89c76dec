-- What could not go on, with the reason: mail.dead-letters. A process that dies between writing a
-- dead letter and its own commit writes it again: count distinct `origin` where it is not empty.
CREATE TABLE IF NOT EXISTS dead_letters
(
    -- The code of the header `reason`, such as not_json.
    reason          LowCardinality(String),
    detail          String,
    -- The binary that gave up on it.
    stage           LowCardinality(String),
    -- topic/partition/offset it came from; empty when it came from an HTTP request.
    origin          String,
    provider        LowCardinality(String),
    source          LowCardinality(String),
    -- Key, bytes and headers of the original record.
    key             String,
    value           String CODEC(ZSTD(1)),
    headers         Map(String, String),
    -- When the ingress had read the request; NULL where the original record does not say.
    received_at     Nullable(DateTime64(6, 'UTC')),
    kafka_partition UInt16,
    kafka_offset    UInt64,
    archived_at     DateTime64(3, 'UTC') DEFAULT now64(3),
    INDEX kafka_offset_range kafka_offset TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
ORDER BY (reason, stage, kafka_partition, kafka_offset)
SETTINGS non_replicated_deduplication_window = 10000, enable_block_number_column = 1;
