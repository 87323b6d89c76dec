-- The newest dead letters that nobody has redriven.
SELECT
    toString(reason) AS reason,
    toString(stage) AS stage,
    if(source = '', '', concat(provider, '/', source)) AS source,
    key,
    substringUTF8(detail, 1, 500) AS detail,
    length(value) AS bytes,
    concat(toString(kafka_partition), '/', toString(kafka_offset)) AS id,
    1000 * toUnixTimestamp64Milli(archived_at) AS archived
FROM dead_letters
WHERE reason != 'redriven' AND archived_at >= toDateTime({from:Int64}, 'UTC')
    AND ({reason:String} = '' OR reason = {reason:String})
    AND (kafka_partition, kafka_offset) NOT IN
    (
        SELECT toUInt16OrZero(parts[-2]), toUInt64OrZero(parts[-1])
        FROM (SELECT splitByChar('/', origin) AS parts FROM dead_letters WHERE reason = 'redriven')
    )
ORDER BY archived_at DESC, kafka_partition, kafka_offset DESC
LIMIT 100
