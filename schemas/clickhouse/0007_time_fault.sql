-- missing, unreadable, out_of_range: the provider sent no usable time, and occurred_at is received_at.
-- Empty on all other events, and on rows from before.
ALTER TABLE events ADD COLUMN IF NOT EXISTS time_fault LowCardinality(String) AFTER received_at;
