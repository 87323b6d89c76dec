-- Events by kind. An event counts when it happened, but not after it was received (the column `at`).
SELECT toString(kind) AS name, count() AS events
FROM events
WHERE at >= toDateTime({from:Int64}, 'UTC') AND at < toDateTime({to:Int64}, 'UTC')
    AND occurred_at >= toDateTime({from:Int64}, 'UTC')
    AND ({provider:String} = '' OR provider = {provider:String})
    AND ({source:String} = '' OR source = {source:String})
GROUP BY kind
ORDER BY kind
