-- The latest changes of entries, the newest first. A provisional entry that becomes final has a second record with the same
-- since: it is one change. The first one can be from before the time that is shown.
SELECT
    list,
    recipient,
    reason,
    scope,
    author,
    state,
    latest.1 AS purpose,
    latest.2 AS provisional,
    latest.3 AS mailbox_provider,
    latest.4 AS status,
    latest.5 AS wording,
    toInt64(toUnixTimestamp64Micro(first_at)) AS changed
FROM
(
    SELECT
        list,
        recipient,
        reason,
        scope,
        author,
        state,
        since,
        min(coalesce(written_at, since, toDateTime64(0, 6, 'UTC')) AS at) AS first_at,
        min((kafka_partition, kafka_offset)) AS place,
        argMax((purpose, provisional, mailbox_provider, status, wording), kafka_offset) AS latest
    FROM suppressions
    WHERE at >= toDateTime({from:Int64}, 'UTC') - INTERVAL 30 DAY AND state IN ('suppressed', 'lifted')
    GROUP BY list, recipient, reason, scope, author, state, since
)
WHERE first_at >= toDateTime({from:Int64}, 'UTC')
ORDER BY changed DESC, place.1, place.2 DESC
LIMIT 50
