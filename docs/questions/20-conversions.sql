-- 20. Which campaigns convert?
--
-- Reads: `conversions`, which reads the clicks of the source in the period from `events` by its sorting key.
-- Result: one row per campaign and conversion of `[[enrich.conversion]]`: messages with such a click by a
--   person, and the sum of the values in the URLs. A message that converts on two days counts on both days.
--
-- Parameters, with the values of the example:
--   source = shop
--   first_day = 2026-10-27
--   last_day = 2026-11-02
SELECT
    campaign,
    conversion,
    sum(conversions.events) AS events,
    sum(conversions.messages) AS messages,
    round(sum(conversions.value), 2) AS value
FROM conversions
WHERE source = {source:String} AND day BETWEEN {first_day:Date} AND {last_day:Date}
GROUP BY campaign, conversion
ORDER BY value DESC, campaign, conversion;
