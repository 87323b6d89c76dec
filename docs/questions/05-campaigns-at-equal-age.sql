-- 5. How do campaigns compare at the same age?
--
-- Reads: `cohorts`; nothing of `events`.
-- Result: one row per campaign with what had happened {hours} hours after each message was sent, whole hours up
--   to 24 and whole days after that. Campaigns whose last messages are younger than that are left out.
--
-- Parameters, with the values of the example:
--   source = shop
--   hours = 24
--   now = 2026-11-03 00:00:00
WITH (k, n) -> if(n > 0, round(least(1, greatest(0, k) / n), 4), NULL) AS rate
SELECT
    campaign,
    max(sent_hour) AS last_sent_hour,
    sum(cohorts.delivered) AS delivered,
    sum(cohorts.late_bounces) AS late_bounces,
    delivered - late_bounces AS accepted_by_recipient,
    sum(cohorts.opened) AS opened,
    rate(opened, accepted_by_recipient) AS open_rate,
    sum(cohorts.clicked) AS clicked,
    rate(clicked, accepted_by_recipient) AS click_rate,
    sum(cohorts.complained) AS complained,
    sum(cohorts.unsubscribed) AS unsubscribed
FROM cohorts
WHERE source = {source:String} AND campaign != '' AND age < {hours:UInt16}
GROUP BY campaign
HAVING last_sent_hour + INTERVAL 1 HOUR <= {now:DateTime('UTC')} - toIntervalHour({hours:UInt16})
ORDER BY open_rate DESC, campaign;
