-- What is known of each address, by source. The view recipients_refresh adds a row once an hour for each address whose
-- mail has changed since, so read it with FINAL. The view recipient(address) computes the same at once.
CREATE TABLE IF NOT EXISTS recipients
(
    source            LowCardinality(String) COMMENT 'The source, as in events.',
    recipient         String COMMENT 'The address.',
    tenant            LowCardinality(String) COMMENT 'The tenant from the look-up table. If its messages disagree, one of them.',
    mailbox_provider  LowCardinality(String) COMMENT 'The operator of the mailbox.',
    received          UInt64 COMMENT 'Messages that were delivered.',
    opened            UInt64 COMMENT 'Messages that a person opened.',
    clicked           UInt64 COMMENT 'Messages in which a person clicked.',
    opens             UInt64 COMMENT 'Opens by people.',
    clicks            UInt64 COMMENT 'Clicks by people.',
    bounces           UInt64 COMMENT 'Messages that bounced, also after the delivery.',
    complaints        UInt64 COMMENT 'Messages that were reported as spam.',
    unsubscribed_at   DateTime64(3, 'UTC') COMMENT 'The latest unsubscription. 1970-01-01: never.',
    first_sent_at     DateTime64(3, 'UTC') COMMENT 'When the first message was sent, as far as it is known.',
    last_engaged_at   DateTime64(3, 'UTC') COMMENT 'The latest open or click by a person. 1970-01-01: never.',
    last_at           DateTime64(3, 'UTC') COMMENT 'The latest event.',
    refreshed_at      DateTime('UTC') COMMENT 'All events that were stored before this time are in the row.',
    engagement_cohort LowCardinality(String) ALIAS multiIf(
        first_sent_at > now() - INTERVAL 7 DAY, 'new',
        last_engaged_at > now() - INTERVAL 14 DAY, 'recent',
        last_engaged_at > now() - INTERVAL 90 DAY, 'semi-recent',
        last_engaged_at > now() - INTERVAL 365 DAY, 'not recent',
        'never'
    ) COMMENT 'new (first message within 7 days), or by the latest open or click: recent (14 days), semi-recent (90), not recent (365), never (no open or click, or more than 365 days ago).',
    score             Nullable(Float64) ALIAS if(received = 0, NULL, greatest(0, 0.6 * least(1, opened / received) + 0.4 * least(1, clicked / received) - least(0.5, 0.1 * bounces))) COMMENT 'From 0 to 1: 0.6 of the share of opened messages, 0.4 of the share of clicked ones, and 0.1 less per bounce, at most 0.5. NULL if nothing was delivered.',
    points            UInt64 ALIAS 10 * opens + 25 * clicks COMMENT '10 per open and 25 per click by a person.'
)
ENGINE = ReplacingMergeTree(refreshed_at)
ORDER BY (source, recipient);

-- The margin of ten minutes is for inserts that had begun before the previous refresh and ended after it.
CREATE MATERIALIZED VIEW IF NOT EXISTS recipients_refresh
REFRESH EVERY 1 HOUR APPEND TO recipients AS
SELECT
    source,
    recipient,
    max(its_tenant) AS tenant,
    max(its_mailbox_provider) AS mailbox_provider,
    countIf(delivered) AS received,
    countIf(its_opens > 0) AS opened,
    countIf(its_clicks > 0) AS clicked,
    sum(its_opens) AS opens,
    sum(its_clicks) AS clicks,
    countIf(bounced) AS bounces,
    countIf(complained) AS complaints,
    max(its_unsubscribed_at) AS unsubscribed_at,
    min(its_first_at) AS first_sent_at,
    max(its_engaged_at) AS last_engaged_at,
    max(its_last_at) AS last_at,
    max(its_updated_at) AS refreshed_at
FROM
(
    SELECT
        source,
        recipient,
        toDateTime64('2299-12-31 00:00:00', 3, 'UTC') AS never,
        toDateTime64(0, 3, 'UTC') AS not_yet,
        life.tenant AS its_tenant,
        life.mailbox_provider AS its_mailbox_provider,
        life.delivered_at < never AS delivered,
        bitAnd(life.flags, 16) > 0 OR (delivered AND life.last_bounced_at >= life.delivered_at) AS is_late,
        is_late OR (NOT delivered AND life.bounce != '~') AS bounced,
        life.opens AS its_opens,
        life.clicks AS its_clicks,
        life.complained_at < never AS complained,
        if(life.unsubscribed_at = never, not_yet, life.unsubscribed_at) AS its_unsubscribed_at,
        least(life.sent_at, life.accepted_at, life.delivered_at, life.last_at) AS its_first_at,
        greatest(life.last_opened_at, life.last_clicked_at) AS its_engaged_at,
        life.last_at AS its_last_at,
        life.updated_at AS its_updated_at
    FROM message_life AS life FINAL
    WHERE (source, recipient) IN
    (
        SELECT source, recipient
        FROM message_life
        WHERE updated_at >= (SELECT toDateTime(greatest(0, toInt64(toUnixTimestamp(max(recipients.refreshed_at))) - 600), 'UTC') FROM recipients)
    )
)
GROUP BY source, recipient;
