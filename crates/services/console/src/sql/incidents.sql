-- The incidents of a time that are over, the newest first.
SELECT
    id,
    toString(severity) AS severity,
    toString(state) AS state,
    toString(family) AS family,
    summary,
    toInt64(toUnixTimestamp64Micro(opened_at)) AS opened,
    toInt64(toUnixTimestamp64Micro(at)) AS changed,
    toString(reason) AS reason,
    toString(judged) AS judged
FROM (SELECT * FROM incidents WHERE at >= toDateTime({from:Int64}, 'UTC') ORDER BY seq DESC LIMIT 1 BY id)
WHERE state = 'resolved'
ORDER BY opened_at DESC, id
LIMIT 200
