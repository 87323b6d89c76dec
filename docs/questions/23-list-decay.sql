-- 23. How fast does the list decay?
--
-- Reads: `list_decay`, which sums up `traffic_domain`; nothing of `events`.
-- Result: one row per week: messages to dead addresses, late bounces, complaints and unsubscribes, together
--   lost, as a part of what was sent, next to engagement.
--
-- Parameters, with the values of the example:
--   source = shop
--   first_week = 2026-09-28
--   last_week = 2026-11-02
SELECT
    week,
    sent,
    bounced_hard,
    late_bounces,
    complained,
    unsubscribed,
    lost,
    round(decay, 4) AS decay,
    round(engagement_rate, 4) AS engagement_rate
FROM list_decay
WHERE source = {source:String} AND week BETWEEN {first_week:Date} AND {last_week:Date}
ORDER BY week;
