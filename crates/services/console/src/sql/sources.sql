-- Every source of the last five weeks, when it was last heard from, and its events of the last day. Of sources that
-- were silent for a day, only the quarter of an hour is known.
SELECT
    concat(provider, '/', source) AS source,
    max(part.heard_at) AS heard_at,
    toUInt64(greatest(sum(part.events), 0)) AS events
FROM
(
    SELECT
        provider,
        source,
        toInt64(toUnixTimestamp(max(at15))) AS heard_at,
        sumIf(traffic.events, at15 > now() - INTERVAL 1 DAY) AS events
    FROM traffic
    WHERE at15 > now() - INTERVAL 35 DAY
    GROUP BY provider, source
    UNION ALL
    SELECT
        provider,
        source,
        toUnixTimestamp(max(received_at)) AS heard_at,
        toInt64(0) AS events
    FROM events
    WHERE received_at > now() - INTERVAL 1 DAY AND occurred_at > now() - INTERVAL 1 DAY
    GROUP BY provider, source
) AS part
GROUP BY provider, source
ORDER BY source
LIMIT 1000
