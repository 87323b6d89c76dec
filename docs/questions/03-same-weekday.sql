-- 3. Is today different from the same weekday of the last four weeks?
--
-- Reads: `deliverability`, which sums up `traffic`; nothing of `events`.
-- Result: one row per mailbox provider: today until {until}, and the mean of the same hours of the four weeks
--   before. Today is the local day in the time zone; in the earlier weeks the same local times count. times is
--   the bounce rate divided by the usual one.
--
-- Parameters, with the values of the example:
--   source = shop
--   zone = America/New_York
--   day = 2026-11-02
--   until = 18:00
WITH
    (k, n) -> if(n > 0, round(least(1, greatest(0, k) / n), 4), NULL) AS rate,
    dateDiff('week', toDate(at15, {zone:String}), {day:Date}) AS weeks_ago
SELECT
    mailbox_provider,
    sumIf(deliverability.sent, weeks_ago = 0) AS sent,
    sumIf(deliverability.sent, weeks_ago > 0) / 4 AS usually_sent,
    sumIf(deliverability.bounced, weeks_ago = 0) AS bounced,
    rate(bounced, sent) AS bounce_rate,
    rate(sumIf(deliverability.bounced, weeks_ago > 0), sumIf(deliverability.sent, weeks_ago > 0)) AS bounce_rate_usual,
    round(bounce_rate / nullIf(bounce_rate_usual, 0), 2) AS times
FROM deliverability
WHERE source = {source:String}
    AND at15 >= toDateTime({day:Date} - 28, {zone:String}) AND at15 < toDateTime({day:Date} + 1, {zone:String})
    AND toDayOfWeek(at15, 0, {zone:String}) = toDayOfWeek({day:Date})
    AND formatDateTime(at15, '%R', {zone:String}) < {until:String}
GROUP BY mailbox_provider
ORDER BY sent DESC, mailbox_provider;
