-- Events by steps of `step` seconds.
SELECT
    toInt64(intDiv(toUnixTimestamp(toDateTime(at, 'UTC')), greatest({step:UInt32}, 1)) * {step:UInt32}) AS at_step,
    count() AS events
FROM events
WHERE at >= toDateTime({from:Int64}, 'UTC') AND at < toDateTime({to:Int64}, 'UTC')
    AND occurred_at >= toDateTime({from:Int64}, 'UTC')
    AND ({provider:String} = '' OR provider = {provider:String})
    AND ({source:String} = '' OR source = {source:String})
GROUP BY at_step
ORDER BY at_step
LIMIT 20000
