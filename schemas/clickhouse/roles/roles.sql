-- Roles for people and services. This is no migration: an operator applies it once, as a user who may grant, to the database
-- of Mailpulse (here `mailpulse`), after `archive` has created the tables. Run it again after an upgrade. Every
-- statement can run again.
--
--   clickhouse-client --queries-file schemas/clickhouse/roles/roles.sql

CREATE ROLE IF NOT EXISTS analyst;
CREATE ROLE IF NOT EXISTS analyst_of_all_sources;
CREATE ROLE IF NOT EXISTS dashboards;
CREATE ROLE IF NOT EXISTS investigator;
CREATE ROLE IF NOT EXISTS writer;

-- With this optimization, ClickHouse reads a part of a column where that is enough, such as counts.size0 for
-- notEmpty(counts), and refuses it to roles that may read the column counts.
ALTER ROLE analyst MODIFY SETTING optimize_functions_to_subcolumns = 0;
ALTER ROLE analyst_of_all_sources MODIFY SETTING optimize_functions_to_subcolumns = 0;
ALTER ROLE dashboards MODIFY SETTING optimize_functions_to_subcolumns = 0;

-- writer: archive, and the commands of `mailpulse` that change tables. docs/operations.md has the same list.
GRANT SELECT, INSERT, CREATE TABLE, CREATE VIEW, CREATE DATABASE, ALTER, DROP TABLE, DROP VIEW, SYSTEM VIEWS ON mailpulse.* TO writer;
-- The table audit can only be appended to. So writer cannot set another TTL (archive.retention.audit) either. For
-- that, run `mailpulse migrate` as a user with all rights.
REVOKE ALTER, DROP TABLE ON mailpulse.audit FROM writer;
GRANT SELECT ON system.parts TO writer;
GRANT SELECT ON system.databases TO writer;
GRANT SELECT ON system.tables TO writer;
GRANT SELECT ON system.columns TO writer;
GRANT SELECT ON system.mutations TO writer;
GRANT SELECT ON system.merge_tree_settings TO writer;
GRANT SELECT ON system.projection_parts TO writer;
GRANT SELECT ON system.view_refreshes TO writer;
-- For several replicas, and for clickhouse.cluster, which also needs GRANT CLUSTER ON *.*.
GRANT SYSTEM SYNC REPLICA ON mailpulse.* TO writer;
GRANT SELECT ON system.replicas TO writer;
GRANT SELECT ON system.clusters TO writer;

-- analyst: sums, rates, alerts, and single events without what names a person. Views run with the rights of the
-- reader, so a view is as open as the columns that it reads.
GRANT SELECT ON mailpulse.traffic TO analyst;
GRANT SELECT ON mailpulse.traffic_ip TO analyst;
GRANT SELECT ON mailpulse.traffic_domain TO analyst;
GRANT SELECT ON mailpulse.traffic_country TO analyst;
GRANT SELECT ON mailpulse.links TO analyst;
GRANT SELECT ON mailpulse.cohorts TO analyst;
GRANT SELECT ON mailpulse.rates TO analyst;
GRANT SELECT ON mailpulse.alerts TO analyst;
GRANT SELECT ON mailpulse.incidents TO analyst;
GRANT SELECT ON mailpulse.deliverability TO analyst;
GRANT SELECT ON mailpulse.campaign_funnel TO analyst;
GRANT SELECT ON mailpulse.engagement TO analyst;
GRANT SELECT ON mailpulse.complaint_cohorts TO analyst;
GRANT SELECT ON mailpulse.list_decay TO analyst;
GRANT SELECT ON mailpulse.reputation TO analyst;
GRANT SELECT ON mailpulse.unengaged_domains TO analyst;
GRANT SELECT ON mailpulse.link_performance TO analyst;
GRANT SELECT ON mailpulse.time_to_open TO analyst;
GRANT SELECT ON mailpulse.time_to_deliver TO analyst;
GRANT SELECT ON mailpulse.freshness TO analyst;
GRANT SELECT ON mailpulse.duplicates_and_late TO analyst;
GRANT SELECT ON mailpulse.events_hourly TO analyst;
-- The columns of these three that show an address or the answer of a server stay closed, as in events.
GRANT SELECT ON mailpulse.message_counts TO analyst;
GRANT SELECT ON mailpulse.bounce_reasons TO analyst;
GRANT SELECT ON mailpulse.bounce_reason_changes TO analyst;
-- All columns of events but the addresses of people and servers' and providers' own texts: recipient, raw, ip, user_agent,
-- url, bounce_diagnostic, delivery_response, sender, labels, the ids of messages and requests, and places finer than a region.
GRANT SELECT (
    event_id, kind, provider, source, occurred_at, received_at, at, time_fault, recipient_domain, mailbox_provider,
    campaign, stream, tenant, sender_domain, sending_ip, authentic, tags, bounce_permanence, bounce_class, bounce_side,
    bounce_status, bounce_late, automation_reason, automation_confidence, first_of_kind, first_engagement, seen, late,
    sent, counts, corrections, conversion, conversion_value, interest, provider_event, client_device, client_os,
    client_name, geo_country, geo_region, sent_at, claimed_at, delivery_server, delivery_tls, delivery_millis, signals,
    kafka_partition, kafka_offset, archived_at
) ON mailpulse.events TO analyst;
-- All columns but the address.
GRANT SELECT (
    source, tenant, mailbox_provider, received, opened, clicked, opens, clicks, bounces, complaints, unsubscribed_at,
    first_sent_at, last_engaged_at, last_at, refreshed_at, engagement_cohort, score, points
) ON mailpulse.recipients TO analyst;
-- All columns but the address and the id of the message.
GRANT SELECT (
    action_id, rule, index, type, name, add, at, decided_at, intent_id, follow_up, event_id, kind, provider, source, tenant,
    campaign, mailbox_provider, kafka_partition, kafka_offset, archived_at
) ON mailpulse.actions TO analyst;
-- All columns but the digest of the address and the answer of the server.
GRANT SELECT (
    list, reason, scope, author, state, purpose, since, expires_at, provisional, event_id, provider, mailbox_provider,
    status, incident, written_at, kafka_partition, kafka_offset, archived_at
) ON mailpulse.suppressions TO analyst;
-- Predictions: everything but the addresses.
GRANT SELECT ON mailpulse.fits TO analyst;
GRANT SELECT ON mailpulse.odds TO analyst;
GRANT SELECT ON mailpulse.scores TO analyst;
GRANT SELECT (
    source, mails, engaged, last_engaged, zone, fitted_at, written_at
) ON mailpulse.engagement_histories TO analyst;
GRANT SELECT (
    source, zone, delivered, opened, slot, certain, rate, rate_low, rate_high, fitted_at, written_at
) ON mailpulse.best_times TO analyst;
-- All columns but the original record (key, value, headers) and detail, which can quote it.
GRANT SELECT (
    reason, stage, origin, provider, source, received_at, kafka_partition, kafka_offset, archived_at
) ON mailpulse.dead_letters TO analyst;

