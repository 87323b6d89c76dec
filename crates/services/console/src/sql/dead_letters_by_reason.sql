-- Dead letters that nobody has redriven, by reason. A dead letter can be written twice, so `origin` tells which are
-- the same.
SELECT
    toString(reason) AS reason,
    toString(stage) AS stage,
    if(source = '', '', concat(provider, '/', source)) AS source,
    uniqExact(if(origin = '', concat('#', toString(kafka_partition), '/', toString(kafka_offset)), origin)) AS records,
    1000 * toUnixTimestamp64Milli(max(archived_at)) AS latest
FROM dead_letters
WHERE reason != 'redriven' AND archived_at >= toDateTime({from:Int64}, 'UTC')
    AND (kafka_partition, kafka_offset) NOT IN
    (
        SELECT toUInt16OrZero(parts[-2]), toUInt64OrZero(parts[-1])
        FROM (SELECT splitByChar('/', origin) AS parts FROM dead_letters WHERE reason = 'redriven')
    )
GROUP BY reason, stage, source
ORDER BY records DESC, reason, stage, source
LIMIT 500
