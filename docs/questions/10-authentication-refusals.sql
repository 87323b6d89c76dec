-- 10. Which sending domains fail authentication?
--
-- Reads: `reputation`, which sums up `traffic_ip`; nothing of `events`.
-- Result: one row per sending domain with messages that servers refused because SPF, DKIM or DMARC failed,
--   deferrals and bounces together.
--
-- Parameters, with the values of the example:
--   source = shop
--   from = 2026-10-27 00:00:00
--   to = 2026-11-03 00:00:00
SELECT
    sender_domain,
    sum(reputation.sent) AS sent,
    sum(reputation.auth_refused) AS auth_refused,
    round(auth_refused / nullIf(sent, 0), 4) AS share,
    arraySort(groupUniqArrayIf(mailbox_provider, reputation.auth_refused > 0)) AS refused_by
FROM reputation
WHERE source = {source:String} AND hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')}
GROUP BY sender_domain
HAVING sent > 0 OR auth_refused > 0
ORDER BY auth_refused DESC, sender_domain;
