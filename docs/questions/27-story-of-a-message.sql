-- 27. What happened to this message?
--
-- Reads: the events of the message, from `events` by the projection `by_message`.
-- Result: one row per event in order. counts names what the event counts for; corrections, what it changes in
--   earlier counts.
--
-- Parameters, with the values of the example:
--   id = 00000000-0000-0000-0000-00010000000c
SELECT at, kind, recipient, mailbox_provider, campaign, detail, url, automation_reason, counts
FROM message_story(id = {id:String});
