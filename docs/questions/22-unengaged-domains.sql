-- 22. At which domains does nobody read?
--
-- Reads: `traffic_domain`; nothing of `events`. The view `unengaged_domains` answers it for the last 90 days.
-- Result: one row per domain with at least {least} delivered messages, the most unread messages first. A domain
--   without any engagement may be a trap, or put everything into the spam folder.
--
-- Parameters, with the values of the example:
--   source = shop
--   first_day = 2026-10-01
--   last_day = 2026-11-02
--   least = 20
SELECT
    recipient_domain,
    mailbox_provider,
    sum(traffic_domain.delivered) AS delivered,
    sum(traffic_domain.engaged) AS engaged,
    greatest(0, delivered - engaged) AS unengaged,
    round(least(1, engaged / delivered), 4) AS engagement_rate
FROM traffic_domain
WHERE source = {source:String} AND day BETWEEN {first_day:Date} AND {last_day:Date}
GROUP BY recipient_domain, mailbox_provider
HAVING delivered >= {least:UInt32}
ORDER BY unengaged DESC, recipient_domain, mailbox_provider
LIMIT 50;
