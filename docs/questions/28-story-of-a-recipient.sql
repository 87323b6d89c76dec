-- 28. What happened to all mail of this recipient?
--
-- Reads: the events of the recipient, from `events` by the projection `by_recipient`.
-- Result: one row per event in order. The view recipient(address) sums it up.
--
-- Parameters, with the values of the example:
--   address = reader-055@example.org
SELECT at, kind, source, message_id, campaign, detail, url, automation_reason, counts
FROM recipient_story(address = {address:String});
