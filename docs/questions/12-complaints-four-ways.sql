-- 12. What is the complaint rate: of providers that report, of all, by arrival and by cohort?
--
-- Reads: `traffic` and `cohorts`; nothing of `events`.
-- Result: four rates of the same days. Only mailbox providers that report complaints can be in a fair
--   denominator; the rate of all is what many tools show. By arrival, today's complaints are about older mail;
--   by cohort, they belong to the mail that they are about.
--
-- Parameters, with the values of the example:
--   source = shop
--   from = 2026-10-27 00:00:00
--   to = 2026-11-03 00:00:00
WITH (k, n) -> if(n > 0, round(least(1, greatest(0, k) / n), 5), NULL) AS rate
SELECT
    basis,
    complained,
    accepted_fbl,
    rate(complained, accepted_fbl) AS complaint_rate,
    accepted,
    rate(complained, accepted) AS plain_complaint_rate
FROM
(
    SELECT
        'arrival' AS basis,
        sum(traffic.complained) AS complained,
        sum(delivered_fbl) AS accepted_fbl,
        sum(delivered) AS accepted
    FROM traffic
    WHERE source = {source:String} AND at15 >= {from:DateTime('UTC')} AND at15 < {to:DateTime('UTC')}
    UNION ALL
    SELECT
        'cohort',
        sum(cohorts.complained),
        sum(delivered_fbl - late_bounces_fbl),
        sum(delivered - late_bounces)
    FROM cohorts
    WHERE source = {source:String} AND sent_hour >= {from:DateTime('UTC')} AND sent_hour < {to:DateTime('UTC')}
)
ORDER BY basis;
