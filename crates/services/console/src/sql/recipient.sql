-- The newest events of a recipient.
SELECT
    toUnixTimestamp64Micro(at) AS at,
    toUnixTimestamp64Micro(received_at) AS received_at,
    toString(kind) AS kind,
    concat(provider, '/', source) AS source,
    {address:String} AS recipient,
    toString(mailbox_provider) AS mailbox_provider,
    toString(campaign) AS campaign,
    detail,
    url,
    toString(automation_reason) AS automation_reason,
    authentic,
    message_id
FROM recipient_story(address = {address:String})
ORDER BY at DESC, received_at DESC
LIMIT 1001
