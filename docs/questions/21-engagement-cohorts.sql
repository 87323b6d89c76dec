-- 21. How many recipients are recently engaged?
--
-- Reads: `recipients`, which is refreshed once an hour; nothing of `events`. It counts recipients at {now},
--   from their latest open or click.
-- Result: one row per cohort: new (first message within 7 days), recent (open or click within 14 days),
--   semi-recent (90), not recent (365), never (no open or click, or more than 365 days
--   ago).
--
-- Parameters, with the values of the example:
--   source = shop
--   now = 2026-11-03 00:00:00
SELECT
    multiIf(
        first_sent_at > {now:DateTime('UTC')} - INTERVAL 7 DAY, 'new',
        last_engaged_at > {now:DateTime('UTC')} - INTERVAL 14 DAY, 'recent',
        last_engaged_at > {now:DateTime('UTC')} - INTERVAL 90 DAY, 'semi-recent',
        last_engaged_at > {now:DateTime('UTC')} - INTERVAL 365 DAY, 'not recent',
        'never'
    ) AS cohort,
    count() AS number_of_recipients,
    sum(received) AS messages_received,
    sum(bounces) AS messages_bounced,
    round(avg(score), 4) AS mean_score
FROM recipients FINAL
WHERE source = {source:String}
GROUP BY cohort
ORDER BY indexOf(['new', 'recent', 'semi-recent', 'not recent', 'never'], cohort);
