-- What `mailpulse predict` writes (docs/prediction.md). Of each source it writes the histories, odds and best times first,
-- and the row of fits last. All of them have the same written_at. The view predictions reads only the rows of the latest
-- fit of each source, so it never shows a part of a fit. Rows expire by written_at, because a fit can be about the past.
CREATE TABLE IF NOT EXISTS fits
(
    source                  LowCardinality(String) COMMENT 'The source, as in events.',
    fitted_at               DateTime('UTC') COMMENT 'The time of the predictions. Nothing that happened later is in them.',
    written_at              DateTime64(3, 'UTC') COMMENT 'When the run began. The rows of engagement_histories, odds and best_times with the same source and written_at belong to this fit.',
    model                   LowCardinality(String) COMMENT 'The model of the next engagement: bg_bb, beta_binomial (nobody quits), or unknown (fewer than 500 recipients).',
    fitted_to               LowCardinality(String) COMMENT 'Whose recipients the shapes were fitted to: source, or all_sources if fewer than 500 recipients of the source have got two mails or more. Empty if model is unknown.',
    recipients              UInt64 COMMENT 'Recipients who have got a mail that counts.',
    recipients_of_two       UInt64 COMMENT 'Recipients who have got two such mails or more.',
    recipients_fitted       UInt64 COMMENT 'Recipients to whom the shapes were fitted: a sample of about 100,000 if there are more.',
    alpha                   Nullable(Float64) COMMENT 'The first shape of the probability to engage with a mail. NULL if model is unknown, like the other shapes.',
    beta                    Nullable(Float64) COMMENT 'The second shape of the probability to engage with a mail.',
    gamma                   Nullable(Float64) COMMENT 'The first shape of the probability to quit before a mail. NULL also for beta_binomial.',
    delta                   Nullable(Float64) COMMENT 'The second shape of the probability to quit before a mail. NULL also for beta_binomial.',
    log_likelihood          Nullable(Float64) COMMENT 'The natural logarithm of the likelihood of the fitted recipients.',
    best_time_recipients    UInt64 COMMENT 'Recipients whose time zone is known and who have opened two mails or more within two hours, of a sample if there are more than 100,000 zones.',
    best_slot               Nullable(UInt8) COMMENT 'The slot of two hours, from 0 (00 to 02 local time) to 11, in which the recipients of the source open most. NULL: unknown, fewer than 500 recipients.',
    best_time_concentration Nullable(Float64) COMMENT 'How alike the days of recipients are, in deliveries per slot.',
    seconds                 Float64 COMMENT 'How long the run took for this source.'
)
ENGINE = ReplacingMergeTree(written_at)
ORDER BY (source, fitted_at)
TTL toDateTime(written_at) + toIntervalDay(1827);

