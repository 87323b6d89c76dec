-- 1. What are the rates by mailbox provider, by quarter of an hour of the last day?
--
-- Reads: `deliverability`, which sums up `traffic`; nothing of `events`.
-- Result: one row per quarter and mailbox provider in which something was counted. Each rate has its numerator
--   and denominator, and the bounce rate its interval of Wilson at 95 %: with little mail the interval is wide,
--   and the rate says little.
--
-- Parameters, with the values of the example:
--   source = shop
--   from = 2026-11-02 08:00:00
--   to = 2026-11-02 12:00:00
SELECT
    at15,
    mailbox_provider,
    sent,
    bounced,
    round(bounce_rate, 4) AS bounce_rate,
    round(bounce_rate_low, 4) AS bounce_rate_low,
    round(bounce_rate_high, 4) AS bounce_rate_high,
    deferred,
    round(deferral_rate, 4) AS deferral_rate,
    complained,
    delivered_fbl,
    round(complaint_rate, 4) AS complaint_rate
FROM deliverability
WHERE source = {source:String} AND at15 >= {from:DateTime('UTC')} AND at15 < {to:DateTime('UTC')}
ORDER BY at15, mailbox_provider;
