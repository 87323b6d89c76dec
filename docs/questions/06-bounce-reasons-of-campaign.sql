-- 6. Why does mail of a campaign bounce?
--
-- Reads: the bounces of the source in the period, from `events` by its sorting key: at most a few percent of
--   the mail of these days.
-- Result: one row per reason, the most frequent first, with the latest answer of a server and its event.
--   messages counts each message once; late are those that had been delivered before. A bounce that a later
--   delivery made a deferral, or that a worse bounce replaced, is still here.
--
-- Parameters, with the values of the example:
--   source = shop
--   campaign = spring
--   from = 2026-10-27 00:00:00
--   to = 2026-11-03 00:00:00
SELECT
    bounce_class,
    bounce_permanence,
    bounce_side,
    countIf(hasAny(counts, ['bounced_hard', 'bounced_soft', 'bounced_block', 'bounced_undetermined', 'late_bounces'])) AS messages,
    countIf(has(counts, 'late_bounces')) AS late,
    uniqExact(mailbox_provider) AS mailbox_providers,
    argMax(bounce_diagnostic, (at, event_id)) AS example
FROM events
WHERE source = {source:String} AND kind = 'bounced' AND campaign = {campaign:String}
    AND bounce_class NOT IN ('auto_reply', 'suppressed') AND (authentic OR seen > 0 OR notEmpty(counts))
    AND at >= {from:DateTime('UTC')} AND at < {to:DateTime('UTC')} AND occurred_at >= {from:DateTime('UTC')}
GROUP BY bounce_class, bounce_permanence, bounce_side
ORDER BY messages DESC, bounce_class, bounce_permanence, bounce_side;
