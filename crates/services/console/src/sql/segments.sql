-- The members of each segment, as far as actions tell: the recipients whose newest action on it added them. All actions
-- of a recipient are in one partition, in the order of the decisions.
SELECT
    name,
    countIf(newest = 'segment.add') AS members,
    sum(adds) AS added,
    sum(removes) AS removed,
    toInt64(toUnixTimestamp64Micro(max(changed))) AS latest
FROM
(
    SELECT
        name,
        recipient,
        argMax(type, kafka_offset) AS newest,
        countIf(type = 'segment.add' AND at >= toDateTime({from:Int64}, 'UTC')) AS adds,
        countIf(type = 'segment.remove' AND at >= toDateTime({from:Int64}, 'UTC')) AS removes,
        max(at) AS changed
    FROM actions
    WHERE type IN ('segment.add', 'segment.remove')
    GROUP BY name, recipient
)
GROUP BY name
ORDER BY members DESC, name
LIMIT 200
