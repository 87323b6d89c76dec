SELECT
    toString(source) AS source,
    toString(mailbox_provider) AS mailbox_provider,
    received,
    opened,
    clicked,
    bounces,
    complaints,
    engagement_cohort,
    score,
    toBool(unsubscribed_at > toDateTime64(0, 3, 'UTC')) AS has_unsubscribed
FROM recipient(address = {address:String})
LIMIT 100
