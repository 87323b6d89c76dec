-- The actions of each rule by day in UTC.
SELECT
    rule,
    toInt64(toUnixTimestamp(toDateTime(day, 'UTC'))) AS at,
    sum(rules.actions) AS actions
FROM automation_rules AS rules
WHERE day >= toDate(toDateTime({from:Int64}, 'UTC'))
GROUP BY rule, at
ORDER BY at, rule
