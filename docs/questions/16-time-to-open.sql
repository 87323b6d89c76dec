-- 16. When do people open?
--
-- Reads: the opens of the source in the period, from `events` by its sorting key.
-- Result: one row per campaign with the quantiles of the time from sending to the first open by a person, in
--   seconds. When most opens come decides how long to wait before campaigns are compared.
--
-- Parameters, with the values of the example:
--   source = shop
--   from = 2026-10-27 00:00:00
--   to = 2026-11-03 00:00:00
SELECT
    campaign,
    count() AS messages,
    quantileExact(0.25)(seconds) AS p25_seconds,
    quantileExact(0.5)(seconds) AS p50_seconds,
    quantileExact(0.75)(seconds) AS p75_seconds,
    quantileExact(0.9)(seconds) AS p90_seconds
FROM
(
    SELECT campaign, greatest(0, dateDiff('second', assumeNotNull(sent), at)) AS seconds
    FROM events
    WHERE source = {source:String} AND kind = 'opened' AND has(counts, 'opened') AND sent IS NOT NULL
        AND at >= {from:DateTime('UTC')} AND at < {to:DateTime('UTC')} AND occurred_at >= {from:DateTime('UTC')}
)
GROUP BY campaign
ORDER BY campaign;
