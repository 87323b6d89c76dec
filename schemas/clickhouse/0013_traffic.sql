-- The counters of docs/metrics.md by quarter of an hour, so that a day in any time zone is a sum. Sum when reading:
-- parts merge in the background, and each partition of mail.events has sums of its own, which its one writer can
-- check against its rows. Corrections can make a row negative; its sum with the others is right.
CREATE TABLE IF NOT EXISTS traffic
(
    source                LowCardinality(String) COMMENT 'The source, as in events.',
    provider              LowCardinality(String) COMMENT 'The email service provider.',
    at15                  DateTime('UTC') COMMENT 'The start of the quarter of an hour, by the time at which the events count.',
    mailbox_provider      LowCardinality(String) COMMENT 'The operator of the mailboxes. (several): corrections of messages whose events disagree about it.',
    campaign              LowCardinality(String) COMMENT 'The campaign. (several): as for mailbox_provider.',
    sender_domain         LowCardinality(String) COMMENT 'The organizational domain of the sender. (several): as for mailbox_provider.',
    stream                LowCardinality(String) COMMENT 'The stream of the provider.',
    tenant                LowCardinality(String) COMMENT 'The tenant from the look-up table. (several): as for mailbox_provider.',
    kafka_partition       UInt16 COMMENT 'The partition of mail.events. It says nothing about the mail.',
    events                Int64 COMMENT 'All events, also repeated ones.',
    subscribed            Int64 COMMENT 'Events of this kind.',
    other                 Int64 COMMENT 'Events of the kinds other and verified.',
    injected              Int64,
    delivered             Int64,
    deferred              Int64,
    deferred_settled      Int64,
    deferrals             Int64,
    bounced_hard          Int64,
    bounced_soft          Int64,
    bounced_block         Int64,
    bounced_undetermined  Int64,
    auto_replies          Int64,
    late_bounces          Int64,
    dropped               Int64,
    suppressed            Int64,
    opened                Int64,
    clicked               Int64,
    engaged               Int64,
    machine_opened        Int64,
    machine_clicked       Int64,
    complained            Int64,
    unsubscribed          Int64,
    delivered_fbl         Int64,
    late_bounces_fbl      Int64,
    auth_refused          Int64,
    throttled             Int64,
    listed                Int64,
    unclassified          Int64
)
ENGINE = SummingMergeTree
PARTITION BY toYYYYMM(at15)
ORDER BY (source, provider, at15, mailbox_provider, campaign, sender_domain, stream, tenant, kafka_partition)
SETTINGS non_replicated_deduplication_window = 10000;

