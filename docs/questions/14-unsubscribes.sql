-- 14. Which campaigns and links lead to unsubscribes?
--
-- Reads: the unsubscribes of the source in the period from `events` by its sorting key, and the clicks on the same
--   messages since 30 days before it.
-- Result: one row per campaign and link that was clicked last before the unsubscribe; an empty link: none was
--   clicked, so the recipient used the button of the mail program or the link was not tracked.
--
-- Parameters, with the values of the example:
--   source = shop
--   from = 2026-10-27 00:00:00
--   to = 2026-11-03 00:00:00
WITH
    unsubscribes AS
    (
        SELECT recipient, message_id, campaign, min(at) AS unsubscribed_at
        FROM events
        WHERE source = {source:String} AND kind = 'unsubscribed' AND has(counts, 'unsubscribed')
            AND at >= {from:DateTime('UTC')} AND at < {to:DateTime('UTC')} AND occurred_at >= {from:DateTime('UTC')}
        GROUP BY recipient, message_id, campaign
    ),
    clicks AS
    (
        SELECT recipient, message_id, at AS clicked_at, cutQueryStringAndFragment(url) AS link
        FROM events
        WHERE source = {source:String} AND kind = 'clicked' AND automation_reason = ''
            AND (authentic OR seen > 0 OR notEmpty(counts))
            AND at < {to:DateTime('UTC')} AND occurred_at >= {from:DateTime('UTC')} - INTERVAL 30 DAY
            AND message_id != '' AND (recipient, message_id) IN (SELECT recipient, message_id FROM unsubscribes)
    )
SELECT unsubscribes.campaign AS campaign, clicks.link AS link, count() AS unsubscribed
FROM unsubscribes
ASOF LEFT JOIN clicks
    ON unsubscribes.recipient = clicks.recipient AND unsubscribes.message_id = clicks.message_id
    AND unsubscribes.unsubscribed_at >= clicks.clicked_at
GROUP BY campaign, link
ORDER BY unsubscribed DESC, campaign, link;