-- Stories with masked addresses, and views that count recipients and show none. They run with the rights of their definer,
-- a user who cannot log in. The row policies below do not apply to them, so do not grant them to people who may see only
-- some sources.
CREATE USER IF NOT EXISTS mailpulse_definer IDENTIFIED WITH no_password HOST NONE;
GRANT SELECT ON mailpulse.events TO mailpulse_definer;
GRANT SELECT ON mailpulse.message_life TO mailpulse_definer;
GRANT SELECT ON mailpulse.recipients TO mailpulse_definer;
GRANT SELECT ON mailpulse.messages TO mailpulse_definer;
GRANT SELECT ON mailpulse.fits TO mailpulse_definer;
GRANT SELECT ON mailpulse.engagement_histories TO mailpulse_definer;
GRANT SELECT ON mailpulse.odds TO mailpulse_definer;
GRANT SELECT ON mailpulse.best_times TO mailpulse_definer;
GRANT SELECT ON mailpulse.scores TO mailpulse_definer;
GRANT SELECT ON mailpulse.predictions TO mailpulse_definer;
GRANT SELECT ON mailpulse.actions TO mailpulse_definer;
GRANT SELECT ON mailpulse.suppressions TO mailpulse_definer;
GRANT SELECT ON mailpulse.traffic TO mailpulse_definer;
GRANT SELECT ON mailpulse.traffic_domain TO mailpulse_definer;
GRANT SELECT ON mailpulse.traffic_country TO mailpulse_definer;
ALTER TABLE mailpulse.messages_masked MODIFY DEFINER = mailpulse_definer SQL SECURITY DEFINER;
ALTER TABLE mailpulse.recipients_masked MODIFY DEFINER = mailpulse_definer SQL SECURITY DEFINER;
ALTER TABLE mailpulse.predictions_masked MODIFY DEFINER = mailpulse_definer SQL SECURITY DEFINER;
ALTER TABLE mailpulse.message_story_masked MODIFY DEFINER = mailpulse_definer SQL SECURITY DEFINER;
ALTER TABLE mailpulse.conversions MODIFY DEFINER = mailpulse_definer SQL SECURITY DEFINER;
ALTER TABLE mailpulse.content_interest MODIFY DEFINER = mailpulse_definer SQL SECURITY DEFINER;
ALTER TABLE mailpulse.report MODIFY DEFINER = mailpulse_definer SQL SECURITY DEFINER;
ALTER TABLE mailpulse.automation_rules MODIFY DEFINER = mailpulse_definer SQL SECURITY DEFINER;
ALTER TABLE mailpulse.suppressed_now MODIFY DEFINER = mailpulse_definer SQL SECURITY DEFINER;
GRANT analyst TO analyst_of_all_sources;
GRANT SELECT ON mailpulse.messages_masked TO analyst_of_all_sources;
GRANT SELECT ON mailpulse.recipients_masked TO analyst_of_all_sources;
GRANT SELECT ON mailpulse.predictions_masked TO analyst_of_all_sources;
GRANT SELECT ON mailpulse.message_story_masked TO analyst_of_all_sources;
GRANT SELECT ON mailpulse.conversions TO analyst_of_all_sources;
GRANT SELECT ON mailpulse.content_interest TO analyst_of_all_sources;
GRANT SELECT ON mailpulse.report TO analyst_of_all_sources;
GRANT SELECT ON mailpulse.automation_rules TO analyst_of_all_sources;
GRANT SELECT (
    list, reason, scope, author, purpose, since, expires_at, provisional, event_id, provider, mailbox_provider, status,
    incident
) ON mailpulse.suppressed_now TO analyst_of_all_sources;

