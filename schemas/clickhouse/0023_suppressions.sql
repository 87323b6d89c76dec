-- Who must not be mailed, and how that has changed: the values of mail.suppressions, without who and note. A record has one
-- row. The topic is compacted, so what archive has not read within about an hour can lack steps in between. The latest state is
-- never missing, unless archive was more than seven days behind when it was forgotten. Rows do not expire, because suppressed_now follows from all of them.
CREATE TABLE IF NOT EXISTS suppressions
(
    list             LowCardinality(String) COMMENT 'The list, such as ses/news, tenant/acme or global.',
    recipient        String COMMENT 'The keyed digest of the address, 32 hexadecimal digits. The event in event_id has the address.',
    reason           LowCardinality(String) COMMENT 'hard_bounce, complaint, unsubscribe, soft_bounces or manual.',
    scope            LowCardinality(String) COMMENT 'The provider\'s group or stream of an unsubscription. Empty: all.',
    author           LowCardinality(String) COMMENT 'Who wrote the record: event (the service suppress, because of an event), operator (who adds), or lift (an operator who ended the entry). An entry has one state of each.',
    state            LowCardinality(String) COMMENT 'suppressed, lifted, or forgotten: the state of this author counts no longer.',
    purpose          LowCardinality(String) COMMENT 'The mail that the entry stops: marketing or transactional. Empty: all.',
    since            Nullable(DateTime64(6, 'UTC')) COMMENT 'When the newest evidence happened, or the entry was added or lifted. NULL if state is forgotten.',
    expires_at       Nullable(DateTime64(6, 'UTC')) COMMENT 'When the entry ends by itself. NULL: never.',
    provisional      Bool COMMENT 'Whether the entry waits for the end of an incident.',
    event_id         String COMMENT 'The event that decided it, as in events. Empty: an operator, or time.',
    provider         LowCardinality(String) COMMENT 'The email service provider of the event.',
    mailbox_provider LowCardinality(String) COMMENT 'The operator of the recipient\'s mailbox, such as gmail.',
    status           LowCardinality(String) COMMENT 'The enhanced status code of the bounce, such as 5.1.1.',
    wording          String COMMENT 'The answer of the receiving server, without addresses.',
    incident         String COMMENT 'The id of the incident during which the entry began, as in incidents. It is provisional until the incident is over. Empty: none.',
    written_at       Nullable(DateTime64(6, 'UTC')) COMMENT 'When suppress or an operator wrote it: the time of the Kafka record, in milliseconds. NULL: the record has no time.',
    kafka_partition  UInt16 COMMENT 'The partition of the record in Kafka. All records of one entry and author are in the same.',
    kafka_offset     UInt64 COMMENT 'The offset of the record in that partition.',
    archived_at      DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When ClickHouse stored the row.',
    INDEX kafka_offset_range kafka_offset TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
ORDER BY (list, recipient, reason, scope, author, kafka_partition, kafka_offset)
SETTINGS non_replicated_deduplication_window = 10000, enable_block_number_column = 1;

-- The rules are those of the service: crates/libraries/suppression/src/standing.rs and table.rs. Times are compared in
-- seconds, and an entry ends after whole hours, as the service keeps them.
CREATE VIEW IF NOT EXISTS suppressed_now
(
    list             LowCardinality(String) COMMENT 'The list. Entries of the list global count for every list.',
    recipient        String COMMENT 'The keyed digest of the address, as in suppressions.',
    reason           LowCardinality(String) COMMENT 'hard_bounce, complaint, unsubscribe, soft_bounces or manual.',
    scope            LowCardinality(String) COMMENT 'The provider\'s group or stream of an unsubscription. Empty: all.',
    author           LowCardinality(String) COMMENT 'Who wrote what counts now: event or operator.',
    purpose          LowCardinality(String) COMMENT 'The mail that the entry stops: marketing or transactional. Empty: all.',
    since            DateTime64(6, 'UTC') COMMENT 'When the newest evidence happened, or the entry was added.',
    expires_at       Nullable(DateTime64(6, 'UTC')) COMMENT 'When the entry ends by itself: whole hours after since. NULL: never.',
    provisional      Bool COMMENT 'Whether the entry waits for the end of an incident.',
    event_id         String COMMENT 'The event that decided it, as in events. Empty: an operator.',
    provider         LowCardinality(String) COMMENT 'The email service provider of the event.',
    mailbox_provider LowCardinality(String) COMMENT 'The operator of the recipient\'s mailbox, such as gmail.',
    status           LowCardinality(String) COMMENT 'The enhanced status code of the bounce, such as 5.1.1.',
    incident         String COMMENT 'The id of the incident during which the entry began. Empty: none.'
)
AS WITH
    -- The latest state of each author. What is older than a record with the state forgotten does not count.
    latest AS
    (
        WITH
            intDiv(toUnixTimestamp64Micro(assumeNotNull(change.since)), 1000000) AS since_second,
            intDiv(toUnixTimestamp64Micro(assumeNotNull(change.expires_at)), 1000000) AS expiry_second,
            -- An entry ends after whole hours, as the service keeps them.
            if(isNull(change.expires_at), NULL, since_second + 3600 * intDiv(greatest(expiry_second - since_second, 1) + 3599, 3600)) AS end_second
        SELECT
            change.list AS list,
            change.recipient AS recipient,
            change.reason AS reason,
            change.scope AS scope,
            change.author AS author,
            argMax(
                (change.state, change.purpose, change.since, end_second, change.provisional, change.event_id,
                 change.provider, change.mailbox_provider, change.status, change.incident, since_second),
                (since_second, change.kafka_offset)
            ) AS record
        FROM suppressions AS change
        LEFT JOIN
        (
            SELECT list, recipient, reason, scope, author, max(kafka_offset) + 1 AS next_offset
            FROM suppressions
            WHERE state = 'forgotten'
            GROUP BY list, recipient, reason, scope, author
        ) AS forgotten
            ON forgotten.list = change.list AND forgotten.recipient = change.recipient
            AND forgotten.reason = change.reason AND forgotten.scope = change.scope AND forgotten.author = change.author
        -- Without a match the offset is 0, and with the setting join_use_nulls it is NULL.
        WHERE change.kafka_offset >= ifNull(forgotten.next_offset, 0) AND change.state != 'forgotten'
        GROUP BY list, recipient, reason, scope, author
    ),
    -- A state that has expired must not hide that of another author.
    standing AS
    (
        SELECT
            list,
            recipient,
            reason,
            scope,
            argMax((author, record), (record.11, record.1 = 'lifted', author)) AS newest
        FROM latest
        WHERE record.1 = 'lifted' OR isNull(record.4) OR assumeNotNull(record.4) > toUnixTimestamp(now())
        GROUP BY list, recipient, reason, scope
    )
SELECT
    list,
    recipient,
    reason,
    scope,
    newest.1 AS author,
    newest.2.2 AS purpose,
    assumeNotNull(newest.2.3) AS since,
    fromUnixTimestamp64Micro(newest.2.4 * 1000000, 'UTC') AS expires_at,
    newest.2.5 AS provisional,
    newest.2.6 AS event_id,
    newest.2.7 AS provider,
    newest.2.8 AS mailbox_provider,
    newest.2.9 AS status,
    newest.2.10 AS incident
FROM standing
WHERE newest.2.1 = 'suppressed'
COMMENT 'Who must not be mailed now: a row for each list, recipient, reason and scope. A recipient can have several.';
