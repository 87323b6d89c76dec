-- 25. Have the predictions of a month ago come true?
--
-- Reads: `scores`; nothing of `events`. `mailpulse predict` fills it every night.
-- Result: ten rows with the same number of forecasts each, the least probable first, of the latest score: the mean
--   probability that was predicted, the share that has happened, the difference, and the expected calibration error of
--   all rows. In a good model, every difference is near 0.
--
-- Parameters, with the values of the example:
--   source = shop
--   prediction = next
SELECT
    bin,
    forecasts_of_bin AS forecasts,
    round(predicted, 4) AS predicted,
    round(happened, 4) AS happened,
    round(happened - predicted, 4) AS difference,
    round(ece, 4) AS calibration_error,
    scored_at
FROM
(
    SELECT scored_at, ece, bin_forecasts, bin_predicted, bin_happened
    FROM scores FINAL
    WHERE source = {source:String} AND prediction = {prediction:String}
    ORDER BY scored_at DESC
    LIMIT 1
)
ARRAY JOIN
    bin_forecasts AS forecasts_of_bin,
    bin_predicted AS predicted,
    bin_happened AS happened,
    arrayEnumerate(bin_predicted) AS bin
ORDER BY bin;
