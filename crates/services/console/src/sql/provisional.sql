-- The entries that wait for the end of an incident, by incident.
SELECT
    incident,
    mailbox_provider,
    count() AS entries,
    toInt64(toUnixTimestamp64Micro(min(since))) AS earliest
FROM suppressed_now
WHERE provisional
GROUP BY incident, mailbox_provider
ORDER BY entries DESC, incident, mailbox_provider
LIMIT 50
