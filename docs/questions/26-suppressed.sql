-- 26. Who is suppressed now, and was mail sent to them nevertheless?
--
-- Reads: `suppressed_now`; the events that caused the entries, from `events`; and the mail of these recipients from
--   `messages`. Entries have no address, and their digest needs a secret key, so a recipient is known from the event in
--   event_id. Entries of operators and imports, and those whose event has expired, are not in the answer.
-- Result: one row per reason of entries that events of the source caused: entries, recipients, how many of these
--   recipients were sent mail by the source in the period although the first stored event of this kind about them was
--   earlier, and how many messages. Mail that the provider dropped was not sent. An entry that was lifted in between, and
--   mail of another stream than that of an unsubscription, make no difference.
--
-- Parameters, with the values of the example:
--   source = shop
--   from = 2026-10-27 00:00:00
--   to = 2026-11-03 00:00:00
WITH
    mail.sent_at > if(entries.reason = 'soft_bounces', entries.since, firsts.began) AS is_after,
    entries AS
    (
        SELECT reason, list, scope, since, event_id
        FROM suppressed_now
        WHERE event_id != ''
    ),
    causes AS
    (
        SELECT event_id, any(events.kind) AS cause, any(events.recipient) AS recipient
        FROM events
        WHERE source = {source:String} AND kind IN ('bounced', 'complained', 'unsubscribed')
            AND event_id IN (SELECT event_id FROM entries)
        GROUP BY event_id
    ),
    -- Newer evidence renews an entry, so its own time is no beginning.
    firsts AS
    (
        SELECT kind, recipient, min(occurred_at) AS began
        FROM events
        WHERE source = {source:String} AND recipient IN (SELECT recipient FROM causes)
            AND (kind IN ('complained', 'unsubscribed')
                OR kind = 'bounced' AND bounce_permanence = 'hard' AND bounce_side = 'recipient')
        GROUP BY kind, recipient
    ),
    mail AS
    (
        SELECT recipient, message_id, sent_at
        FROM messages
        WHERE source = {source:String} AND recipient IN (SELECT recipient FROM causes)
            AND outcome IN ('accepted', 'deferred', 'delivered', 'bounced', 'late_bounce')
            AND sent_at >= {from:DateTime('UTC')} AND sent_at < {to:DateTime('UTC')}
    )
SELECT
    entries.reason AS reason,
    uniqExact(entries.list, entries.scope, causes.recipient) AS number_of_entries,
    uniqExact(causes.recipient) AS recipients,
    uniqExactIf(causes.recipient, is_after) AS recipients_mailed,
    uniqExactIf((mail.recipient, mail.message_id), is_after) AS messages_sent
FROM entries
INNER JOIN causes ON causes.event_id = entries.event_id
LEFT JOIN firsts ON firsts.kind = causes.cause AND firsts.recipient = causes.recipient
LEFT JOIN mail ON mail.recipient = causes.recipient
GROUP BY reason
ORDER BY reason;
