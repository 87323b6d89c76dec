-- Who changed or read personal data with the operator's tool. Addresses are not in it: a subject is a keyed digest.
-- The TTL is the default of archive.retention.audit. It is set here because the role writer (roles.sql) may not change
-- this table: a user who may set a TTL can also remove rows with it.
CREATE TABLE IF NOT EXISTS audit
(
    at       DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the command ended, or began if the result is started.',
    who      LowCardinality(String) COMMENT 'The user of the operating system who logged in, the host, and the name by the environment, which the user can choose: uid 1000@ops-1 (ada).',
    command  LowCardinality(String) COMMENT 'erase, export, reclassify or heal.',
    subject  String COMMENT 'The recipient, as the HMAC-SHA256 of the address with privacy.erasure_key, 64 hexadecimal digits. Empty if the command is not about a recipient.',
    counts   Map(LowCardinality(String), UInt64) COMMENT 'The rows that were changed or read, by table.',
    result   LowCardinality(String) COMMENT 'started: rows are about to be read. done. incomplete: something was left, which the detail tells.',
    detail   String COMMENT 'What was left, and what the command was told. It contains no address.'
)
ENGINE = MergeTree
ORDER BY at
TTL toDateTime(at) + toIntervalDay(1827)
SETTINGS non_replicated_deduplication_window = 10000;
