//! Every query of the dashboards in `deploy/grafana`, on a real ClickHouse with 60 days of mail.
//!
//! The tables are a model of larger ones: a granule has 128 rows instead of 8,192, so that 0.4 million events have
//! as many granules as 28 million usually have. What a query reads is then the same share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod panels;

use std::fmt::Write;

use archive::schema::MIGRATIONS;
use harness::Database;
use jiff::Timestamp;
use panels::{Query, dashboards, queries, targets};
use serde_json::Value;

/// How many messages are stored, and in how many inserts.
const MESSAGES: u64 = 150_000;
const INSERTS: u64 = 15;
/// How long ago the first of them was sent.
const DAYS: u64 = 60;

/// The greatest share of `events` that a query may read from it.
const OF_EVENTS: f64 = 0.02;
/// The greatest number of rows that a query may read, as a share of `events`: 5 million of 50 million.
const OF_ALL: f64 = 0.1;

/// Stores the mail. Each message has up to eight events.
fn fill(database: &Database, now: Timestamp) {
    for statement in MIGRATIONS.iter().flat_map(archive::schema::Migration::statements) {
        const WINDOW: &str = "non_replicated_deduplication_window = 10000";
        // message_life has smaller granules than the default.
        let statement = if statement.contains("index_granularity = 512") {
            statement.replace("index_granularity = 512", "index_granularity = 8")
        } else {
            statement.replace(WINDOW, &format!("{WINDOW}, index_granularity = 128"))
        };
        database.execute(&statement);
    }
    let per_insert = MESSAGES * 10 / INSERTS;
    let end = now.as_second();
    for insert in 0..INSERTS {
        database.execute(&events(end, insert * per_insert, per_insert));
    }
    database.execute(&format!(
        "INSERT INTO incidents (id, seq, state, severity, family, `group`, group_of, sources, opened_at, at, summary) \
         VALUES (repeat('a', 32), 1, 'open', 'page', 'bounces', 'source', 'sendgrid/acme', ['sendgrid/acme'], \
         {end} - 600, {end} - 60, 'acme at SendGrid: hard bounces 20 %')"
    ));
    database.execute(&format!(
        "INSERT INTO alerts (episode_id, seq, rule, scope, provider, source, severity, state, metric, value, bound, \
         threshold, numerator, volume, started_at, at) \
         VALUES (repeat('b', 32), 1, 'hard_bounces', 'source', 'sendgrid', 'acme', 'page', 'firing', 'hard_bounce', \
         0.2, 0.18, 0.1, 200, 1000, {end} - 600, {end} - 60)"
    ));
    database.execute(&format!(
        "INSERT INTO dead_letters (reason, detail, stage, provider, source, kafka_partition, kafka_offset, archived_at) \
         VALUES ('not_json', 'expected value at line 1', 'enrich', 'sendgrid', 'acme', 0, 1, {end} - 60)"
    ));
    fill_acting(database, end);
}

/// Stores who is suppressed, what rules did, and what is predicted. In a day, 30 recipients are suppressed or lifted and
/// rules act 50 times; 3,000 recipients have predictions.
fn fill_acting(database: &Database, end: i64) {
    let written = format!("toDateTime64({end} - 3600, 3, 'UTC')");
    for statement in [
        format!(
            "INSERT INTO suppressions (list, recipient, reason, author, state, since, provisional, incident, written_at, \
                 kafka_offset) \
             SELECT 'sendgrid/acme', leftPad(hex(number), 32, '0'), ['hard_bounce', 'unsubscribe'][1 + number % 2], 'event', \
                 if(number % 9 = 0, 'lifted', 'suppressed'), {end} - number * 2880 AS at, number < 20, \
                 if(number < 20, repeat('a', 32), ''), at, number \
             FROM numbers(1800)"
        ),
        format!(
            "INSERT INTO actions (rule, type, at, decided_at, recipient, source, kafka_offset) \
             SELECT ['vip', 'warm'][1 + number % 2] AS rule, ['points', 'segment.add'][1 + number % 2], \
                 {end} - number * 1728 AS at, at + 1, concat('r', toString(number % 900), '@example.com'), 'acme', number \
             FROM numbers(3000)"
        ),
        format!(
            "INSERT INTO fits (source, fitted_at, written_at, model, best_slot) \
             VALUES ('acme', {end} - 3600, {written}, 'bg_bb', 4)"
        ),
        format!(
            "INSERT INTO engagement_histories (source, recipient, mails, engaged, last_engaged, fitted_at, written_at) \
             SELECT 'acme', concat('r', toString(number), '@example.com'), 1 + number % 3, 1, 1, {end} - 3600, {written} \
             FROM numbers(3000)"
        ),
        format!(
            "INSERT INTO odds (source, mails, engaged, last_engaged, model, next, alive, fitted_at, written_at) \
             SELECT 'acme', number + 1, 1, 1, 'bg_bb', 0.2, 0.9, {end} - 3600, {written} FROM numbers(3)"
        ),
        format!(
            "INSERT INTO scores (source, prediction, scored_at, forecasts, ece, bin_forecasts, bin_predicted, bin_happened, \
                 written_at) \
             SELECT 'acme', 'next', {end} - 3600 - number * 86400, 2000, 0.02, [1000, 1000], [0.1, 0.3], [0.12, 0.29], \
                 {written} FROM numbers(20)"
        ),
    ] {
        database.execute(&statement);
    }
}

