-- 2. What are the rates by mailbox provider and local day?
--
-- Reads: `deliverability`, which sums up `traffic`; nothing of `events`.
-- Result: one row per day in the time zone and mailbox provider. A day is a sum of quarters of an hour, so it
--   is exact in every time zone, also in those with a half hour, and on the days of 23 and 25 hours when clocks
--   change.
--
-- Parameters, with the values of the example:
--   source = shop
--   zone = Asia/Kolkata
--   first_day = 2026-10-30
--   last_day = 2026-11-02
WITH (k, n) -> if(n > 0, round(least(1, greatest(0, k) / n), 4), NULL) AS rate
SELECT
    toDate(at15, {zone:String}) AS day,
    mailbox_provider,
    sum(deliverability.sent) AS sent,
    sum(deliverability.bounced) AS bounced,
    rate(bounced, sent) AS bounce_rate,
    sum(deliverability.bounced_hard) AS bounced_hard,
    rate(bounced_hard, sent) AS hard_bounce_rate,
    sum(deliverability.opened) AS opened,
    sum(deliverability.accepted_by_recipient) AS accepted_by_recipient,
    rate(opened, accepted_by_recipient) AS open_rate,
    sum(deliverability.complained) AS complained,
    sum(deliverability.delivered_fbl) AS delivered_fbl,
    rate(complained, delivered_fbl) AS complaint_rate
FROM deliverability
WHERE source = {source:String} AND at15 >= toDateTime({first_day:Date}, {zone:String}) AND at15 < toDateTime({last_day:Date} + 1, {zone:String})
GROUP BY day, mailbox_provider
ORDER BY day, mailbox_provider;
