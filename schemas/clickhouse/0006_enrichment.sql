-- What enrichment adds to an event. Rows from before have all of it empty.
ALTER TABLE events ADD COLUMN IF NOT EXISTS stream LowCardinality(String) AFTER campaign;

ALTER TABLE events ADD COLUMN IF NOT EXISTS tenant LowCardinality(String) AFTER stream;

-- desktop, phone, tablet, appliance, proxy, bot; empty where the user agent says nothing.
ALTER TABLE events ADD COLUMN IF NOT EXISTS client_device LowCardinality(String) AFTER request_id;

ALTER TABLE events ADD COLUMN IF NOT EXISTS client_os LowCardinality(String) AFTER client_device;

ALTER TABLE events ADD COLUMN IF NOT EXISTS client_name LowCardinality(String) AFTER client_os;

-- Of the client's address, on opens and clicks.
ALTER TABLE events ADD COLUMN IF NOT EXISTS geo_country LowCardinality(String) AFTER client_name;

ALTER TABLE events ADD COLUMN IF NOT EXISTS geo_region LowCardinality(String) AFTER geo_country;

ALTER TABLE events ADD COLUMN IF NOT EXISTS geo_city LowCardinality(String) AFTER geo_region;

-- 0 where it is not known.
ALTER TABLE events ADD COLUMN IF NOT EXISTS geo_asn UInt32 AFTER geo_city;

ALTER TABLE events ADD COLUMN IF NOT EXISTS geo_network LowCardinality(String) AFTER geo_asn;

-- Columns of the operator's look-up table: labels['team'].
ALTER TABLE events ADD COLUMN IF NOT EXISTS labels Map(String, String) AFTER geo_network;
