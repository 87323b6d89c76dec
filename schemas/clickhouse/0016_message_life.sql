-- The life of each message at each recipient. Every column is the least, the greatest or the union of what its events
-- say, so it does not matter in which order and how often they are fed: when in doubt, run the SELECT of the view over
-- any range again. The view `messages` reads it. Events without a message id, and those that count for nothing because
-- only shadow mode admitted them, are not in it. Automatic replies and suppressed messages are no bounces
-- (docs/metrics.md).
CREATE TABLE IF NOT EXISTS message_life
(
    source            LowCardinality(String),
    recipient         String,
    message_id        String,
    provider          LowCardinality(String),
    -- The greatest of those that are stated.
    campaign          SimpleAggregateFunction(max, LowCardinality(String)),
    mailbox_provider  SimpleAggregateFunction(max, LowCardinality(String)),
    sender_domain     SimpleAggregateFunction(max, LowCardinality(String)),
    tenant            SimpleAggregateFunction(max, LowCardinality(String)),
    -- The earliest times. 2299-12-31 00:00:00: never.
    sent_at           SimpleAggregateFunction(min, DateTime64(3, 'UTC')) DEFAULT '2299-12-31 00:00:00' CODEC(Delta, LZ4),
    accepted_at       SimpleAggregateFunction(min, DateTime64(3, 'UTC')) DEFAULT '2299-12-31 00:00:00' CODEC(Delta, LZ4),
    delivered_at      SimpleAggregateFunction(min, DateTime64(3, 'UTC')) DEFAULT '2299-12-31 00:00:00' CODEC(Delta, LZ4),
    deferred_at       SimpleAggregateFunction(min, DateTime64(3, 'UTC')) DEFAULT '2299-12-31 00:00:00' CODEC(Delta, LZ4),
    bounced_at        SimpleAggregateFunction(min, DateTime64(3, 'UTC')) DEFAULT '2299-12-31 00:00:00' CODEC(Delta, LZ4),
    dropped_at        SimpleAggregateFunction(min, DateTime64(3, 'UTC')) DEFAULT '2299-12-31 00:00:00' CODEC(Delta, LZ4),
    first_opened_at   SimpleAggregateFunction(min, DateTime64(3, 'UTC')) DEFAULT '2299-12-31 00:00:00' CODEC(Delta, LZ4),
    first_clicked_at  SimpleAggregateFunction(min, DateTime64(3, 'UTC')) DEFAULT '2299-12-31 00:00:00' CODEC(Delta, LZ4),
    complained_at     SimpleAggregateFunction(min, DateTime64(3, 'UTC')) DEFAULT '2299-12-31 00:00:00' CODEC(Delta, LZ4),
    unsubscribed_at   SimpleAggregateFunction(min, DateTime64(3, 'UTC')) DEFAULT '2299-12-31 00:00:00' CODEC(Delta, LZ4),
    -- The latest times. 1970-01-01 00:00:00: never.
    last_opened_at    SimpleAggregateFunction(max, DateTime64(3, 'UTC')) CODEC(Delta, LZ4),
    last_clicked_at   SimpleAggregateFunction(max, DateTime64(3, 'UTC')) CODEC(Delta, LZ4),
    last_at           SimpleAggregateFunction(max, DateTime64(3, 'UTC')) CODEC(Delta, LZ4),
    last_bounced_at   SimpleAggregateFunction(max, DateTime64(3, 'UTC')) CODEC(Delta, LZ4),
    -- The bounce that counts by docs/metrics.md: a rank (1 hard, 2 block, 3 undetermined, 4 soft), the time as
    -- microseconds with 16 digits, permanence, class, side and status, separated by `|`. The least one wins. ~: none.
    bounce            SimpleAggregateFunction(min, String) DEFAULT '~',
    -- The greatest ordinals (the column seen of events), by people.
    opens             SimpleAggregateFunction(max, UInt32),
    clicks            SimpleAggregateFunction(max, UInt32),
    -- 1: a machine opened it. 2: a machine clicked. 4: the provider did not attempt it, because the address is on its
    -- suppression list. 8: delivered at a mailbox provider that reports complaints. 16: a bounce was late.
    flags             SimpleAggregateFunction(groupBitOr, UInt8),
    -- When the latest part of the life was stored. It is the only column that changes when events are fed again.
    updated_at        SimpleAggregateFunction(max, DateTime('UTC')) DEFAULT now() CODEC(Delta, LZ4),
    INDEX updated updated_at TYPE minmax GRANULARITY 1
)
ENGINE = AggregatingMergeTree
ORDER BY (source, recipient, message_id, provider)
-- Most queries ask for a few recipients, who are far apart.
SETTINGS index_granularity = 512, non_replicated_deduplication_window = 10000, min_bytes_for_wide_part = 104857600;

CREATE MATERIALIZED VIEW IF NOT EXISTS message_life_feed TO message_life AS
WITH
    toDateTime64('2299-12-31 00:00:00', 3, 'UTC') AS never,
    toDateTime64(0, 3, 'UTC') AS not_yet,
    toDateTime64(least(occurred_at, received_at), 3, 'UTC') AS counted_at,
    automation_reason = '' AS is_person,
    kind = 'bounced' AND bounce_class NOT IN ('auto_reply', 'suppressed') AS is_bounce
SELECT
    source,
    recipient,
    message_id,
    provider,
    campaign,
    mailbox_provider,
    sender_domain,
    tenant,
    toDateTime64(coalesce(sent, sent_at, toDateTime64('2299-12-31 00:00:00', 6, 'UTC')), 3, 'UTC') AS sent_at,
    if(kind = 'accepted', counted_at, never) AS accepted_at,
    if(kind = 'delivered', counted_at, never) AS delivered_at,
    if(kind = 'deferred', counted_at, never) AS deferred_at,
    if(is_bounce, counted_at, never) AS bounced_at,
    if(kind = 'dropped', counted_at, never) AS dropped_at,
    if(kind = 'opened' AND is_person, counted_at, never) AS first_opened_at,
    if(kind = 'clicked' AND is_person, counted_at, never) AS first_clicked_at,
    if(kind = 'complained', counted_at, never) AS complained_at,
    if(kind = 'unsubscribed', counted_at, never) AS unsubscribed_at,
    if(kind = 'opened' AND is_person, counted_at, not_yet) AS last_opened_at,
    if(kind = 'clicked' AND is_person, counted_at, not_yet) AS last_clicked_at,
    counted_at AS last_at,
    if(is_bounce, counted_at, not_yet) AS last_bounced_at,
    if(
        is_bounce,
        concat(
            multiIf(bounce_side = 'sender', '2|', bounce_permanence = 'hard', '1|', bounce_permanence = 'undetermined', '3|', '4|'),
            leftPad(toString(toUnixTimestamp64Micro(least(occurred_at, received_at))), 16, '0'),
            '|', bounce_permanence, '|', bounce_class, '|', bounce_side, '|', bounce_status
        ),
        '~'
    ) AS bounce,
    if(kind = 'opened' AND is_person, greatest(seen, 1), 0) AS opens,
    if(kind = 'clicked' AND is_person, greatest(seen, 1), 0) AS clicks,
    toUInt8(
        if(kind = 'opened' AND NOT is_person, 1, 0)
        + if(kind = 'clicked' AND NOT is_person, 2, 0)
        + if(has(counts, 'suppressed'), 4, 0)
        + if(has(counts, 'delivered_fbl'), 8, 0)
        + if(is_bounce AND (late OR bounce_late), 16, 0)
    ) AS flags
FROM events
WHERE message_id != '' AND (authentic OR seen > 0 OR notEmpty(counts));
