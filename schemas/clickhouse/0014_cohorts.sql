-- What happened to the messages that were sent in the same hour, by their age. Sum over all ages up to the one at which
-- you compare. An event without a known time of sending is in no cohort.
CREATE TABLE IF NOT EXISTS cohorts
(
    source                LowCardinality(String) COMMENT 'The source, as in events.',
    provider              LowCardinality(String) COMMENT 'The email service provider.',
    sent_hour             DateTime('UTC') COMMENT 'The start of the hour in which the messages were sent.',
    mailbox_provider      LowCardinality(String) COMMENT 'As in traffic.',
    campaign              LowCardinality(String) COMMENT 'As in traffic.',
    age                   UInt16 COMMENT 'Hours since sending: 0 to 23, then 24, 48 and so on up to 720 (30 days and more).',
    kafka_partition       UInt16 COMMENT 'The partition of mail.events. It says nothing about the mail.',
    delivered             Int64,
    bounced_hard          Int64,
    bounced_soft          Int64,
    bounced_block         Int64,
    bounced_undetermined  Int64,
    late_bounces          Int64,
    delivered_fbl         Int64,
    late_bounces_fbl      Int64,
    opened                Int64,
    clicked               Int64,
    engaged               Int64,
    machine_opened        Int64,
    machine_clicked       Int64,
    complained            Int64,
    unsubscribed          Int64
)
ENGINE = SummingMergeTree
PARTITION BY toYYYYMM(sent_hour)
ORDER BY (source, provider, sent_hour, mailbox_provider, campaign, age, kafka_partition)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS cohorts_feed TO cohorts AS
SELECT
    source,
    provider,
    toStartOfHour(toDateTime(assumeNotNull(sent), 'UTC')) AS sent_hour,
    mailbox_provider,
    campaign,
    toUInt16(if(toUInt32(greatest(0, intDiv(toUnixTimestamp(counted_at) - toUnixTimestamp(assumeNotNull(sent)), 3600))) < 24, toUInt32(greatest(0, intDiv(toUnixTimestamp(counted_at) - toUnixTimestamp(assumeNotNull(sent)), 3600))), 24 * least(intDiv(toUInt32(greatest(0, intDiv(toUnixTimestamp(counted_at) - toUnixTimestamp(assumeNotNull(sent)), 3600))), 24), 30))) AS age,
    kafka_partition,
    sum(number * has(counters, 'delivered')) AS delivered,
    sum(number * has(counters, 'bounced_hard')) AS bounced_hard,
    sum(number * has(counters, 'bounced_soft')) AS bounced_soft,
    sum(number * has(counters, 'bounced_block')) AS bounced_block,
    sum(number * has(counters, 'bounced_undetermined')) AS bounced_undetermined,
    sum(number * has(counters, 'late_bounces')) AS late_bounces,
    sum(number * has(counters, 'delivered_fbl')) AS delivered_fbl,
    sum(number * has(counters, 'late_bounces_fbl')) AS late_bounces_fbl,
    sum(number * has(counters, 'opened')) AS opened,
    sum(number * has(counters, 'clicked')) AS clicked,
    sum(number * has(counters, 'engaged')) AS engaged,
    sum(number * has(counters, 'machine_opened')) AS machine_opened,
    sum(number * has(counters, 'machine_clicked')) AS machine_clicked,
    sum(number * has(counters, 'complained')) AS complained,
    sum(number * has(counters, 'unsubscribed')) AS unsubscribed
FROM counted
WHERE sent IS NOT NULL AND hasAny(counters, ['delivered', 'bounced_hard', 'bounced_soft', 'bounced_block', 'bounced_undetermined', 'late_bounces', 'delivered_fbl', 'late_bounces_fbl', 'opened', 'clicked', 'engaged', 'machine_opened', 'machine_clicked', 'complained', 'unsubscribed'])
GROUP BY source, provider, sent_hour, mailbox_provider, campaign, age, kafka_partition;

