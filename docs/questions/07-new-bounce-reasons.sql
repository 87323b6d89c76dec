-- 7. Which bounce reasons are new since yesterday, or far above what is usual?
--
-- Reads: the bounces of the source of eight days, from `events` by its sorting key. The view
--   `bounce_reason_changes` answers it for the time now and all sources.
-- Result: one row per mailbox provider and reason of the last 24 hours that is new, or at least three times the
--   median of the seven days before, or whose median is 0.
--
-- Parameters, with the values of the example:
--   source = shop
--   now = 2026-11-03 00:00:00
SELECT
    mailbox_provider,
    bounce_class,
    bounce_status,
    countIf(days_ago = 0) AS last_day,
    [countIf(days_ago = 1), countIf(days_ago = 2), countIf(days_ago = 3), countIf(days_ago = 4),
        countIf(days_ago = 5), countIf(days_ago = 6), countIf(days_ago = 7)] AS days_before,
    arraySort(days_before)[4] AS median
FROM
(
    SELECT
        mailbox_provider,
        bounce_class,
        bounce_status,
        intDiv(dateDiff('second', at, {now:DateTime('UTC')}), 86400) AS days_ago
    FROM events
    WHERE source = {source:String} AND kind = 'bounced'
        AND bounce_class NOT IN ('auto_reply', 'suppressed') AND (authentic OR seen > 0 OR notEmpty(counts))
        AND at > {now:DateTime('UTC')} - INTERVAL 8 DAY AND at <= {now:DateTime('UTC')}
        AND occurred_at > {now:DateTime('UTC')} - INTERVAL 8 DAY
)
GROUP BY mailbox_provider, bounce_class, bounce_status
HAVING last_day > 0 AND last_day >= 3 * median
ORDER BY last_day DESC, mailbox_provider, bounce_class, bounce_status;
