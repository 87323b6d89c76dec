-- 19. Which links work, by how many people?
--
-- Reads: the clicks of the source in the period, from `events` by its sorting key. Without the people, the view
--   `link_performance` is faster.
-- Result: one row per campaign and link, without its query. people counts each recipient once per link, and
--   clicks every click.
--
-- Parameters, with the values of the example:
--   source = shop
--   from = 2026-10-27 00:00:00
--   to = 2026-11-03 00:00:00
SELECT
    campaign,
    cutQueryStringAndFragment(url) AS link,
    uniqExactIf(recipient, automation_reason = '') AS people,
    countIf(automation_reason = '') AS clicks,
    countIf(automation_reason != '') AS machine_clicks
FROM events
WHERE source = {source:String} AND kind = 'clicked' AND (authentic OR seen > 0 OR notEmpty(counts))
    AND at >= {from:DateTime('UTC')} AND at < {to:DateTime('UTC')} AND occurred_at >= {from:DateTime('UTC')}
GROUP BY campaign, link
ORDER BY people DESC, campaign, link;
