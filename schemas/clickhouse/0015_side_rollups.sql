-- Sums with one further dimension each, by hour or day. Sum when reading, as in traffic.

-- By the address of the sending server: reputation.
CREATE TABLE IF NOT EXISTS traffic_ip
(
    source                LowCardinality(String) COMMENT 'The source, as in events.',
    provider              LowCardinality(String) COMMENT 'The email service provider.',
    hour                  DateTime('UTC') COMMENT 'The start of the hour, by the time at which the events count.',
    sending_ip            LowCardinality(String) COMMENT 'The address of the sending server, or the stream where it is not known. (several): as in traffic.',
    sender_domain         LowCardinality(String) COMMENT 'As in traffic.',
    mailbox_provider      LowCardinality(String) COMMENT 'As in traffic.',
    kafka_partition       UInt16 COMMENT 'The partition of mail.events. It says nothing about the mail.',
    delivered             Int64,
    deferred              Int64,
    deferrals             Int64,
    bounced_hard          Int64,
    bounced_soft          Int64,
    bounced_block         Int64,
    bounced_undetermined  Int64,
    complained            Int64,
    delivered_fbl         Int64,
    auth_refused          Int64,
    throttled             Int64,
    listed                Int64
)
ENGINE = SummingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (source, provider, hour, sending_ip, sender_domain, mailbox_provider, kafka_partition)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS traffic_ip_feed TO traffic_ip AS
SELECT
    source,
    provider,
    toStartOfHour(toDateTime(counted_at, 'UTC')) AS hour,
    sending_ip,
    sender_domain,
    mailbox_provider,
    kafka_partition,
    sum(number * has(counters, 'delivered')) AS delivered,
    sum(number * has(counters, 'deferred')) AS deferred,
    sum(number * has(counters, 'deferrals')) AS deferrals,
    sum(number * has(counters, 'bounced_hard')) AS bounced_hard,
    sum(number * has(counters, 'bounced_soft')) AS bounced_soft,
    sum(number * has(counters, 'bounced_block')) AS bounced_block,
    sum(number * has(counters, 'bounced_undetermined')) AS bounced_undetermined,
    sum(number * has(counters, 'complained')) AS complained,
    sum(number * has(counters, 'delivered_fbl')) AS delivered_fbl,
    sum(number * has(counters, 'auth_refused')) AS auth_refused,
    sum(number * has(counters, 'throttled')) AS throttled,
    sum(number * has(counters, 'listed')) AS listed
FROM counted
WHERE hasAny(counters, ['delivered', 'deferred', 'deferrals', 'bounced_hard', 'bounced_soft', 'bounced_block', 'bounced_undetermined', 'complained', 'delivered_fbl', 'auth_refused', 'throttled', 'listed'])
GROUP BY source, provider, hour, sending_ip, sender_domain, mailbox_provider, kafka_partition;


-- By the domain of the recipients.
CREATE TABLE IF NOT EXISTS traffic_domain
(
    source                LowCardinality(String) COMMENT 'The source, as in events.',
    provider              LowCardinality(String) COMMENT 'The email service provider.',
    day                   Date COMMENT 'The day in UTC, by the time at which the events count.',
    recipient_domain      LowCardinality(String) COMMENT 'The domain of the recipients.',
    mailbox_provider      LowCardinality(String) COMMENT 'As in traffic.',
    kafka_partition       UInt16 COMMENT 'The partition of mail.events. It says nothing about the mail.',
    delivered             Int64,
    delivered_fbl         Int64,
    deferred              Int64,
    bounced_hard          Int64,
    bounced_soft          Int64,
    bounced_block         Int64,
    bounced_undetermined  Int64,
    late_bounces          Int64,
    opened                Int64,
    clicked               Int64,
    engaged               Int64,
    machine_opened        Int64,
    machine_clicked       Int64,
    complained            Int64,
    unsubscribed          Int64
)
ENGINE = SummingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (source, provider, day, recipient_domain, mailbox_provider, kafka_partition)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS traffic_domain_feed TO traffic_domain AS
SELECT
    source,
    provider,
    toDate(counted_at, 'UTC') AS day,
    recipient_domain,
    mailbox_provider,
    kafka_partition,
    sum(number * has(counters, 'delivered')) AS delivered,
    sum(number * has(counters, 'delivered_fbl')) AS delivered_fbl,
    sum(number * has(counters, 'deferred')) AS deferred,
    sum(number * has(counters, 'bounced_hard')) AS bounced_hard,
    sum(number * has(counters, 'bounced_soft')) AS bounced_soft,
    sum(number * has(counters, 'bounced_block')) AS bounced_block,
    sum(number * has(counters, 'bounced_undetermined')) AS bounced_undetermined,
    sum(number * has(counters, 'late_bounces')) AS late_bounces,
    sum(number * has(counters, 'opened')) AS opened,
    sum(number * has(counters, 'clicked')) AS clicked,
    sum(number * has(counters, 'engaged')) AS engaged,
    sum(number * has(counters, 'machine_opened')) AS machine_opened,
    sum(number * has(counters, 'machine_clicked')) AS machine_clicked,
    sum(number * has(counters, 'complained')) AS complained,
    sum(number * has(counters, 'unsubscribed')) AS unsubscribed
