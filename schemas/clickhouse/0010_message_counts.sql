-- What the event counts for by docs/metrics.md: names of counters. Empty on rows from before.
ALTER TABLE events ADD COLUMN IF NOT EXISTS counts Array(LowCardinality(String)) AFTER sent;

-- What the event changes in the counts of earlier events of the same message, as in the header
-- `corrections`: dimensions, a colon, and changes such as -bounced_soft@1795255200000000.
ALTER TABLE events ADD COLUMN IF NOT EXISTS corrections String AFTER counts;

-- Every counter of docs/metrics.md as a column to sum up, and its denominators. Two events of a message
-- can cancel out: a late delivery turns a soft bounce into a deferral. `counted_at` is the time at which
-- something counts, and `message_sent_at` is the time by which cohorts are grouped. `dimensions` names those
-- in which all events of the message agree: grouped by campaign, only rows with has(dimensions, 'campaign')
-- are right. Also limit occurred_at from below, by which the rows are sorted; it is the time of the event
-- that corrects.
CREATE VIEW IF NOT EXISTS message_counts AS
SELECT
    provider,
    source,
    tenant,
    mailbox_provider,
    campaign,
    sender_domain,
    sending_ip,
    stream,
    recipient,
    message_id,
    occurred_at,
    counted_at,
    message_sent_at,
    dimensions,
    number * has(counters, 'injected') AS injected,
    number * has(counters, 'delivered') AS delivered,
    number * has(counters, 'deferred') AS deferred,
    number * has(counters, 'deferred_settled') AS deferred_settled,
    number * has(counters, 'deferrals') AS deferrals,
    number * has(counters, 'bounced_hard') AS bounced_hard,
    number * has(counters, 'bounced_soft') AS bounced_soft,
    number * has(counters, 'bounced_block') AS bounced_block,
    number * has(counters, 'bounced_undetermined') AS bounced_undetermined,
    number * has(counters, 'auto_replies') AS auto_replies,
    number * has(counters, 'late_bounces') AS late_bounces,
    number * has(counters, 'dropped') AS dropped,
    number * has(counters, 'suppressed') AS suppressed,
    number * has(counters, 'opened') AS opened,
    number * has(counters, 'clicked') AS clicked,
    number * has(counters, 'engaged') AS engaged,
    number * has(counters, 'machine_opened') AS machine_opened,
    number * has(counters, 'machine_clicked') AS machine_clicked,
    number * has(counters, 'complained') AS complained,
    number * has(counters, 'unsubscribed') AS unsubscribed,
    number * has(counters, 'delivered_fbl') AS delivered_fbl,
    number * has(counters, 'late_bounces_fbl') AS late_bounces_fbl,
    number * has(counters, 'auth_refused') AS auth_refused,
    number * has(counters, 'throttled') AS throttled,
    number * has(counters, 'listed') AS listed,
    number * has(counters, 'unclassified') AS unclassified,
    delivered + bounced_hard + bounced_soft + bounced_block + bounced_undetermined AS sent,
    delivered AS accepted_by_recipient
FROM
(
    SELECT
        provider,
        source,
        tenant,
        mailbox_provider,
        campaign,
        sender_domain,
        sending_ip,
        stream,
        recipient,
        message_id,
        occurred_at,
        least(occurred_at, received_at) AS counted_at,
        sent AS message_sent_at,
        CAST(counts AS Array(String)) AS counters,
        ['mailbox_provider', 'campaign', 'sender_domain', 'sending_ip', 'tenant'] AS dimensions,
        toInt64(1) AS number
    FROM events
    WHERE notEmpty(counts)
    UNION ALL
    SELECT
        provider,
        source,
        tenant,
        mailbox_provider,
        campaign,
        sender_domain,
        sending_ip,
        stream,
        recipient,
        message_id,
        occurred_at,
        fromUnixTimestamp64Micro(toInt64OrZero(splitByChar('@', change)[2]), 'UTC') AS counted_at,
        sent AS message_sent_at,
        [substring(splitByChar('@', change)[1], 2)] AS counters,
        splitByChar(',', splitByChar(':', corrections)[1]) AS dimensions,
        if(startsWith(change, '-'), toInt64(-1), toInt64(1)) AS number
    FROM
    (
        SELECT
            *,
            arrayJoin(splitByChar(',', splitByChar(':', corrections)[2])) AS change
        FROM events
        WHERE corrections != ''
    )
);
