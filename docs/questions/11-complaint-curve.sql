-- 11. How do complaints arrive with age, and how many will there be?
--
-- Reads: `cohorts`; nothing of `events`.
-- Result: one row per age of the reference: the messages that were sent in the {reference_days} days before the
--   period and are at least eight days old. share is the part of its complaints that had arrived before the
--   next age. The four last columns are about the period and equal in all rows: complaint_rate_estimate divides its
--   complaints by its messages, each hour of sending weighted with the share of its age at {now}; within a day
--   of the curve, complaints are taken to arrive evenly. It is right as far as complaints arrive as those of the
--   reference did.
--
-- Parameters, with the values of the example:
--   source = shop
--   from = 2026-10-26 00:00:00
--   to = 2026-11-02 00:00:00
--   reference_days = 28
--   now = 2026-11-03 00:00:00
WITH
    reference AS
    (
        SELECT age, sum(cohorts.complained) AS complained
        FROM cohorts
        WHERE source = {source:String}
            AND sent_hour >= {from:DateTime('UTC')} - toIntervalDay({reference_days:UInt16})
            AND sent_hour < least({from:DateTime('UTC')}, {now:DateTime('UTC')} - INTERVAL 8 DAY)
        GROUP BY age
    ),
    (SELECT groupArray((age, complained)) FROM reference) AS points,
    period AS
    (
        SELECT
            sum(cohorts.complained) AS complained,
            sum(cohorts.delivered_fbl - cohorts.late_bounces_fbl) AS accepted_fbl,
            dateDiff('hour', sent_hour, {now:DateTime('UTC')}) AS hours,
            arraySum(
                point -> point.2 * greatest(0, least(1, (hours - point.1) / if(point.1 < 24, 1, 24))),
                points
            ) / nullIf(arraySum(point -> point.2, points), 0) AS share
        FROM cohorts
        WHERE source = {source:String} AND sent_hour >= {from:DateTime('UTC')} AND sent_hour < {to:DateTime('UTC')}
        GROUP BY sent_hour
    )
SELECT
    age,
    sum(reference.complained) OVER (ORDER BY age) AS reference_complained,
    round(reference_complained / nullIf(sum(reference.complained) OVER (), 0), 4) AS share,
    (SELECT sum(complained) FROM period) AS complained,
    (SELECT sum(accepted_fbl) FROM period) AS accepted_fbl,
    round(complained / nullIf(accepted_fbl, 0), 5) AS complaint_rate_so_far,
    round(complained / nullIf((SELECT sum(accepted_fbl * share) FROM period), 0), 5) AS complaint_rate_estimate
FROM reference
ORDER BY age;
