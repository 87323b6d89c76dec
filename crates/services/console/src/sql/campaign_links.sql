-- The links of a campaign that people clicked most.
SELECT
    url,
    sum(link_performance.clicks) AS clicks,
    sum(link_performance.clicked) AS clicked,
    sum(link_performance.machine_clicks) AS machine_clicks
FROM link_performance
WHERE source = {source:String} AND provider = {provider:String} AND campaign = {campaign:String}
    AND day >= toDate(toDateTime({from:Int64}, 'UTC'), 'UTC')
GROUP BY url
ORDER BY clicked DESC, clicks DESC, url
LIMIT 20
