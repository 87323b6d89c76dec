-- 8. Which list do hard bounces come from?
--
-- Reads: deliveries and bounces of one source, from `events` by its sorting key: those of the period, and of the
--   hour before and the day after it, which can correct it. The origin is a label of the look-up table, and no
--   sum is kept by label, so choose a short period: a day of fifty million events in a month is about 1.3 % of
--   them.
-- Result: one row per value of the label. The rate is hard bounces by sent, as in docs/metrics.md. Corrections by
--   events up to a day after the period are in it: a message that bounced softly and was delivered hours later
--   counts as delivered only.
--
-- Parameters, with the values of the example:
--   source = shop
--   label = list
--   from = 2026-11-02 00:00:00
--   to = 2026-11-03 00:00:00
SELECT
    origin,
    sumIf(number, hasAny(counters, ['delivered', 'bounced_hard', 'bounced_soft', 'bounced_block', 'bounced_undetermined'])) AS sent,
    sumIf(number, has(counters, 'bounced_hard')) AS bounced_hard,
    round(bounced_hard / nullIf(sent, 0), 4) AS hard_bounce_rate
FROM
(
    SELECT
        labels[{label:String}] AS origin,
        splitByChar(',', splitByChar(':', corrections)[2]) AS changes,
        arrayJoin(arrayConcat(
            [(CAST(counts AS Array(String)), at, toInt64(1))],
            corrections = '' ? [] : arrayMap(
                change -> (
                    [substring(splitByChar('@', change)[1], 2)],
                    fromUnixTimestamp64Micro(toInt64OrZero(splitByChar('@', change)[2]), 'UTC'),
                    startsWith(change, '-') ? toInt64(-1) : toInt64(1)
                ),
                changes
            )
        )) AS part,
        part.1 AS counters,
        part.2 AS counted_at,
        part.3 AS number
    FROM events
    WHERE source = {source:String} AND kind IN ('delivered', 'bounced')
        AND at < {to:DateTime('UTC')} + INTERVAL 1 DAY AND occurred_at >= {from:DateTime('UTC')} - INTERVAL 1 HOUR
)
WHERE counted_at >= {from:DateTime('UTC')} AND counted_at < {to:DateTime('UTC')}
GROUP BY origin
HAVING sent > 0
ORDER BY hard_bounce_rate DESC, origin;
