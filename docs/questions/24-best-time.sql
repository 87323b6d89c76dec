-- 24. At which time of day are mails opened within two hours, where that is certain?
--
-- Reads: `best_times`, `fits` and `scores`; nothing of `events`. `mailpulse predict` fills them every night.
-- Result: one row per slot of two hours of the recipient's local day, the most frequent first: the recipients whose own
--   best slot it is with certainty, and the means of the probability that a mail delivered in it is opened within two
--   hours, and of the ends of its interval of 80 % (they are no interval of the mean). No row if nothing is certain, or if the latest score of the source is
--   bad (an expected calibration error above 0.05).
--
-- Parameters, with the values of the example:
--   source = shop
SELECT
    slot * 2 AS from_hour,
    count() AS recipients,
    round(avg(rate), 4) AS probability,
    round(avg(rate_low), 4) AS low,
    round(avg(rate_high), 4) AS high
FROM best_times
WHERE source = {source:String} AND certain
    AND written_at = (SELECT argMax(written_at, fitted_at) FROM fits FINAL WHERE source = {source:String})
    AND (
        SELECT ifNull(argMax(ece, scored_at), 0)
        FROM scores FINAL
        WHERE source = {source:String} AND prediction = 'best_time'
    ) <= 0.05
GROUP BY slot
ORDER BY recipients DESC, from_hour;
