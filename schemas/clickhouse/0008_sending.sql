-- The organizational domain of `sender`, by the public suffix list.
ALTER TABLE events ADD COLUMN IF NOT EXISTS sender_domain LowCardinality(String) AFTER tenant;

-- The address of the server that sent the message. Rows from before have it in `ip`, except on opens
-- and clicks.
ALTER TABLE events ADD COLUMN IF NOT EXISTS sending_ip LowCardinality(String) AFTER sender_domain;

-- False if the request failed verification and only the shadow mode of its source admitted it.
ALTER TABLE events ADD COLUMN IF NOT EXISTS authentic Bool DEFAULT true AFTER sending_ip;

-- The how-manieth event of its kind this is for its message and recipient; 1 is the first. Opens and
-- clicks by people and by machines are numbered separately. 0 where it is not known: on events without a
-- message, on events older than dedupe remembers, and on rows from before.
ALTER TABLE events ADD COLUMN IF NOT EXISTS seen UInt32 AFTER first_engagement;

-- True on a bounce that happened after a delivery that had arrived before it. To count late bounces, use the
-- counter late_bounces (docs/metrics.md).
ALTER TABLE events ADD COLUMN IF NOT EXISTS late Bool AFTER seen;

-- When the message was sent, as far as dedupe knew when the event came: NULL on events before the first one
-- about the delivery, unless they carry the time. Afterwards it is the same on all events of the message.
ALTER TABLE events ADD COLUMN IF NOT EXISTS sent Nullable(DateTime64(6, 'UTC')) AFTER late;

-- When the provider began to send the message, if this event carries it.
ALTER TABLE events ADD COLUMN IF NOT EXISTS sent_at Nullable(DateTime64(6, 'UTC')) AFTER client_name;

-- The time that the provider states, if it is implausible (time_fault = 'implausible').
ALTER TABLE events ADD COLUMN IF NOT EXISTS claimed_at Nullable(DateTime64(6, 'UTC')) AFTER sent_at;

ALTER TABLE events ADD COLUMN IF NOT EXISTS sender String AFTER claimed_at;

-- The name or address of the receiving server.
ALTER TABLE events ADD COLUMN IF NOT EXISTS delivery_server LowCardinality(String) AFTER sender;

-- Its answer to a delivery. The answer to a refusal is in bounce_diagnostic.
ALTER TABLE events ADD COLUMN IF NOT EXISTS delivery_response String AFTER delivery_server;

ALTER TABLE events ADD COLUMN IF NOT EXISTS delivery_tls Nullable(Bool) AFTER delivery_response;

-- From the start of sending to the answer.
ALTER TABLE events ADD COLUMN IF NOT EXISTS delivery_millis Nullable(UInt32) AFTER delivery_tls;

-- What the answer of the recipient's server says about the sender: auth, gmail_unusual_rate, listed,
-- yahoo_ts03, yahoo_tss04, yahoo_tss05.
ALTER TABLE events ADD COLUMN IF NOT EXISTS signals Array(LowCardinality(String)) AFTER delivery_millis;

-- Such as Europe/Amsterdam.
ALTER TABLE events ADD COLUMN IF NOT EXISTS geo_time_zone LowCardinality(String) AFTER geo_network;
