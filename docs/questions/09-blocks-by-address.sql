-- 9. Which sending addresses are blocked, and by whom?
--
-- Reads: `reputation`, which sums up `traffic_ip`; nothing of `events`.
-- Result: one row per sending address and mailbox provider, the most blocked first. The interval of Wilson
--   keeps addresses with little mail apart. Where a provider does not tell the address, the stream stands for
--   it.
--
-- Parameters, with the values of the example:
--   source = shop
--   from = 2026-10-27 00:00:00
--   to = 2026-11-03 00:00:00
WITH
    (k, n) -> if(n > 0, round(least(1, greatest(0, k) / n), 4), NULL) AS rate,
    (k, n) -> if(n > 0, round(greatest(0, (k + 1.9208 - 1.96 * sqrt(k * (n - k) / n + 0.9604)) / (n + 3.8416)), 4), NULL) AS wilson_low
SELECT
    sending_ip,
    mailbox_provider,
    sum(reputation.sent) AS sent,
    sum(reputation.bounced_block) AS bounced_block,
    rate(bounced_block, sent) AS block_bounce_rate,
    wilson_low(bounced_block, sent) AS block_bounce_rate_low,
    sum(reputation.deferrals) AS deferrals,
    sum(reputation.throttled) AS throttled,
    sum(reputation.listed) AS listed
FROM reputation
WHERE source = {source:String} AND hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')}
GROUP BY sending_ip, mailbox_provider
HAVING sent > 0 OR deferrals > 0
ORDER BY block_bounce_rate_low DESC NULLS LAST, sending_ip, mailbox_provider;
