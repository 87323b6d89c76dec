SELECT
    toUnixTimestamp64Micro(at) AS at,
    toUnixTimestamp64Micro(received_at) AS received_at,
    toString(kind) AS kind,
    concat(provider, '/', source) AS source,
    recipient,
    toString(mailbox_provider) AS mailbox_provider,
    toString(campaign) AS campaign,
    detail,
    url,
    toString(automation_reason) AS automation_reason,
    authentic,
    {id:String} AS message_id
FROM message_story(id = {id:String})
ORDER BY at, received_at
LIMIT 1001
