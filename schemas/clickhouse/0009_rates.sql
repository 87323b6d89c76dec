-- The values of further kinds of scopes; see docs/metrics.md. They become part of the sorting key, so each must
-- be added in the same statement. A server that has already extended the key changes nothing.
ALTER TABLE rates
    ADD COLUMN IF NOT EXISTS sender_domain LowCardinality(String) AFTER campaign,
    ADD COLUMN IF NOT EXISTS sending_ip LowCardinality(String) AFTER sender_domain,
    ADD COLUMN IF NOT EXISTS tenant LowCardinality(String) AFTER sending_ip,
    MODIFY ORDER BY (scope, provider, source, mailbox_provider, campaign, width_seconds, window_end, sender_domain, sending_ip, tenant);

-- The further counters of docs/metrics.md. The column accepted contains the messages that the provider took in:
-- injected.
ALTER TABLE rates ADD COLUMN IF NOT EXISTS deferred_settled UInt64 AFTER unsubscribed;
ALTER TABLE rates ADD COLUMN IF NOT EXISTS deferrals UInt64 AFTER deferred_settled;
ALTER TABLE rates ADD COLUMN IF NOT EXISTS bounced_block UInt64 AFTER deferrals;
ALTER TABLE rates ADD COLUMN IF NOT EXISTS auto_replies UInt64 AFTER bounced_block;
ALTER TABLE rates ADD COLUMN IF NOT EXISTS suppressed UInt64 AFTER auto_replies;
ALTER TABLE rates ADD COLUMN IF NOT EXISTS delivered_fbl UInt64 AFTER suppressed;
ALTER TABLE rates ADD COLUMN IF NOT EXISTS late_bounces_fbl UInt64 AFTER delivered_fbl;
ALTER TABLE rates ADD COLUMN IF NOT EXISTS auth_refused UInt64 AFTER late_bounces_fbl;
ALTER TABLE rates ADD COLUMN IF NOT EXISTS throttled UInt64 AFTER auth_refused;
ALTER TABLE rates ADD COLUMN IF NOT EXISTS listed UInt64 AFTER throttled;
ALTER TABLE rates ADD COLUMN IF NOT EXISTS unclassified UInt64 AFTER listed;
ALTER TABLE rates ADD COLUMN IF NOT EXISTS injected UInt64 ALIAS accepted;

-- The further rates, from 0 to 1; NULL while the denominator is 0, and where a rate is unknown. A row with
-- width_seconds 0 is a cohort: the messages that were sent in the hour before window_end.
ALTER TABLE rates ADD COLUMN IF NOT EXISTS soft_bounce_rate Nullable(Float64) AFTER engagement_rate;
ALTER TABLE rates ADD COLUMN IF NOT EXISTS block_bounce_rate Nullable(Float64) AFTER soft_bounce_rate;
ALTER TABLE rates ADD COLUMN IF NOT EXISTS undetermined_bounce_rate Nullable(Float64) AFTER block_bounce_rate;
ALTER TABLE rates ADD COLUMN IF NOT EXISTS late_bounce_rate Nullable(Float64) AFTER undetermined_bounce_rate;
ALTER TABLE rates ADD COLUMN IF NOT EXISTS deferral_rate Nullable(Float64) AFTER late_bounce_rate;
ALTER TABLE rates ADD COLUMN IF NOT EXISTS delivery_rate Nullable(Float64) AFTER deferral_rate;
ALTER TABLE rates ADD COLUMN IF NOT EXISTS plain_complaint_rate Nullable(Float64) AFTER delivery_rate;
ALTER TABLE rates ADD COLUMN IF NOT EXISTS open_with_machines_rate Nullable(Float64) AFTER plain_complaint_rate;
ALTER TABLE rates ADD COLUMN IF NOT EXISTS injection_loss_rate Nullable(Float64) AFTER open_with_machines_rate;

-- The further kinds of scopes, as in rates.
ALTER TABLE alerts ADD COLUMN IF NOT EXISTS sender_domain LowCardinality(String) AFTER campaign;
ALTER TABLE alerts ADD COLUMN IF NOT EXISTS sending_ip LowCardinality(String) AFTER sender_domain;
ALTER TABLE alerts ADD COLUMN IF NOT EXISTS tenant LowCardinality(String) AFTER sending_ip;
