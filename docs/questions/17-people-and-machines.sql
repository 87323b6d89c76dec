-- 17. How many opens are by people, and how many by machines?
--
-- Reads: `engagement`, which sums up `traffic`; nothing of `events`.
-- Result: one row per mailbox provider. The open rate is between open_rate (people) and
--   open_with_machines_rate: behind a privacy proxy may be a reader, or not.
--
-- Parameters, with the values of the example:
--   source = shop
--   from = 2026-10-27 00:00:00
--   to = 2026-11-03 00:00:00
WITH (k, n) -> if(n > 0, round(least(1, greatest(0, k) / n), 4), NULL) AS rate
SELECT
    mailbox_provider,
    sum(engagement.accepted_by_recipient) AS accepted_by_recipient,
    sum(engagement.opened) AS opened,
    sum(engagement.machine_opened) AS machine_opened,
    rate(opened, accepted_by_recipient) AS open_rate,
    rate(opened + machine_opened, accepted_by_recipient) AS open_with_machines_rate,
    sum(engagement.clicked) AS clicked,
    sum(engagement.machine_clicked) AS machine_clicked,
    rate(clicked, accepted_by_recipient) AS click_rate
FROM engagement
WHERE source = {source:String} AND at15 >= {from:DateTime('UTC')} AND at15 < {to:DateTime('UTC')}
GROUP BY mailbox_provider
ORDER BY mailbox_provider;
