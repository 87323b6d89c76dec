-- Who must not be mailed now, by reason, and then by list and reason. The limit is for lists: there are only a few reasons.
SELECT
    toBool(grouping(list)) AS is_total,
    list,
    reason,
    count() AS entries,
    uniqExact(recipient) AS recipients,
    countIf(provisional) AS provisional
FROM suppressed_now
GROUP BY GROUPING SETS ((reason), (list, reason))
ORDER BY is_total DESC, entries DESC, list, reason
LIMIT 250
