-- The entries that began, were renewed or ended, by the day of the change in UTC. A provisional entry that becomes final has
-- a second record with the same since, which does not count. The first one can be from before the time that is shown.
SELECT
    toInt64(toUnixTimestamp(toStartOfDay(first_at))) AS day,
    reason,
    uniqExactIf((list, recipient, scope), state = 'suppressed') AS suppressed,
    uniqExactIf((list, recipient, scope), state = 'lifted') AS lifted
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
        min(coalesce(written_at, since, toDateTime64(0, 6, 'UTC')) AS at) AS first_at
    FROM suppressions
    WHERE at >= toDateTime({from:Int64}, 'UTC') - INTERVAL 30 DAY AND state IN ('suppressed', 'lifted')
    GROUP BY list, recipient, reason, scope, author, state, since
)
WHERE first_at >= toDateTime({from:Int64}, 'UTC')
GROUP BY day, reason
ORDER BY day, reason
