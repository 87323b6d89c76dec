-- Events by the hour they happened in. Sum when reading: parts merge in the background, and each
-- partition of mail.events has sums of its own, which its one writer can check against its rows.
CREATE TABLE IF NOT EXISTS events_hourly
(
    hour             DateTime('UTC'),
    provider         LowCardinality(String),
    source           LowCardinality(String),
    mailbox_provider LowCardinality(String),
    campaign         LowCardinality(String),
    kafka_partition  UInt16,
    events           UInt64,
    accepted         UInt64,
    delivered        UInt64,
    deferred         UInt64,
    bounced          UInt64,
    bounced_hard     UInt64,
    bounced_late     UInt64,
    dropped          UInt64,
    -- By people, once per message and recipient.
    opened           UInt64,
    clicked          UInt64,
    engaged          UInt64,
    -- By machines, every one.
    machine_opened   UInt64,
    machine_clicked  UInt64,
    complained       UInt64,
    unsubscribed     UInt64,
    subscribed       UInt64,
    other            UInt64
)
ENGINE = SummingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (source, provider, hour, mailbox_provider, campaign, kafka_partition)
SETTINGS non_replicated_deduplication_window = 10000;

-- Fed by each insert, which deduplicate_blocks_in_dependent_materialized_views=1 makes as repeatable
-- as the insert itself.
CREATE MATERIALIZED VIEW IF NOT EXISTS events_hourly_feed TO events_hourly AS
SELECT
    toStartOfHour(toDateTime(occurred_at, 'UTC')) AS hour,
    provider,
    source,
    mailbox_provider,
    campaign,
    kafka_partition,
    count() AS events,
    countIf(kind = 'accepted') AS accepted,
    countIf(kind = 'delivered') AS delivered,
    countIf(kind = 'deferred') AS deferred,
    countIf(kind = 'bounced') AS bounced,
    countIf(kind = 'bounced' AND bounce_permanence = 'hard') AS bounced_hard,
    countIf(kind = 'bounced' AND bounce_late) AS bounced_late,
    countIf(kind = 'dropped') AS dropped,
    countIf(kind = 'opened' AND first_of_kind AND automation_reason = '') AS opened,
    countIf(kind = 'clicked' AND first_of_kind AND automation_reason = '') AS clicked,
    countIf(first_engagement AND automation_reason = '') AS engaged,
    countIf(kind = 'opened' AND automation_reason != '') AS machine_opened,
    countIf(kind = 'clicked' AND automation_reason != '') AS machine_clicked,
    countIf(kind = 'complained') AS complained,
    countIf(kind = 'unsubscribed') AS unsubscribed,
    countIf(kind = 'subscribed') AS subscribed,
    countIf(kind = 'other') AS other
FROM events
GROUP BY hour, provider, source, mailbox_provider, campaign, kafka_partition;
