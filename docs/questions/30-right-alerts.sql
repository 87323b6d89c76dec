-- 30. Which alerts were right, and how long did they take?
--
-- Reads: `incidents`; nothing of `events`.
-- Result: one row per family: incidents that people were notified of, what they judged them to be, and the
--   median and the longest time from the start of the first episode to the first notification. Judge incidents
--   with `mailpulse alerts judge`.
--
-- Parameters, with the values of the example:
--   from = 2026-10-27 00:00:00
--   to = 2026-11-03 00:00:00
SELECT
    family,
    count() AS incidents,
    countIf(judged = 'true') AS right,
    countIf(judged = 'false') AS wrong,
    countIf(judged = 'duplicate') AS duplicates,
    countIf(judged = '') AS not_judged,
    quantileExact(0.5)(seconds) AS p50_seconds_to_page,
    max(seconds) AS max_seconds_to_page
FROM
(
    SELECT
        id,
        argMax(incidents.family, seq) AS family,
        argMax(incidents.judged, seq) AS judged,
        min(incidents.opened_at) AS began_at,
        dateDiff('second', began_at, minIf(incidents.at, page > 0)) AS seconds
    FROM incidents
    GROUP BY id
    HAVING max(page) > 0 AND began_at >= {from:DateTime('UTC')} AND began_at < {to:DateTime('UTC')}
)
GROUP BY family
ORDER BY family;
