-- The recipients of the examples of bounce reasons.
SELECT toString(event_id) AS event_id, any(recipient) AS recipient
FROM events
WHERE source = {source:String} AND provider = {provider:String} AND campaign = {campaign:String}
    AND kind = 'bounced' AND has({ids:Array(String)}, toString(event_id))
GROUP BY event_id