/// Returns the insert of some steps of messages. Step 2 of a message is its delivery or bounce, the later ones are
/// what readers do. A message has a step with the chance of the step, and all of it depends on its number only.
fn events(end: i64, first: u64, count: u64) -> String {
    let window = DAYS * 24 * 3600 * 1000;
    format!(
        "INSERT INTO events (event_id, kind, provider, source, occurred_at, received_at, archived_at, recipient, \
             recipient_domain, mailbox_provider, message_id, campaign, sender_domain, sending_ip, bounce_permanence, \
             bounce_class, bounce_status, bounce_diagnostic, automation_reason, seen, sent, sent_at, counts, url, \
             conversion, conversion_value, labels, raw, kafka_partition, kafka_offset) \
         WITH \
             intDiv(number, 10) AS message, \
             number % 10 AS step, \
             cityHash64(message) AS dice, \
             dice % 25 = 0 AS bounces, \
             multiIf(step = 0, 'accepted', step = 1 AND dice % 7 = 0, 'deferred', \
                 step = 2, if(bounces, 'bounced', 'delivered'), \
                 step IN (3, 4) AND NOT bounces AND dice % 3 = 0, 'opened', \
                 step = 5 AND NOT bounces AND dice % 9 = 0, 'clicked', \
                 step = 6 AND dice % 200 = 7, 'complained', step = 7 AND dice % 150 = 7, 'unsubscribed', '') \
                 AS the_kind, \
             step = 4 OR dice % 18 = 0 AS machine, \
             toDateTime64({end}, 6, 'UTC') - toIntervalMillisecond({window} * ({MESSAGES} - message) / {MESSAGES}) \
                 AS sent_time, \
             sent_time + toIntervalMillisecond(multiIf(step <= 2, 900 * step, step <= 5, 60000 * step, \
                 4000000 * step)) AS happened \
         SELECT lower(leftPad(hex(number), 32, '0')), the_kind, 'sendgrid', \
             ['acme', 'globex', 'initech'][1 + dice % 3], happened, happened + INTERVAL 1 SECOND, \
             happened + INTERVAL 2 SECOND, concat('r', toString(dice % 20000), '@example.com'), 'example.com', \
             ['gmail', 'outlook', 'yahoo', 'other'][1 + dice % 4], concat('m', toString(message)), \
             concat('campaign-', toString(intDiv(message * 20, {MESSAGES}))), 'acme.example', \
             concat('198.51.100.', toString(dice % 4)), if(the_kind IN ('bounced', 'deferred'), 'hard', ''), \
             if(the_kind IN ('bounced', 'deferred'), ['invalid_recipient', 'reputation'][1 + dice % 2], ''), \
             if(the_kind IN ('bounced', 'deferred'), ['5.1.1', '5.7.1'][1 + dice % 2], ''), \
             if(the_kind = 'bounced', '550 no such user', ''), \
             if(the_kind IN ('opened', 'clicked') AND machine, 'apple_mpp', ''), 1, sent_time, sent_time, \
             multiIf(the_kind = 'accepted', ['injected'], \
                 the_kind = 'delivered', if(dice % 4 IN (1, 2), ['delivered', 'delivered_fbl'], ['delivered']), \
                 the_kind = 'bounced', if(dice % 2 = 0, ['bounced_hard'], ['bounced_block', 'auth_refused']), \
                 the_kind = 'deferred', ['deferred', 'deferrals'], \
                 the_kind = 'opened', if(machine, ['machine_opened'], ['opened', 'engaged']), \
                 the_kind = 'clicked', if(machine, ['machine_clicked'], ['clicked']), [the_kind]), \
             if(the_kind = 'clicked', concat('https://shop.example/', toString(dice % 5)), ''), \
             if(the_kind = 'clicked', 'purchase', ''), if(the_kind = 'clicked', dice % 100, NULL), \
             map('origin', ['fair', 'web'][1 + dice % 2]), '{{}}', 0, number \
         FROM numbers({first}, {count}) \
         WHERE the_kind != '' AND happened < toDateTime64({end}, 6, 'UTC')"
    )
}