-- dashboards: Grafana. Everybody who may write a panel, or may call Grafana's API, has these rights. They do not include
-- the address of a recipient or the bytes of providers. But the answers of servers and the texts about dead letters often
-- quote addresses, and labels contain what is in the look-up table. The panels mask addresses in these texts. Without the
-- grants after the first, eleven panels show an error: those of answers, reasons, origins and dead letters, conversions, and
-- five of Acting.
GRANT analyst TO dashboards;
GRANT SELECT ON mailpulse.automation_rules TO dashboards;
GRANT SELECT (
    list, reason, scope, author, purpose, since, expires_at, provisional, event_id, provider, mailbox_provider, status,
    incident
) ON mailpulse.suppressed_now TO dashboards;
GRANT SELECT (
    source, status, mails, engaged, last_engaged, next, alive, next_ten_low, next_ten_high, best_slot, best_slot_certain,
    best_slot_probability, best_slot_low, best_slot_high, zone, fitted_at, model
) ON mailpulse.predictions_masked TO dashboards;
GRANT SELECT ON mailpulse.conversions TO dashboards;
GRANT SELECT (bounce_diagnostic, labels) ON mailpulse.events TO dashboards;
GRANT SELECT (detail) ON mailpulse.dead_letters TO dashboards;

-- investigator: everything, also addresses and the bytes of providers. Who reads what is in system.query_log.
GRANT SELECT ON mailpulse.* TO investigator;

-- Some sources or a tenant only. A row policy applies to all tables that have its column. Create one policy per table
-- and person; as soon as a table has a policy, all who are not named in one see no row of it, so the last policy lets
-- the others see everything. Limit only the role `analyst` in this way: the others may read views to which no policy
-- applies.
--
--   CREATE USER IF NOT EXISTS ana IDENTIFIED WITH sha256_password BY '…' DEFAULT ROLE analyst;
--   CREATE ROW POLICY IF NOT EXISTS ana_sources ON mailpulse.traffic, mailpulse.traffic_ip, mailpulse.traffic_domain,
--       mailpulse.traffic_country, mailpulse.links, mailpulse.cohorts, mailpulse.rates, mailpulse.alerts,
--       mailpulse.events, mailpulse.message_life, mailpulse.recipients, mailpulse.actions, mailpulse.dead_letters,
--       mailpulse.fits, mailpulse.engagement_histories, mailpulse.odds, mailpulse.best_times, mailpulse.scores
--       USING source IN ('shop', 'shop-receipts') TO ana;
--   CREATE ROW POLICY IF NOT EXISTS ana_incidents ON mailpulse.incidents
--       USING hasAny(arrayMap(it -> splitByChar('/', it)[2], arrayPushBack(sources, group_of)), ['shop', 'shop-receipts'])
--       TO ana;
--   CREATE ROW POLICY IF NOT EXISTS ana_lists ON mailpulse.suppressions
--       USING splitByChar('/', list)[2] IN ('shop', 'shop-receipts') AND NOT startsWith(list, 'tenant/') TO ana;
--   CREATE ROW POLICY OR REPLACE the_others ON mailpulse.* USING true TO ALL EXCEPT ana;
--
-- The last policy must name every limited person each time, because a person who is missing there sees everything. Do not
-- name a role instead: people can switch off their roles.
--
-- For a tenant, add these two. The tables of the second have no tenant, so the person sees no row of them. To revoke
-- them from the person would change nothing, because the role grants them.
--
--   CREATE ROW POLICY IF NOT EXISTS ana_tenant ON mailpulse.traffic, mailpulse.events, mailpulse.message_life,
--       mailpulse.recipients, mailpulse.actions, mailpulse.rates, mailpulse.alerts USING tenant = 'north' AS RESTRICTIVE TO ana;
--   CREATE ROW POLICY IF NOT EXISTS ana_no_tenant ON mailpulse.traffic_ip, mailpulse.traffic_domain,
--       mailpulse.traffic_country, mailpulse.links, mailpulse.cohorts, mailpulse.dead_letters, mailpulse.incidents,
--       mailpulse.fits, mailpulse.engagement_histories, mailpulse.odds, mailpulse.best_times, mailpulse.scores,
--       mailpulse.suppressions
--       USING false AS RESTRICTIVE TO ana;
