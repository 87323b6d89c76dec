-- 18. At which domains do machines click?
--
-- Reads: `traffic_domain`; nothing of `events`.
-- Result: one row per domain of recipients with clicks, the greatest share of machines first: gateways that
--   check links. Do not count the clicks of people there as proof of interest either: the first clicks of a
--   scanner look like those of a person.
--
-- Parameters, with the values of the example:
--   source = shop
--   first_day = 2026-10-27
--   last_day = 2026-11-02
SELECT
    recipient_domain,
    sum(traffic_domain.delivered) AS delivered,
    sum(traffic_domain.clicked) AS clicked,
    sum(traffic_domain.machine_clicked) AS machine_clicked,
    round(machine_clicked / nullIf(clicked + machine_clicked, 0), 4) AS machine_share
FROM traffic_domain
WHERE source = {source:String} AND day BETWEEN {first_day:Date} AND {last_day:Date}
GROUP BY recipient_domain
HAVING machine_clicked > 0
ORDER BY machine_share DESC, machine_clicked DESC, recipient_domain
LIMIT 50;
