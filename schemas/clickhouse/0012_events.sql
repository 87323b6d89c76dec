-- The time at which an event counts by docs/metrics.md. Use it wherever you would use occurred_at.
ALTER TABLE events ADD COLUMN IF NOT EXISTS at DateTime64(6, 'UTC') MATERIALIZED least(occurred_at, received_at)
    COMMENT 'When the event counts: when it happened, but not after it was received.' CODEC(Delta, LZ4) AFTER received_at;

-- What the rules about URLs in the settings say about a link that was clicked.
ALTER TABLE events ADD COLUMN IF NOT EXISTS conversion LowCardinality(String)
    COMMENT 'The name of the conversion that the click leads to, by [[enrich.conversion]].' AFTER url;
ALTER TABLE events ADD COLUMN IF NOT EXISTS conversion_value Nullable(Float64)
    COMMENT 'Its value, from a parameter of the URL.' AFTER conversion;
ALTER TABLE events ADD COLUMN IF NOT EXISTS interest LowCardinality(String)
    COMMENT 'What the content behind the link is about, by [[enrich.interest]].' AFTER conversion_value;

-- DELETE and ALTER UPDATE build the projections of the changed parts again.
ALTER TABLE events MODIFY SETTING lightweight_mutation_projection_mode = 'rebuild';

-- A full insert has about 64 MB in more than a hundred columns. With a file for each of them, creating the files would be a
-- tenth of its cost, so that a part gets them when it is merged with others to more than 100 MiB.
ALTER TABLE events MODIFY SETTING min_bytes_for_wide_part = 104857600;

-- Indexes for the story of a recipient or message. New parts have them; `mailpulse migrate` prints the statement
-- that adds them to old parts.
ALTER TABLE events ADD PROJECTION IF NOT EXISTS by_recipient (SELECT _part_offset ORDER BY recipient);
ALTER TABLE events ADD PROJECTION IF NOT EXISTS by_message (SELECT _part_offset ORDER BY message_id);
ALTER TABLE events DROP INDEX IF EXISTS recipient_hashes;
ALTER TABLE events DROP INDEX IF EXISTS message_id_hashes;
