-- 4. What has become of each campaign?
--
-- Reads: `campaign_funnel`, which sums up `traffic`; nothing of `events`.
-- Result: one row per campaign, from sending to complaints. Opens and clicks are those of people;
--   open_with_machines_rate is the upper end of the open rate. Messages count in the campaign that their events
--   name; `(several)` has the corrections of messages whose events disagree.
--
-- Parameters, with the values of the example:
--   source = shop
SELECT
    campaign,
    began_at,
    injected,
    sent,
    delivered,
    bounced,
    late_bounces,
    opened,
    machine_opened,
    clicked,
    complained,
    unsubscribed,
    round(delivery_rate, 4) AS delivery_rate,
    round(bounce_rate, 4) AS bounce_rate,
    round(open_rate, 4) AS open_rate,
    round(open_with_machines_rate, 4) AS open_with_machines_rate,
    round(click_rate, 4) AS click_rate,
    round(plain_complaint_rate, 4) AS plain_complaint_rate,
    round(unsubscribe_rate, 4) AS unsubscribe_rate
FROM campaign_funnel
WHERE source = {source:String}
ORDER BY began_at, campaign;
