-- 13. Who complained, and what had they received before?
--
-- Reads: the complaints of the source in the period from `events`, and the mail of the latest 100 of these
--   recipients from `message_life`, which is sorted by recipient.
-- Result: one row per recipient who complained, with the first complaint of the period, the latest first: how many
--   messages the recipient had received, opened and clicked before it, and the campaigns. A further complaint about
--   the same message does not count. Many who never opened anything point to a list without consent.
--
-- Parameters, with the values of the example:
--   source = shop
--   from = 2026-10-27 00:00:00
--   to = 2026-11-03 00:00:00
WITH complaints AS
    (
        SELECT recipient, min(at) AS complained_at, argMin(campaign, at) AS about
        FROM events
        WHERE source = {source:String} AND kind = 'complained' AND has(counts, 'complained')
            AND at >= {from:DateTime('UTC')} AND at < {to:DateTime('UTC')} AND occurred_at >= {from:DateTime('UTC')}
        GROUP BY recipient
        ORDER BY complained_at DESC, recipient
        LIMIT 100
    )
SELECT
    complaints.complained_at AS complained_at,
    complaints.recipient AS recipient,
    complaints.about AS about,
    countIf(mail.delivered_at < complaints.complained_at) AS received_before,
    countIf(mail.first_opened_at < complaints.complained_at) AS opened_before,
    countIf(mail.first_clicked_at < complaints.complained_at) AS clicked_before,
    arraySort(groupUniqArrayIf(mail.campaign, mail.delivered_at < complaints.complained_at)) AS campaigns
FROM complaints
LEFT JOIN
(
    SELECT recipient, campaign, delivered_at, first_opened_at, first_clicked_at
    FROM messages
    WHERE source = {source:String} AND recipient IN (SELECT recipient FROM complaints)
) AS mail ON mail.recipient = complaints.recipient
GROUP BY complained_at, recipient, about
ORDER BY complained_at DESC, recipient;
