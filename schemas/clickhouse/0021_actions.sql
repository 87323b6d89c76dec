-- What the rules of automate do: the values of mail.actions, and of each the time of its Kafka record. An action has one
-- row. It is there before its delivery, which can fail.
CREATE TABLE IF NOT EXISTS actions
(
    action_id        String COMMENT 'The digest of rule, event and index, 32 hexadecimal digits. Its delivery has it as Idempotency-Key.',
    rule             LowCardinality(String) COMMENT 'The name of the rule.',
    `index`          LowCardinality(String) COMMENT 'Which action of the rule: its index in do. 2.0 is the first one in the follow-up at 2.',
    type             LowCardinality(String) COMMENT 'What is done: webhook, slack, crm, task, email, segment.add, segment.remove, list.add, list.remove or points.',
    name             LowCardinality(String) COMMENT 'The segment, the list, or the template of the mail. Empty for other types.',
    add              Nullable(Int64) COMMENT 'The points. NULL for other types.',
    at               DateTime64(6, 'UTC') COMMENT 'When the ingress received the event, or when the follow-up was due.',
    decided_at       Nullable(DateTime64(6, 'UTC')) COMMENT 'When automate decided it: the time of the Kafka record, in milliseconds. NULL: not known, because the record was redriven.',
    intent_id        String COMMENT 'The intent that led to it, 32 hexadecimal digits. All actions of a rule for one event have the same, and those of each follow-up another.',
    follow_up        Bool COMMENT 'Whether it belongs to a follow-up.',
    event_id         String COMMENT 'The event that started the rule, as in events, or the incident, as in incidents.',
    kind             LowCardinality(String) COMMENT 'The kind of the event, or incident.',
    provider         LowCardinality(String) COMMENT 'The email service provider of the event or incident. Empty: an incident of several.',
    source           LowCardinality(String) COMMENT 'The source of the event or incident. Empty: an incident of several.',
    tenant           LowCardinality(String) COMMENT 'The tenant from the look-up table. Empty: none.',
    campaign         LowCardinality(String) COMMENT 'The campaign of the event or incident. Empty: none.',
    message_id       String COMMENT 'The provider\'s id of the message. Empty: not known.',
    recipient        String COMMENT 'The address of the recipient, or its pseudonym. Empty: an incident started the rule.',
    mailbox_provider LowCardinality(String) COMMENT 'The operator of the recipient\'s mailbox, such as gmail.',
    kafka_partition  UInt16 COMMENT 'The partition of the record in Kafka. It says nothing about the mail.',
    kafka_offset     UInt64 COMMENT 'The offset of the record in that partition.',
    archived_at      DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When ClickHouse stored the row.',
    INDEX kafka_offset_range kafka_offset TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
ORDER BY (rule, at)
SETTINGS non_replicated_deduplication_window = 10000, enable_block_number_column = 1;

-- How often each rule acted on a day, and how long the decisions took. Recipients cannot be added: who got actions of two
-- types or on two days is counted in both rows.
CREATE VIEW IF NOT EXISTS automation_rules
(
    rule                    LowCardinality(String) COMMENT 'The name of the rule.',
    type                    LowCardinality(String) COMMENT 'What was done, as in actions.',
    day                     Date COMMENT 'The day in UTC on which the event was received, or the follow-up was due.',
    actions                 UInt64 COMMENT 'Actions.',
    recipients              UInt64 COMMENT 'Different recipients.',
    follow_ups              UInt64 COMMENT 'Actions that belong to a follow-up.',
    seconds_to_decision_avg Nullable(Float64) COMMENT 'The average time from the receipt of the event, or from when the follow-up was due, to the decision, in seconds. NULL: not known.',
    seconds_to_decision_min Nullable(Float64) COMMENT 'The least of these times, in seconds. It can be below 0 if the clocks of the machines differ.',
    seconds_to_decision_max Nullable(Float64) COMMENT 'The greatest of these times, in seconds.'
)
AS WITH (toUnixTimestamp64Micro(decided_at) - toUnixTimestamp64Micro(at)) / 1000000 AS seconds
SELECT
    rule,
    type,
    toDate(at) AS day,
    count() AS actions,
    uniqExactIf(recipient, recipient != '') AS recipients,
    countIf(follow_up) AS follow_ups,
    avg(seconds) AS seconds_to_decision_avg,
    min(seconds) AS seconds_to_decision_min,
    max(seconds) AS seconds_to_decision_max
FROM actions
GROUP BY rule, type, day;