CREATE TABLE IF NOT EXISTS engagement_histories
(
    source       LowCardinality(String) COMMENT 'The source, as in events.',
    recipient    String COMMENT 'The address.',
    mails        UInt32 COMMENT 'Mails that count: of the newest 365 days, at least three days old.',
    engaged      UInt32 COMMENT 'Those of them that a person opened or clicked within three days.',
    last_engaged UInt32 COMMENT 'The number of the last engaged mail, in the order of sending, from 1. 0: none.',
    zone         LowCardinality(String) COMMENT 'The time zone of the latest open or click by a person in the newest 90 days. Empty: not known.',
    fitted_at    DateTime('UTC') COMMENT 'The time of the predictions.',
    written_at   DateTime64(3, 'UTC') COMMENT 'When the run began, as in fits.'
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(written_at)
ORDER BY (source, recipient, written_at)
TTL toDateTime(written_at) + toIntervalDay(7)
SETTINGS index_granularity = 1024;

CREATE TABLE IF NOT EXISTS odds
(
    source        LowCardinality(String) COMMENT 'The source, as in events.',
    mails         UInt32 COMMENT 'With engaged and last_engaged, a history that recipients have: as in engagement_histories.',
    engaged       UInt32 COMMENT 'Engaged mails.',
    last_engaged  UInt32 COMMENT 'The number of the last engaged mail.',
    recipients    UInt64 COMMENT 'Recipients with this history.',
    model         LowCardinality(String) COMMENT 'bg_bb or beta_binomial.',
    next          Float64 COMMENT 'The probability that such a recipient engages with the next mail.',
    alive         Float64 COMMENT 'The probability that such a recipient will not have quit before the next mail.',
    next_ten_low  UInt8 COMMENT 'Such a recipient engages with at least this many of the next ten mails. With next_ten_high, an interval with a probability of at least 80 %.',
    next_ten_high UInt8 COMMENT 'Such a recipient engages with at most this many of the next ten mails.',
    fitted_at     DateTime('UTC') COMMENT 'The time of the predictions.',
    written_at    DateTime64(3, 'UTC') COMMENT 'When the run began, as in fits.'
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(written_at)
ORDER BY (source, written_at, mails, engaged, last_engaged)
TTL toDateTime(written_at) + toIntervalDay(7);

CREATE TABLE IF NOT EXISTS best_times
(
    source     LowCardinality(String) COMMENT 'The source, as in events.',
    recipient  String COMMENT 'The address. Only recipients whose time zone is known and who have opened two mails or more within two hours have a row.',
    zone       LowCardinality(String) COMMENT 'The time zone of the recipient, as in engagement_histories.',
    delivered  UInt32 COMMENT 'Mails that were delivered in the newest 365 days, at most the newest 1,000.',
    opened     UInt32 COMMENT 'Those of them that a person opened within two hours.',
    slot       UInt8 COMMENT 'The best slot of two hours of the local day, from 0 (00 to 02) to 11.',
    certain    Bool COMMENT 'true: the slot is the recipient\'s own, which is better than that of the source with a probability of at least 0.9. false: it is that of the source.',
    rate       Float64 COMMENT 'The probability that a mail that is delivered in the slot is opened within two hours.',
    rate_low   Float64 COMMENT 'The lower end of an interval that contains the recipient\'s true rate in the slot with a probability of 80 %.',
    rate_high  Float64 COMMENT 'The upper end of that interval.',
    fitted_at  DateTime('UTC') COMMENT 'The time of the predictions.',
    written_at DateTime64(3, 'UTC') COMMENT 'When the run began, as in fits.'
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(written_at)
ORDER BY (source, recipient, written_at)
TTL toDateTime(written_at) + toIntervalDay(7)
SETTINGS index_granularity = 1024;

-- Read it with FINAL: a score that is computed again replaces the row.
CREATE TABLE IF NOT EXISTS scores
(
    source        LowCardinality(String) COMMENT 'The source, as in events.',
    prediction    LowCardinality(String) COMMENT 'next, next_ten or best_time.',
    scored_at     DateTime('UTC') COMMENT 'The time of the score: what happened until then is in it.',
    predicted_at  DateTime('UTC') COMMENT 'The time of the predictions that are scored, about 30 days earlier.',
    refitted      Bool COMMENT 'true: the model was fitted again as of predicted_at, because no fit of that time is stored.',
    forecasts     UInt64 COMMENT 'The predictions about which something happened, of at most about 100,000 recipients.',
    brier         Nullable(Float64) COMMENT 'The mean squared difference between the probability and what happened (0 or 1). NULL for next_ten.',
    log_loss      Nullable(Float64) COMMENT 'The mean of -ln of the probability of what happened. NULL for next_ten.',
    ece           Nullable(Float64) COMMENT 'The expected calibration error of ten bins with the same number of forecasts. NULL for next_ten.',
    coverage      Nullable(Float64) COMMENT 'The share of the 80 % intervals that contain what happened. NULL except for next_ten.',
    bin_forecasts Array(Float64) COMMENT 'The forecasts of each bin, in ascending order of probability.',
    bin_predicted Array(Float64) COMMENT 'The mean probability of each bin.',
    bin_happened  Array(Float64) COMMENT 'The share that happened of each bin.',
    written_at    DateTime64(3, 'UTC') COMMENT 'When the run began.'
)
ENGINE = ReplacingMergeTree(written_at)
ORDER BY (source, prediction, scored_at)
TTL toDateTime(written_at) + toIntervalDay(1827);

CREATE VIEW IF NOT EXISTS predictions
(
    source                LowCardinality(String) COMMENT 'The source, as in events.',
    recipient             String COMMENT 'The address, as in recipients.',
    status                String COMMENT 'Of the next engagement: known, unknown (mostly because the source has fewer than 500 recipients), or miscalibrated (the latest ECE of the source is above 0.05, so nothing is shown).',
    mails                 UInt32 COMMENT 'Mails of the history: of the newest 365 days, at least three days old.',
    engaged               UInt32 COMMENT 'Those of them that a person opened or clicked within three days.',
    last_engaged          UInt32 COMMENT 'The number of the last engaged mail, in the order of sending, from 1. 0: none.',
    next                  Nullable(Float64) COMMENT 'The probability that the recipient engages with the next mail. NULL unless status is known.',
    alive                 Nullable(Float64) COMMENT 'The probability that the recipient will not have quit before the next mail. NULL unless status is known.',
    next_ten_low          Nullable(UInt8) COMMENT 'The recipient engages with at least this many of the next ten mails. With next_ten_high, an interval with a probability of at least 80 %. NULL unless status is known.',
    next_ten_high         Nullable(UInt8) COMMENT 'The recipient engages with at most this many of the next ten mails. NULL unless status is known.',
    best_slot             Nullable(UInt8) COMMENT 'The slot of two hours of the local day, from 0 (00 to 02) to 11, in which a mail is most likely to be opened within two hours. NULL: unknown (fewer than 500 recipients), or the latest ECE of the best time is above 0.05.',
    best_slot_certain     Nullable(Bool) COMMENT 'true: the slot is the recipient\'s own. false: it is that of the source. NULL if best_slot is NULL.',
    best_slot_probability Nullable(Float64) COMMENT 'The probability that a mail that is delivered in best_slot is opened within two hours. NULL if best_slot is NULL, or the recipient has opened fewer than two mails so soon.',
    best_slot_low         Nullable(Float64) COMMENT 'The lower end of an interval that contains the true rate with a probability of 80 %.',
    best_slot_high        Nullable(Float64) COMMENT 'The upper end of that interval.',
    zone                  LowCardinality(String) COMMENT 'The time zone of the recipient. Empty: not known.',
    fitted_at             DateTime('UTC') COMMENT 'The time of the predictions.',
    model                 LowCardinality(String) COMMENT 'bg_bb, beta_binomial or unknown, as in fits.',
    scored_at             Nullable(DateTime('UTC')) COMMENT 'When earlier predictions of next were last scored. NULL: never, because too little was known 30 days ago, or nobody has got mail since.',
    next_brier            Nullable(Float64) COMMENT 'The latest Brier score of next, of the source.',
    next_log_loss         Nullable(Float64) COMMENT 'The latest log loss of next, of the source.',
    next_ece              Nullable(Float64) COMMENT 'The latest expected calibration error of next, of the source.',
    next_ten_coverage     Nullable(Float64) COMMENT 'The latest share of the intervals of the source that contained what happened.',
    best_time_ece         Nullable(Float64) COMMENT 'The latest expected calibration error of the best time, of the source.'
)
AS WITH
    -- Above this expected calibration error, predictions mislead more than they help.
    0.05 AS greatest_ece,
    odd.model != '' AND fit.model != 'unknown' AS has_odds,
    ifNull(score.next_ece > greatest_ece, false) AS next_is_off,
    ifNull(score.best_time_ece > greatest_ece, false) AS best_time_is_off,
    best.recipient != '' AND NOT best_time_is_off AS has_row
SELECT
    history.source AS source,
    history.recipient AS recipient,
    multiIf(NOT has_odds, 'unknown', next_is_off, 'miscalibrated', 'known') AS status,
    history.mails AS mails,
    history.engaged AS engaged,
    history.last_engaged AS last_engaged,
    if(status = 'known', odd.next, NULL) AS next,
    if(status = 'known', odd.alive, NULL) AS alive,
    if(status = 'known', odd.next_ten_low, NULL) AS next_ten_low,
    if(status = 'known', odd.next_ten_high, NULL) AS next_ten_high,
    multiIf(best_time_is_off, NULL, best.recipient != '', toNullable(best.slot), fit.best_slot) AS best_slot,
    if(isNull(best_slot), NULL, best.certain) AS best_slot_certain,
    if(has_row, best.rate, NULL) AS best_slot_probability,
    if(has_row, best.rate_low, NULL) AS best_slot_low,
    if(has_row, best.rate_high, NULL) AS best_slot_high,
    history.zone AS zone,
    history.fitted_at AS fitted_at,
    fit.model AS model,
    score.scored_at AS scored_at,
    score.next_brier AS next_brier,
    score.next_log_loss AS next_log_loss,
    score.next_ece AS next_ece,
    score.next_ten_coverage AS next_ten_coverage,
    score.best_time_ece AS best_time_ece
FROM engagement_histories AS history
INNER JOIN
(
    SELECT source, written_at, model, best_slot
    FROM fits FINAL
    ORDER BY fitted_at DESC
    LIMIT 1 BY source
) AS fit ON fit.source = history.source AND fit.written_at = history.written_at
-- Only the rows of the latest fits are joined, because the tables have those of a week.
LEFT JOIN
(
    SELECT *
    FROM odds
    WHERE (source, written_at) IN (SELECT source, written_at FROM fits FINAL ORDER BY fitted_at DESC LIMIT 1 BY source)
) AS odd
    ON odd.source = history.source AND odd.written_at = history.written_at AND odd.mails = history.mails
    AND odd.engaged = history.engaged AND odd.last_engaged = history.last_engaged
LEFT JOIN
(
    SELECT *
    FROM best_times
    WHERE (source, written_at) IN (SELECT source, written_at FROM fits FINAL ORDER BY fitted_at DESC LIMIT 1 BY source)
) AS best
    ON best.source = history.source AND best.written_at = history.written_at AND best.recipient = history.recipient
LEFT JOIN
(
    SELECT
        source,
        maxIf(toNullable(its.scored_at), its.prediction = 'next') AS scored_at,
        argMaxIf(its.brier, its.scored_at, its.prediction = 'next') AS next_brier,
        argMaxIf(its.log_loss, its.scored_at, its.prediction = 'next') AS next_log_loss,
        argMaxIf(its.ece, its.scored_at, its.prediction = 'next') AS next_ece,
        argMaxIf(its.coverage, its.scored_at, its.prediction = 'next_ten') AS next_ten_coverage,
        argMaxIf(its.ece, its.scored_at, its.prediction = 'best_time') AS best_time_ece
    FROM scores AS its FINAL
    GROUP BY source
) AS score ON score.source = history.source
COMMENT 'What is predicted about each recipient, by the latest run of mailpulse predict. Recipients without a mail in the newest 365 days have no row.';

CREATE VIEW IF NOT EXISTS predictions_masked
(
    source                LowCardinality(String) COMMENT 'The source, as in events.',
    recipient             String COMMENT 'The masked address, such as ada…@example.com.',
    status                String COMMENT 'As in predictions, like all further columns.',
    mails                 UInt32 COMMENT 'Mails of the history.',
    engaged               UInt32 COMMENT 'Engaged mails.',
    last_engaged          UInt32 COMMENT 'The number of the last engaged mail.',
    next                  Nullable(Float64) COMMENT 'The probability that the recipient engages with the next mail.',
    alive                 Nullable(Float64) COMMENT 'The probability that the recipient will not have quit before the next mail.',
    next_ten_low          Nullable(UInt8) COMMENT 'The lower end of the interval for the next ten mails.',
    next_ten_high         Nullable(UInt8) COMMENT 'The upper end of that interval.',
    best_slot             Nullable(UInt8) COMMENT 'The slot of two hours of the local day, from 0 to 11.',
    best_slot_certain     Nullable(Bool) COMMENT 'Whether the slot is the recipient\'s own.',
    best_slot_probability Nullable(Float64) COMMENT 'The probability that a mail in the slot is opened within two hours.',
    best_slot_low         Nullable(Float64) COMMENT 'The lower end of the interval of the rate.',
    best_slot_high        Nullable(Float64) COMMENT 'The upper end of that interval.',
    zone                  LowCardinality(String) COMMENT 'The time zone of the recipient.',
    fitted_at             DateTime('UTC') COMMENT 'The time of the predictions.',
    model                 LowCardinality(String) COMMENT 'bg_bb, beta_binomial or unknown.'
)
AS SELECT
    source,
    if(recipient = '', '', concat(substringUTF8(splitByChar('@', recipient)[1], 1, if(lengthUTF8(splitByChar('@', recipient)[1]) > 3, 3, 1)), '…', if(position(recipient, '@') > 0, concat('@', splitByChar('@', recipient)[-1]), ''))) AS recipient,
    status,
    mails,
    engaged,
    last_engaged,
    next,
    alive,
    next_ten_low,
    next_ten_high,
    best_slot,
    best_slot_certain,
    best_slot_probability,
    best_slot_low,
    best_slot_high,
    zone,
    fitted_at,
    model
FROM predictions;