-- What each event counts for, and what it changes in earlier counts, one row each. The views of the sums read these rows, so
-- that ClickHouse takes the corrections apart once per insert and not once per view. The table stores nothing.
CREATE TABLE IF NOT EXISTS counted
(
    source            LowCardinality(String) COMMENT 'The source, as in events.',
    provider          LowCardinality(String) COMMENT 'The email service provider.',
    mailbox_provider  LowCardinality(String) COMMENT 'As in traffic.',
    campaign          LowCardinality(String) COMMENT 'As in traffic.',
    sender_domain     LowCardinality(String) COMMENT 'As in traffic.',
    sending_ip        LowCardinality(String) COMMENT 'As in traffic_ip.',
    stream            LowCardinality(String) COMMENT 'The stream of the provider.',
    tenant            LowCardinality(String) COMMENT 'As in traffic.',
    recipient_domain  LowCardinality(String) COMMENT 'The domain of the recipient.',
    kafka_partition   UInt16 COMMENT 'The partition of mail.events.',
    kind              LowCardinality(String) COMMENT 'The kind of the event.',
    sent              Nullable(DateTime64(6, 'UTC')) COMMENT 'When the message was sent.',
    counted_at        DateTime64(6, 'UTC') COMMENT 'When the counters count.',
    counters          Array(LowCardinality(String)) COMMENT 'The counters.',
    number            Int64 COMMENT 'What to add to each counter: 1, or -1 if an earlier count is taken back.',
    own               Bool COMMENT 'Whether the row is the event itself. Otherwise it changes an earlier count.'
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS counted_feed TO counted AS
SELECT
    source,
    provider,
    own OR has(agreed, 'mailbox_provider') ? mailbox_provider : '(several)' AS mailbox_provider,
    own OR has(agreed, 'campaign') ? campaign : '(several)' AS campaign,
    own OR has(agreed, 'sender_domain') ? sender_domain : '(several)' AS sender_domain,
    own OR has(agreed, 'sending_ip') ? (sending_ip = '' ? stream : sending_ip) : '(several)' AS sending_ip,
    stream,
    own OR has(agreed, 'tenant') ? tenant : '(several)' AS tenant,
    recipient_domain,
    kafka_partition,
    kind,
    sent,
    part.2 AS counted_at,
    part.1 AS counters,
    part.3 AS number,
    own
FROM
(
    SELECT
        source,
        provider,
        mailbox_provider,
        campaign,
        sender_domain,
        sending_ip,
        stream,
        tenant,
        recipient_domain,
        kafka_partition,
        kind,
        sent,
        splitByChar(':', corrections) AS change,
        arrayJoin(arrayConcat(
            [(counts, least(occurred_at, received_at), toInt64(1), emptyArrayString())],
            corrections = '' ? [] : arrayMap(
                item -> (
                    [toLowCardinality(substring(splitByChar('@', item)[1], 2))],
                    fromUnixTimestamp64Micro(toInt64OrZero(splitByChar('@', item)[2]), 'UTC'),
                    startsWith(item, '-') ? toInt64(-1) : toInt64(1),
                    splitByChar(',', change[1])
                ),
                splitByChar(',', change[2])
            )
        )) AS part,
        part.4 AS agreed,
        empty(agreed) AS own
    FROM events
);

-- Fed by each insert, which deduplicate_blocks_in_dependent_materialized_views = 1 makes as repeatable as the insert
-- itself.
CREATE MATERIALIZED VIEW IF NOT EXISTS traffic_feed TO traffic AS
SELECT
    source,
    provider,
    toStartOfFifteenMinutes(toDateTime(counted_at, 'UTC')) AS at15,
    mailbox_provider,
    campaign,
    sender_domain,
    stream,
    tenant,
    kafka_partition,
    countIf(own) AS events,
    countIf(own AND kind = 'subscribed') AS subscribed,
    countIf(own AND kind IN ('other', 'verified')) AS other,
    sum(number * has(counters, 'injected')) AS injected,
    sum(number * has(counters, 'delivered')) AS delivered,
    sum(number * has(counters, 'deferred')) AS deferred,
    sum(number * has(counters, 'deferred_settled')) AS deferred_settled,
    sum(number * has(counters, 'deferrals')) AS deferrals,
    sum(number * has(counters, 'bounced_hard')) AS bounced_hard,
    sum(number * has(counters, 'bounced_soft')) AS bounced_soft,
    sum(number * has(counters, 'bounced_block')) AS bounced_block,
    sum(number * has(counters, 'bounced_undetermined')) AS bounced_undetermined,
    sum(number * has(counters, 'auto_replies')) AS auto_replies,
    sum(number * has(counters, 'late_bounces')) AS late_bounces,
    sum(number * has(counters, 'dropped')) AS dropped,
    sum(number * has(counters, 'suppressed')) AS suppressed,
    sum(number * has(counters, 'opened')) AS opened,
    sum(number * has(counters, 'clicked')) AS clicked,
    sum(number * has(counters, 'engaged')) AS engaged,
    sum(number * has(counters, 'machine_opened')) AS machine_opened,
    sum(number * has(counters, 'machine_clicked')) AS machine_clicked,
    sum(number * has(counters, 'complained')) AS complained,
    sum(number * has(counters, 'unsubscribed')) AS unsubscribed,
    sum(number * has(counters, 'delivered_fbl')) AS delivered_fbl,
    sum(number * has(counters, 'late_bounces_fbl')) AS late_bounces_fbl,
    sum(number * has(counters, 'auth_refused')) AS auth_refused,
    sum(number * has(counters, 'throttled')) AS throttled,
    sum(number * has(counters, 'listed')) AS listed,
    sum(number * has(counters, 'unclassified')) AS unclassified
FROM counted
GROUP BY source, provider, at15, mailbox_provider, campaign, sender_domain, stream, tenant, kafka_partition;


-- traffic replaces the table events_hourly, whose name stays as a view. `archive` computes the sums of earlier rows
-- when it starts. OR REPLACE exchanges the table and the view in one step. With DROP TABLE and CREATE VIEW, a process
-- that is slower than another one would drop the view which that one has created.
DROP VIEW IF EXISTS events_hourly_feed;

CREATE OR REPLACE VIEW events_hourly
(
    hour             DateTime('UTC') COMMENT 'The start of the hour.',
    provider         LowCardinality(String) COMMENT 'The email service provider.',
    source           LowCardinality(String) COMMENT 'The source: the part of the mail that has its own address for webhooks.',
    mailbox_provider LowCardinality(String) COMMENT 'The operator of the recipient\'s mailbox, such as gmail.',
    campaign         LowCardinality(String) COMMENT 'The campaign.',
    kafka_partition  UInt16 COMMENT 'The partition of the record in Kafka. It says nothing about the mail.',
    events           Int64 COMMENT 'All events, also repeated ones.',
    accepted         Int64 COMMENT 'Messages that the provider took in for sending.',
    delivered        Int64 COMMENT 'Messages: the recipient\'s server accepted it.',
    deferred         Int64 COMMENT 'Events: every temporary refusal.',
    bounced          Int64 COMMENT 'Messages that bounced, also late.',
    bounced_hard     Int64 COMMENT 'Messages: it bounced permanently, not because of the sender.',
    bounced_late     Int64 COMMENT 'Messages that bounced after their delivery.',
    dropped          Int64 COMMENT 'Messages: the provider did not attempt to deliver it.',
    opened           Int64 COMMENT 'Messages: a person opened it.',
    clicked          Int64 COMMENT 'Messages: a person clicked a link in it.',
    engaged          Int64 COMMENT 'Messages: a person opened it or clicked.',
    machine_opened   Int64 COMMENT 'Messages: a machine opened it: a privacy proxy, a scanner.',
    machine_clicked  Int64 COMMENT 'Messages: a machine clicked.',
    complained       Int64 COMMENT 'Messages: the recipient reported it as spam.',
    unsubscribed     Int64 COMMENT 'Messages: the recipient unsubscribed.',
    subscribed       Int64 COMMENT 'Events of this kind.',
    other            Int64 COMMENT 'Events of the kinds other and verified.'
)
AS
SELECT
    toStartOfHour(at15) AS hour,
    provider,
    source,
    mailbox_provider,
    campaign,
    kafka_partition,
    sum(t.events) AS events,
    sum(t.injected) AS accepted,
    sum(t.delivered) AS delivered,
    sum(t.deferrals) AS deferred,
    sum(t.bounced_hard + t.bounced_soft + t.bounced_block + t.bounced_undetermined + t.late_bounces) AS bounced,
    sum(t.bounced_hard) AS bounced_hard,
    sum(t.late_bounces) AS bounced_late,
    sum(t.dropped) AS dropped,
    sum(t.opened) AS opened,
    sum(t.clicked) AS clicked,
    sum(t.engaged) AS engaged,
    sum(t.machine_opened) AS machine_opened,
    sum(t.machine_clicked) AS machine_clicked,
    sum(t.complained) AS complained,
    sum(t.unsubscribed) AS unsubscribed,
    sum(t.subscribed) AS subscribed,
    sum(t.other) AS other
FROM traffic AS t
GROUP BY hour, provider, source, mailbox_provider, campaign, kafka_partition;

-- The partitions of mail.events whose rows from before a migration are in the rollups.
CREATE TABLE IF NOT EXISTS rollups_filled
(
    kafka_partition UInt16,
    migration       UInt32 COMMENT 'The number of the last migration that added a rollup at the time.',
    done_at         DateTime('UTC') DEFAULT now()
)
ENGINE = ReplacingMergeTree
ORDER BY (kafka_partition, migration);