/// Executes a query. Returns the number of rows that it returned and read.
fn execute(database: &Database, Query { of, sql }: &Query) -> (usize, u64) {
    let response = panels::send(database, sql, &[]);
    let body = response.body_bytes();
    let text = String::from_utf8_lossy(&body);
    assert_eq!(response.status, 200, "{of}: {text}\n{sql}");
    let summary = response.header("x-clickhouse-summary").unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    (text.lines().count(), summary["read_rows"].as_str().unwrap().parse().unwrap())
}

#[test]
fn every_query_returns_rows_and_reads_little() {
    let database = Database::new("dashboards");
    database.create();
    let now = Timestamp::from_second(database.one("SELECT toUnixTimestamp(now())")).unwrap();
    fill(&database, now);
    let events: f64 = database.one("SELECT count() FROM events");
    let (mut report, mut failures, mut number) = (String::new(), Vec::new(), 0);
    for (name, dashboard) in dashboards() {
        for query in queries(&database, &name, &dashboard, now).0 {
            number += 1;
            let (rows, read) = execute(&database, &query);
            let plan = database.bytes(&format!("EXPLAIN {}", query.sql), "TSVRaw");
            let reads_events =
                String::from_utf8_lossy(&plan).contains(&format!("{}.events)", database.name));
            let limit = if reads_events { OF_EVENTS } else { OF_ALL };
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            let share = read as f64 / events;
            let of = &query.of;
            let _ = writeln!(
                report,
                "{of}: {rows} rows, reads {:.2} % (at most {} %)",
                share * 100.0,
                limit * 100.0
            );
            if rows == 0 {
                failures.push(format!("{of} is empty: {}", query.sql));
            }
            if share > limit {
                failures.push(format!(
                    "{of} reads {:.2} % of events: {}",
                    share * 100.0,
                    query.sql
                ));
            }
        }
    }
    println!("{report}");
    assert!(failures.is_empty(), "{report}\n{}", failures.join("\n"));
    assert!(number > 30, "only {number} queries were found");
}

#[test]
fn panels_have_a_place_a_description_and_a_data_source_that_is_provisioned() {
    let sources =
        include_str!("../../../../deploy/grafana/provisioning/datasources/mailpulse.yaml");
    let mut uids = Vec::new();
    for (name, dashboard) in dashboards() {
        uids.push(dashboard["uid"].as_str().unwrap().to_owned());
        let (mut ids, mut places) = (Vec::new(), Vec::new());
        for panel in dashboard["panels"].as_array().unwrap() {
            let title = panel["title"].as_str().unwrap();
            let of = format!("{name}: {title}");
            assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{of}");
            let uid = panel["datasource"]["uid"].as_str().unwrap();
            assert!(sources.contains(&format!("uid: {uid}\n")), "{of}: {uid} is not provisioned");
            ids.push(panel["id"].as_u64().unwrap());
            let of_place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            let place = ["x", "y", "w", "h"].map(of_place);
            assert!(place[0] + place[2] <= 24, "{of} does not fit");
            places.push((of, place));
        }
        for (index, (of, [x, y, w, h])) in places.iter().enumerate() {
            for (other, [x2, y2, w2, h2]) in &places[..index] {
                let is_beside = x + w <= *x2 || x2 + w2 <= *x || y + h <= *y2 || y2 + h2 <= *y;
                assert!(is_beside, "{of} overlaps {other}");
            }
        }
        ids.dedup();
        assert_eq!(ids.len(), places.len(), "{name}: ids are unique");
    }
    assert_eq!(
        uids,
        [
            "mailpulse-acting",
            "mailpulse-campaign",
            "mailpulse-deliverability",
            "mailpulse-on-call",
            "mailpulse-pipeline"
        ]
    );
}

/// Rates leave out sources that send no delivered events, and are never above 1: docs/metrics.md.
#[test]
fn queries_with_rates_ask_for_sources_with_deliveries() {
    let mut seen = 0;
    for (name, dashboard) in dashboards() {
        for (title, target) in targets(&dashboard) {
            let Some(sql) = target["rawSql"].as_str() else { continue };
            let divides =
                sql.contains("rate(") || sql.contains(" / n") || sql.contains("/ nullIf(");
            if divides {
                let filters = sql.contains("(source, provider) IN (SELECT source, provider FROM")
                    && sql.contains("HAVING sum(delivered) > 0");
                assert!(filters, "{name}: {title} counts sources that send no deliveries: {sql}");
                assert!(!sql.contains("/ nullIf("), "{name}: {title} can be above 1: {sql}");
                seen += 1;
            }
        }
    }
    assert!(seen > 12, "only {seen} queries with rates were found");
}
