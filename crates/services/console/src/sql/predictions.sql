-- What is predicted about the recipients of each source. variance is that of the number of recipients who engage with
-- their next mail.
SELECT
    source,
    model,
    count() AS recipients,
    countIf(status = 'known') AS known,
    countIf(status = 'miscalibrated') AS miscalibrated,
    ifNull(sum(next), 0) AS expected,
    ifNull(sum(next * (1 - next)), 0) AS variance,
    countIf(best_slot_certain) AS certain,
    countIf(isNotNull(best_slot)) AS with_slot,
    toInt64(toUnixTimestamp(max(fitted_at))) AS fitted_at
FROM predictions
GROUP BY source, model
ORDER BY source, model
LIMIT 200