FROM counted
WHERE hasAny(counters, ['delivered', 'delivered_fbl', 'deferred', 'bounced_hard', 'bounced_soft', 'bounced_block', 'bounced_undetermined', 'late_bounces', 'opened', 'clicked', 'engaged', 'machine_opened', 'machine_clicked', 'complained', 'unsubscribed'])
GROUP BY source, provider, day, recipient_domain, mailbox_provider, kafka_partition;


-- By the country and device of readers.
CREATE TABLE IF NOT EXISTS traffic_country
(
    source                LowCardinality(String) COMMENT 'The source, as in events.',
    provider              LowCardinality(String) COMMENT 'The email service provider.',
    day                   Date COMMENT 'The day in UTC, by the time at which the events count.',
    geo_country           LowCardinality(String) COMMENT 'The country of the reader, ISO 3166-1. Empty: not known.',
    client_device         LowCardinality(String) COMMENT 'The device of the reader. Empty: not known.',
    kafka_partition       UInt16 COMMENT 'The partition of mail.events. It says nothing about the mail.',
    opened                Int64,
    clicked               Int64,
    engaged               Int64,
    machine_opened        Int64,
    machine_clicked       Int64
)
ENGINE = SummingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (source, provider, day, geo_country, client_device, kafka_partition)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS traffic_country_feed TO traffic_country AS
SELECT
    source,
    provider,
    toDate(least(occurred_at, received_at), 'UTC') AS day,
    geo_country,
    client_device,
    kafka_partition,
    countIf(has(counts, 'opened')) AS opened,
    countIf(has(counts, 'clicked')) AS clicked,
    countIf(has(counts, 'engaged')) AS engaged,
    countIf(has(counts, 'machine_opened')) AS machine_opened,
    countIf(has(counts, 'machine_clicked')) AS machine_clicked
FROM events
WHERE hasAny(counts, ['opened', 'clicked', 'engaged', 'machine_opened', 'machine_clicked'])
GROUP BY source, provider, day, geo_country, client_device, kafka_partition;

-- Clicks by link and campaign. `clicks` and `machine_clicks` are events; `clicked` and `machine_clicked` count a message once, at the link that was clicked first.
CREATE TABLE IF NOT EXISTS links
(
    source                LowCardinality(String) COMMENT 'The source, as in events.',
    provider              LowCardinality(String) COMMENT 'The email service provider.',
    day                   Date COMMENT 'The day in UTC, by the time at which the events count.',
    campaign              LowCardinality(String) COMMENT 'As in traffic.',
    url                   String COMMENT 'The link without its query and fragment.',
    kafka_partition       UInt16 COMMENT 'The partition of mail.events. It says nothing about the mail.',
    clicks                Int64 COMMENT 'Clicks by people.',
    machine_clicks        Int64 COMMENT 'Clicks by machines.',
    clicked               Int64,
    machine_clicked       Int64
)
ENGINE = SummingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (source, provider, day, campaign, url, kafka_partition)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS links_feed TO links AS
SELECT
    source,
    provider,
    toDate(least(occurred_at, received_at), 'UTC') AS day,
    campaign,
    cutQueryStringAndFragment(url) AS url,
    kafka_partition,
    countIf(automation_reason = '') AS clicks,
    countIf(automation_reason != '') AS machine_clicks,
    countIf(has(counts, 'clicked')) AS clicked,
    countIf(has(counts, 'machine_clicked')) AS machine_clicked
FROM events
WHERE kind = 'clicked' AND url != '' AND (authentic OR seen > 0 OR notEmpty(counts))
GROUP BY source, provider, day, campaign, url, kafka_partition;
