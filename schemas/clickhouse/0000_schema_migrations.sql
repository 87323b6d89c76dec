-- Which files of this directory were applied, by their number. Two archives that start at once may
-- both write a row; they are the same.
CREATE TABLE IF NOT EXISTS schema_migrations
(
    version    UInt32,
    name       String,
    -- SHA-256 of the file, lower-case hexadecimal.
    checksum   String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY version;
