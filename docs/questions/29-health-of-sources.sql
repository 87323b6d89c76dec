-- 29. What is repeated, late, lost or stale, by source?
--
-- Reads: the events that were received in the period, by the index on `received_at`, and their dead letters.
--   Choose a short period: of fifty million events in a month, twelve hours of a day are 2.5 %. The views
--   `duplicates_and_late` and `freshness` have the same by hour.
-- Result: one row per source. stored_twice must be 0. Duplicates that were dropped before are in no table;
--   `mailpulse_dedupe_duplicates_total` counts them. dead_letters counts each record once, without those that were
--   redriven. The last columns are seconds from the event to its receipt.
--
-- Parameters, with the values of the example:
--   from = 2026-11-02 08:00:00
--   to = 2026-11-02 20:00:00
SELECT
    provider,
    source,
    sum(stored) AS events,
    sum(twice) AS stored_twice,
    sum(again) AS repeated,
    sum(hours_late) AS late_hour,
    sum(days_late) AS late_day,
    sum(timeless) AS without_time,
    sum(dead) AS dead_letters,
    max(median) AS p50_to_receipt,
    max(longest) AS max_to_receipt
FROM
(
    SELECT
        provider,
        source,
        count() AS stored,
        stored - uniqExact(event_id) AS twice,
        countIf(seen > 1) AS again,
        countIf(received_at > occurred_at + INTERVAL 1 HOUR) AS hours_late,
        countIf(received_at > occurred_at + INTERVAL 1 DAY) AS days_late,
        countIf(time_fault != '') AS timeless,
        0 AS dead,
        quantileExact(0.5)(dateDiff('second', at, received_at)) AS median,
        max(dateDiff('second', at, received_at)) AS longest
    FROM events
    WHERE received_at >= {from:DateTime('UTC')} AND received_at < {to:DateTime('UTC')}
    GROUP BY provider, source
    UNION ALL
    SELECT
        provider,
        source,
        0, 0, 0, 0, 0, 0,
        uniqExact(if(origin = '', concat(toString(kafka_partition), '/', toString(kafka_offset)), origin)),
        0, 0
    FROM dead_letters
    WHERE reason != 'redriven'
        AND coalesce(received_at, archived_at) >= {from:DateTime('UTC')}
        AND coalesce(received_at, archived_at) < {to:DateTime('UTC')}
        AND concat(toString(kafka_partition), '/', toString(kafka_offset)) NOT IN
        (
            SELECT arrayStringConcat(arraySlice(splitByChar('/', origin), -2), '/')
            FROM dead_letters
            WHERE reason = 'redriven'
        )
    GROUP BY provider, source
)
GROUP BY provider, source
ORDER BY provider, source;
