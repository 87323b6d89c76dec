-- The latest scores of each source.
SELECT
    source,
    prediction,
    toInt64(toUnixTimestamp(scored_at)) AS scored_at,
    forecasts,
    ece,
    coverage,
    bin_forecasts,
    bin_predicted,
    bin_happened
FROM scores FINAL
ORDER BY scored_at DESC
LIMIT 1 BY source, prediction
LIMIT 600
