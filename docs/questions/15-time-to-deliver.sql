-- 15. How long does delivery take, by mailbox provider?
--
-- Reads: the deliveries of the source in the period, from `events` by its sorting key. Choose a short period: a
--   day of fifty million events in a month is about 1.2 % of them.
-- Result: one row per mailbox provider with the quantiles of the time from sending to delivery in seconds.
--   Messages whose provider does not say when it sent them are not in it.
--
-- Parameters, with the values of the example:
--   source = shop
--   from = 2026-11-02 00:00:00
--   to = 2026-11-03 00:00:00
SELECT
    mailbox_provider,
    count() AS messages,
    quantileExact(0.5)(seconds) AS p50_seconds,
    quantileExact(0.9)(seconds) AS p90_seconds,
    quantileExact(0.99)(seconds) AS p99_seconds,
    max(seconds) AS max_seconds
FROM
(
    SELECT mailbox_provider, greatest(0, dateDiff('second', assumeNotNull(sent_at), at)) AS seconds
    FROM events
    WHERE source = {source:String} AND kind = 'delivered' AND has(counts, 'delivered') AND sent_at IS NOT NULL
        AND at >= {from:DateTime('UTC')} AND at < {to:DateTime('UTC')} AND occurred_at >= {from:DateTime('UTC')}
)
GROUP BY mailbox_provider
ORDER BY p50_seconds DESC, mailbox_provider;
