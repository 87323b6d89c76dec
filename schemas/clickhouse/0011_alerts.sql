-- What a rule counts, by which numbers it was broken, and the events that give exactly these numbers. Rows of an
-- earlier release have empty values and `seq` 0; `mailpulse alerts verify` cannot verify them.
ALTER TABLE alerts ADD COLUMN IF NOT EXISTS family LowCardinality(String)
    COMMENT 'What the rule is about: bounces, blocks, complaints, engagement, silence or list_quality.' AFTER tenant;
ALTER TABLE alerts ADD COLUMN IF NOT EXISTS basis LowCardinality(String)
    COMMENT 'Which events count: those of a window (arrival), what happened to mail sent in it (cohort), everything since the campaign began (campaign), or the time without events (gap).' AFTER family;
ALTER TABLE alerts ADD COLUMN IF NOT EXISTS seq UInt32
    COMMENT 'The number of the transition in its episode, from 1.' AFTER basis;
ALTER TABLE alerts ADD COLUMN IF NOT EXISTS reason LowCardinality(String)
    COMMENT 'Why the episode is over: recovered, no_traffic, rule_removed or closed. Empty while it is open.' AFTER state;
ALTER TABLE alerts ADD COLUMN IF NOT EXISTS window LowCardinality(String)
    COMMENT 'The window of the rule as in the settings, such as 5m, 24h-48h or campaign. width_seconds is 0 if it is no duration.' AFTER metric;
ALTER TABLE alerts ADD COLUMN IF NOT EXISTS bound Nullable(Float64)
    COMMENT 'With the confidence of the rule, the true rate is beyond this one.' AFTER threshold;
ALTER TABLE alerts ADD COLUMN IF NOT EXISTS numerator UInt64
    COMMENT 'The numerator of value, in messages. volume is the denominator.' AFTER bound;
ALTER TABLE alerts ADD COLUMN IF NOT EXISTS window_from DateTime64(6, 'UTC')
    COMMENT 'The first moment of the window, by event time (for a cohort, by the time of sending).' AFTER at;
ALTER TABLE alerts ADD COLUMN IF NOT EXISTS window_to DateTime64(6, 'UTC')
    COMMENT 'The first moment after the window.' AFTER window_from;
ALTER TABLE alerts ADD COLUMN IF NOT EXISTS as_of Map(UInt16, UInt64)
    COMMENT 'By partition of mail.events, the next offset: exactly the events with kafka_offset < as_of[kafka_partition] count.' AFTER window_to;
ALTER TABLE alerts ADD COLUMN IF NOT EXISTS labels Map(String, String)
    COMMENT 'The labels of the rule.' AFTER summary;

-- What has become of each incident: the values of mail.incidents. An incident has one row per change; the row with
-- the greatest seq is its present state.
CREATE TABLE IF NOT EXISTS incidents
(
    id                   String COMMENT 'The incident, 32 hexadecimal digits.',
    seq                  UInt32 COMMENT 'The number of the change, from 1.',
    page                 UInt32 COMMENT 'The number of notifications so far. 0: people do not know of it yet.',
    change               LowCardinality(String) COMMENT 'opened, escalated, reminder, digest, updated, handled or resolved.',
    state                LowCardinality(String) COMMENT 'open, stale (too little mail to judge) or resolved.',
    reason               LowCardinality(String) COMMENT 'Why it is over, as in alerts.',
    severity             LowCardinality(String) COMMENT 'The highest so far: warning, critical or page.',
    family               LowCardinality(String) COMMENT 'What it is about, as in alerts.',
    `group`              LowCardinality(String) COMMENT 'What its episodes have in common: source, tenant, mailbox_provider, provider or ours.',
    group_of             LowCardinality(String) COMMENT 'Which one: sendgrid/acme for a source. Empty for ours.',
    sources              Array(String) COMMENT 'The first ten sources with open episodes, such as sendgrid/acme.',
    source_count         UInt32 COMMENT 'The number of all of them.',
    opened_at            DateTime64(6, 'UTC') COMMENT 'The start of the first episode, by event time.',
    at                   DateTime64(6, 'UTC') COMMENT 'The time of this change, by event time.',
    opened_by            String COMMENT 'The episode that opened the incident.',
    lead_episode_id      String COMMENT 'The episode that the page is about: the most severe one of the widest scope. The columns lead_… are those of its latest alert.',
    lead_rule            LowCardinality(String),
    lead_scope           LowCardinality(String) COMMENT 'The key of the scope, such as campaign/sendgrid/acme/spring.',
    lead_metric          LowCardinality(String),
    lead_window          LowCardinality(String),
    lead_numerator       UInt64 COMMENT 'Messages.',
    lead_volume          UInt64 COMMENT 'The denominator, messages.',
    lead_value           Nullable(Float64) COMMENT 'lead_numerator / lead_volume.',
    lead_threshold       Float64,
    lead_bound           Nullable(Float64),
    summary              String COMMENT 'The latest alert of the lead in one line.',
    runbook              String,
    cause_scope          LowCardinality(String) COMMENT 'The key of the smallest scope that has at least 80 % of the excess. Empty if there is none.',
    cause_share          Nullable(Float64) COMMENT 'Its share of the excess, from 0.8 to 1.',
    cause_numerator      UInt64,
    cause_volume         UInt64,
    cause_rest_numerator UInt64 COMMENT 'The numerator of everything else of the source.',
    cause_rest_volume    UInt64,
    episodes             UInt32 COMMENT 'The number of all its episodes.',
    open_episodes        UInt32,
    episode_ids          Array(String) COMMENT 'The lead and at most 20 other episodes.',
    acknowledged_by      String,
    assigned_to          String,
    snoozed_until        Nullable(DateTime64(6, 'UTC')),
    judged               LowCardinality(String) COMMENT 'Whether the page was right: true, false or duplicate. Empty if nobody has judged it.',
    closed_by            String,
    merged_into          String COMMENT 'The incident that this one is now part of.',
    record               String COMMENT 'The whole record as JSON, by schemas/incident.schema.json.' CODEC(ZSTD(1)),
    kafka_partition      UInt16,
    kafka_offset         UInt64,
    archived_at          DateTime64(3, 'UTC') DEFAULT now64(3),
    INDEX kafka_offset_range kafka_offset TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
ORDER BY (id, seq)
SETTINGS non_replicated_deduplication_window = 10000, enable_block_number_column = 1;
