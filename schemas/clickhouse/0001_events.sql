-- Every event once: the values of mail.events. Columns are the fields of schemas/event.schema.json,
-- those of `bounce` and `automation` with that prefix. What is absent there is empty here.
CREATE TABLE IF NOT EXISTS events
(
    -- 32 lower-case hexadecimal digits, exactly as in Kafka, in logs and in `mailpulse`, so that it
    -- can be pasted anywhere. UUID would be half the size uncompressed and print with dashes that
    -- nothing else has; FixedString would arrive as bytes in some drivers. ZSTD takes the hex away.
    event_id              String CODEC(ZSTD(1)),
    kind                  LowCardinality(String),
    provider              LowCardinality(String),
    source                LowCardinality(String),
    -- The provider's time. One from before 1900 or after 2299 is shown as that limit.
    occurred_at           DateTime64(6, 'UTC') CODEC(Delta, LZ4),
    -- The ingress's time.
    received_at           DateTime64(6, 'UTC') CODEC(Delta, LZ4),
    recipient             String,
    recipient_domain      LowCardinality(String),
    mailbox_provider      LowCardinality(String),
    message_id            String,
    campaign              LowCardinality(String),
    tags                  Array(LowCardinality(String)),
    -- hard, soft, undetermined; empty on events that are no refusal.
    bounce_permanence     LowCardinality(String),
    bounce_class          LowCardinality(String),
    bounce_side           LowCardinality(String),
    bounce_status         LowCardinality(String),
    bounce_diagnostic     String,
    bounce_late           Bool,
    -- Why an open or click is held to be a machine's; empty for people's.
    automation_reason     LowCardinality(String),
    automation_confidence Float32,
    -- Opens and clicks: the first of this kind, and the first engagement of any kind, of this message
    -- at this recipient. Machines and people are told apart: `first_of_kind AND
    -- automation_reason = ''` counts people once.
    first_of_kind         Bool,
    first_engagement      Bool,
    user_agent            String,
    ip                    String,
    url                   String,
    -- The provider's own name of the event.
    provider_event        LowCardinality(String),
    provider_event_id     String,
    request_id            String,
    -- The provider's own bytes.
    raw                   String CODEC(ZSTD(1)),
    -- Where in mail.events it was. The archive looks here before it repeats an old insert, so a
    -- table belongs to one set of topics: made-anew topics begin at offset 0 and need a new database.
    kafka_partition       UInt16,
    kafka_offset          UInt64 CODEC(Delta, LZ4),
    -- Not sent by the archive: a repeated insert must be the same block.
    archived_at           DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    -- Made by merges: parts just inserted are small enough to be read whole.
    INDEX kafka_offset_range kafka_offset TYPE minmax GRANULARITY 1,
    INDEX recipient_hashes   recipient    TYPE bloom_filter(0.025) GRANULARITY 1,
    INDEX message_id_hashes  message_id   TYPE bloom_filter(0.025) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (source, kind, occurred_at)
SETTINGS
    -- How many of the last inserts are recognised when they are repeated. 0 is ClickHouse's default
    -- and would archive events twice; the archive refuses to start on it.
    non_replicated_deduplication_window = 10000,
    -- Lets the archive see how many inserts ago a row came, also after merges.
    enable_block_number_column = 1;
