-- The transitions of the episodes of an incident.
SELECT
    toInt64(toUnixTimestamp64Micro(alerts.at)) AS changed,
    toString(state) AS state,
    toString(severity) AS severity,
    toString(rule) AS rule,
    summary
FROM alerts
WHERE episode_id IN
(
    SELECT arrayJoin(arrayPushBack(episode_ids, opened_by)) FROM incidents WHERE id = {id:String}
)
ORDER BY alerts.at, episode_id, seq
LIMIT 500
