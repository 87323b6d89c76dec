-- What each rule has done. The same sums as automation_rules, but of the whole time, in which recipients are counted once.
WITH (toUnixTimestamp64Micro(decided_at) - toUnixTimestamp64Micro(at)) / 1000000 AS seconds
SELECT
    rule,
    type,
    count() AS actions,
    uniqExactIf(recipient, recipient != '') AS recipients,
    countIf(follow_up) AS follow_ups,
    avg(seconds) AS seconds_avg,
    min(seconds) AS seconds_min,
    max(seconds) AS seconds_max,
    toInt64(toUnixTimestamp64Micro(max(at))) AS latest
FROM actions
WHERE at >= toDateTime({from:Int64}, 'UTC')
GROUP BY rule, type
ORDER BY rule, type
LIMIT 500
