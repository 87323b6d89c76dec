-- The most frequent bounce reasons of a campaign.
SELECT
    toString(bounce_permanence) AS permanence,
    toString(bounce_class) AS class,
    toString(bounce_status) AS status,
    sum(bounce_reasons.messages) AS messages,
    anyLast((bounce_reasons.example, bounce_reasons.example_event_id)) AS latest,
    latest.1 AS example,
    latest.2 AS example_event_id
FROM bounce_reasons
WHERE source = {source:String} AND provider = {provider:String} AND campaign = {campaign:String}
    AND day >= toDate(toDateTime({from:Int64}, 'UTC'), 'UTC')
GROUP BY permanence, class, status
ORDER BY messages DESC, class, status
LIMIT 20
