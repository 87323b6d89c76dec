//! The numbers of panels, on a real ClickHouse with little mail whose numbers are known.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod panels;

use std::sync::atomic::{AtomicU64, Ordering};

use archive::schema::{MIGRATIONS, Migration};
use harness::Database;
use jiff::Timestamp;
use panels::{Variables, dashboards, expand, queries, range, targets};
use serde_json::Value;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Equal events.
struct Events<'a> {
    number: u64,
    source: &'a str,
    campaign: &'a str,
    kind: &'a str,
    /// When they happened, in seconds since 1970.
    at: i64,
    /// When their messages were sent.
    sent: i64,
    /// The counters, separated by commas.
    counts: &'a str,
    corrections: &'a str,
    origin: &'a str,
}

const EVENTS: Events<'_> = Events {
    number: 1,
    source: "acme",
    campaign: "spring",
    kind: "delivered",
    at: 0,
    sent: 0,
    counts: "delivered",
    corrections: "",
    origin: "",
};

struct Stored {
    database: Database,
    now: Timestamp,
    inserts: AtomicU64,
}

impl Stored {
    fn new() -> Self {
        let database = Database::new("panels");
        database.create();
        for statement in MIGRATIONS.iter().flat_map(Migration::statements) {
            database.execute(statement);
        }
        let now = Timestamp::from_second(database.one("SELECT toUnixTimestamp(now())")).unwrap();
        Self { database, now, inserts: AtomicU64::new(0) }
    }

    fn now(&self) -> i64 {
        self.now.as_second()
    }

    fn insert(&self, events: &Events<'_>) {
        let Events { number, source, campaign, kind, at, sent, counts, corrections, origin } =
            events;
        let insert = self.inserts.fetch_add(1, Ordering::Relaxed);
        self.database.execute(&format!(
            "INSERT INTO events (event_id, kind, provider, source, occurred_at, received_at, mailbox_provider, \
                 message_id, campaign, sent, counts, corrections, labels, kafka_offset) \
             SELECT concat('{insert}/', toString(number)), '{kind}', 'sendgrid', '{source}', \
                 toDateTime64({at}, 6, 'UTC'), toDateTime64({at}, 6, 'UTC'), 'gmail', \
                 concat('{insert}/', toString(number)), '{campaign}', toDateTime64({sent}, 6, 'UTC'), \
                 splitByChar(',', '{counts}'), '{corrections}', map('origin', '{origin}'), {insert} * 10000 + number \
             FROM numbers({number})"
        ));
    }

    /// Returns the rows of a panel as it is shown first, with its first target or another.
    fn rows(&self, dashboard: &str, panel: &str, sources: &[&str]) -> Vec<Value> {
        let (_, all) = dashboards().into_iter().find(|(name, _)| name == dashboard).unwrap();
        let mut variables = queries(&self.database, dashboard, &all, self.now).1;
        if !sources.is_empty() {
            let sources = sources.iter().map(|&source| source.to_owned()).collect();
            variables.insert("source".to_owned(), sources);
        }
        let (_, target) = targets(&all).find(|(title, _)| *title == panel).expect(panel);
        self.query(target["rawSql"].as_str().unwrap(), &all, &variables)
    }

    fn query(&self, sql: &str, dashboard: &Value, variables: &Variables) -> Vec<Value> {
        let sql = expand(sql, range(dashboard, self.now), variables);
        let text = String::from_utf8(self.database.bytes(&sql, "JSONEachRow")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn is_near(value: &Value, expected: f64) -> bool {
    value.as_f64().is_some_and(|value| (value - expected).abs() < 1e-9)
}

/// Asserts that a column has a value in every row.
fn assert_column(rows: &[Value], column: &str, expected: f64) {
    assert!(!rows.is_empty(), "no rows");
    for row in rows {
        assert!(is_near(&row[column], expected), "{column} is not {expected}: {row}");
    }
}

/// One source delivers 90 of 100 messages, and the other reports only bounces. There are more opens, clicks and
/// complaints than deliveries, which are those of other days.
#[test]
fn rates_leave_out_sources_without_deliveries_and_are_at_most_one() {
    let stored = Stored::new();
    let at = stored.now() - 2 * HOUR;
    let delivered = Events { at, sent: at - 60, ..EVENTS };
    stored.insert(&Events { number: 90, counts: "delivered,delivered_fbl", ..delivered });
    let bounced = Events { kind: "bounced", counts: "bounced_hard", ..delivered };
    stored.insert(&Events { number: 10, ..bounced });
    stored.insert(&Events { number: 50, source: "ses", ..bounced });
    for (kind, counts) in [
        ("opened", "opened,engaged"),
        ("clicked", "clicked"),
        ("complained", "complained"),
        ("unsubscribed", "unsubscribed"),
    ] {
        stored.insert(&Events { number: 200, kind, counts, ..delivered });
    }
    let all = |dashboard: &str, panel: &str| stored.rows(dashboard, panel, &[]);
    assert_column(&all("on-call.json", "Bounce rate"), "bounce_rate", 0.1);
    assert_column(&all("on-call.json", "Complaint rate"), "complaint_rate", 1.0);
    assert_column(&all("on-call.json", "Bounce rate, with its interval"), "bounce_rate", 0.1);
    assert_column(&all("on-call.json", "Bounce rate by mailbox provider"), "bounce_rate", 0.1);
    let rates = all("deliverability.json", "Rates by mailbox provider");
    assert_column(&rates, "bounce_rate", 0.1);
    assert_column(&rates, "delivery_rate", 0.9);
    assert_column(&rates, "open_rate", 1.0);
    let days = all("deliverability.json", "Rates by local day");
    assert_column(&days, "bounce_rate", 0.1);
    // Alone, the source without deliveries has no rate at all.
    let alone = stored.rows("on-call.json", "Bounce rate", &["ses"]);
    assert_eq!(alone, [serde_json::json!({"bounce_rate": null})]);
    // The funnel has its counters, and no rates of the campaign that both sources send.
    let funnel = &all("campaign.json", "Funnel")[0];
    assert_eq!((&funnel["sent"], &funnel["bounce_rate"]), (&150.into(), &Value::Null), "{funnel}");
    let funnel = &stored.rows("campaign.json", "Funnel", &["acme"])[0];
    assert!(
        is_near(&funnel["bounce_rate"], 0.1) && is_near(&funnel["click_rate"], 1.0),
        "{funnel}"
    );

    let mut seen = 0;
    for (name, dashboard) in dashboards() {
        let variables = queries(&stored.database, &name, &dashboard, stored.now).1;
        for (title, target) in targets(&dashboard) {
            let Some(sql) = target["rawSql"].as_str().filter(|sql| sql.contains("rate(")) else {
                continue;
            };
            for row in stored.query(sql, &dashboard, &variables) {
                let columns = row.as_object().unwrap().iter();
                for (column, value) in columns.filter(|(column, _)| column.contains("_rate")) {
                    let rate = value.as_f64();
                    let is_rate =
                        value.is_null() || rate.is_some_and(|it| (0.0..=1.0).contains(&it));
                    assert!(is_rate, "{name}: {title}: {column} of {row}");
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 20, "only {seen} rates were found");
}

/// A campaign in two halves: the older one is compared at every age, the younger one only at an hour.
#[test]
fn campaigns_are_compared_at_equal_age() {
    let stored = Stored::new();
    let (old, young) = (stored.now() - 30 * HOUR, stored.now() - 3 * HOUR);
    let opened = Events { kind: "opened", counts: "opened", ..EVENTS };
    for (sent, opens) in [(old, [(0, 10), (3, 20), (29, 5)].as_slice()), (young, &[(0, 40)])] {
        stored.insert(&Events { number: 100, at: sent + 10, sent, ..EVENTS });
        for &(age, number) in opens {
            stored.insert(&Events { number, at: sent + age * HOUR + 20, sent, ..opened });
        }
    }
    // Too young for any age.
    let latest = stored.now() - HOUR / 2;
    let campaign = "latest";
    stored.insert(&Events { number: 100, campaign, at: latest + 10, sent: latest, ..EVENTS });
    let opened = Events { campaign, at: latest + 20, sent: latest, ..opened };
    stored.insert(&Events { number: 50, ..opened });

    let rows = stored.rows("campaign.json", "Campaigns at equal age", &[]);
    let of = |campaign: &str| {
        let row = rows.iter().find(|row| row["campaign"] == campaign).unwrap();
        ["accepted_by_recipient", "open_rate_1h", "open_rate_6h", "open_rate_24h"]
            .map(|column| row[column].as_f64())
    };
    assert_eq!(of("spring"), [Some(200.0), Some(0.25), Some(0.3), Some(0.3)]);
    assert_eq!(of("latest"), [Some(100.0), None, None, None]);
}

/// The label of a bar is the age at its end: the hours of the second day are one age.
#[test]
fn complaints_are_labelled_with_the_age_until_which_they_count() {
    let stored = Stored::new();
    let sent = stored.now() - 10 * DAY;
    let at = sent + 10;
    stored.insert(&Events { number: 100, at, sent, counts: "delivered,delivered_fbl", ..EVENTS });
    for age in [0, 23, 30, 100, 167, 200] {
        let at = sent + age * HOUR + 30;
        stored.insert(&Events { kind: "complained", counts: "complained", at, sent, ..EVENTS });
    }
    let rows = stored.rows("deliverability.json", "Complaints by age", &[]);
    let bars: Vec<_> = rows
        .iter()
        .map(|row| (row["hours_since_sending"].as_str().unwrap(), row["complaint_rate"].as_f64()))
        .collect();
    let expected = [("1", 0.01), ("24", 0.02), ("48", 0.03), ("120", 0.04), ("168", 0.05)];
    assert_eq!(bars, expected.map(|(label, rate)| (label, Some(rate))));
}

#[test]
fn hard_bounces_by_origin_are_a_rate_with_corrections() {
    let stored = Stored::new();
    let at = stored.now() - 60;
    let fair = Events { at, sent: at, origin: "fair", ..EVENTS };
    stored.insert(&Events { number: 7, ..fair });
    let bounced = Events { kind: "bounced", counts: "bounced_hard", ..fair };
    stored.insert(&Events { number: 2, campaign: "autumn", ..bounced });
    // A message that bounced softly and was then delivered is sent once, and one whose soft bounce became a hard one.
    let micros = at * 1_000_000;
    stored.insert(&Events { number: 2, counts: "bounced_soft", ..bounced });
    let delivery = format!("campaign:-bounced_soft@{micros},+deferred@{micros}");
    stored.insert(&Events { counts: "delivered,deferred_settled", corrections: &delivery, ..fair });
    let worse = format!("campaign:-bounced_soft@{micros}");
    stored.insert(&Events { corrections: &worse, ..bounced });
    // An origin without hard bounces, and a source without deliveries.
    stored.insert(&Events { number: 5, origin: "web", ..fair });
    stored.insert(&Events { number: 50, source: "ses", ..bounced });

    let panel = "Hard bounces by origin of the address, since yesterday";
    let rows = stored.rows("campaign.json", panel, &[]);
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["origin"].as_str().unwrap(),
                &row["sent"],
                &row["bounced_hard"],
                &row["hard_bounce_rate"],
            )
        })
        .collect();
    let [fair, web] = rows[..] else { panic!("{rows:?}") };
    assert_eq!((fair.0, fair.1, fair.2), ("fair", &11.into(), &3.into()));
    assert!(is_near(fair.3, 3.0 / 11.0), "{fair:?}");
    assert_eq!((web.0, web.1, web.2), ("web", &5.into(), &0.into()));
}

#[test]
fn dead_letters_count_once_without_redriven_ones_and_by_source() {
    let stored = Stored::new();
    let at = stored.now() - 60;
    stored.insert(&Events { at, sent: at, ..EVENTS });
    let insert = |reason: &str, source: &str, origin: &str, offset: u64, received: &str| {
        stored.database.execute(&format!(
            "INSERT INTO dead_letters (reason, detail, stage, source, origin, received_at, kafka_partition, kafka_offset, \
                 archived_at) \
             VALUES ('{reason}', 'of ada@example.com: no JSON', 'enrich', '{source}', '{origin}', {received}, 0, {offset}, \
                 toDateTime64({at}, 3, 'UTC'))"
        ));
    };
    let time = |at: i64| format!("toDateTime64({at}, 6, 'UTC')");
    let recently = time(at);
    // A stage that dies before its commit writes it again.
    insert("not_json", "acme", "mail.raw.0/0/5", 1, &recently);
    insert("not_json", "acme", "mail.raw.0/0/5", 2, &recently);
    insert("not_json", "acme", "", 3, "NULL");
    insert("not_json", "acme", "mail.raw.0/0/6", 4, &recently);
    insert("redriven", "", "mail.dead-letters/0/4", 5, &recently);
    insert("not_json", "acme", "mail.raw.0/0/7", 6, &time(at - DAY));
    insert("not_json", "ghost", "mail.raw.0/0/8", 7, &recently);
    insert("not_json", "", "", 8, &recently);

    let counts = |sources: &[&str]| {
        let rows = stored.rows("pipeline.json", "Dead letters", sources);
        assert!(rows.iter().all(|row| row["a_detail"] == "of … no JSON"), "{rows:?}");
        let mut counts: Vec<_> = rows
            .iter()
            .map(|row| (row["source"].as_str().unwrap().to_owned(), row["dead_letters"].as_u64()))
            .collect();
        counts.sort();
        counts
    };
    let of = |source: &str, number: u64| (source.to_owned(), Some(number));
    // The variable also has the source that has dead letters alone.
    assert_eq!(counts(&[]), [of("", 1), of("acme", 2), of("ghost", 1)]);
    assert_eq!(counts(&["acme"]), [of("", 1), of("acme", 2)]);
}

#[test]
fn incidents_of_silent_sources_and_of_many_sources_are_open() {
    let stored = Stored::new();
    let now = stored.now();
    stored.insert(&Events { at: now - HOUR, sent: now - HOUR, ..EVENTS });
    // Silent for longer than a week.
    stored.insert(&Events { source: "quiet", at: now - 20 * DAY, sent: now - 20 * DAY, ..EVENTS });
    let insert = |id: &str, group: &str, group_of: &str, sources: &str, count: u64| {
        stored.database.execute(&format!(
            "INSERT INTO incidents (id, seq, state, severity, family, `group`, group_of, sources, source_count, \
                 opened_at, at, summary) \
             VALUES (repeat('{id}', 32), 1, 'open', 'page', 'silence', '{group}', '{group_of}', {sources}, {count}, \
                 {now} - 600, {now} - 60, 'silent')"
        ));
    };
    insert("a", "source", "sendgrid/quiet", "['sendgrid/quiet']", 1);
    let ten: Vec<String> = (0..10).map(|n| format!("'sendgrid/other-{n}'")).collect();
    insert("b", "provider", "sendgrid", &format!("[{}]", ten.join(", ")), 12);
    insert("c", "source", "sendgrid/other-1", "['sendgrid/other-1']", 1);

    let number = |sources: &[&str]| {
        let rows = stored.rows("on-call.json", "Incidents", sources).len();
        let open = &stored.rows("on-call.json", "Open incidents", sources)[0];
        assert_eq!(open["incidents"].as_u64(), Some(rows as u64), "{open}");
        rows
    };
    assert_eq!(number(&[]), 2, "the silent source, and the incident of twelve sources");
    assert_eq!(number(&["acme"]), 1);
}

/// The clocks of New York went back on 1 November 2026.
#[test]
fn weekdays_are_compared_by_local_hours() {
    let mut stored = Stored::new();
    let second = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
    let (before, today) = (second("2026-10-26T13:30:00Z"), second("2026-11-02T14:30:00Z"));
    stored.insert(&Events { number: 8, at: before, sent: before, ..EVENTS });
    stored.insert(&Events { number: 3, at: today, sent: today, ..EVENTS });
    stored.now = "2026-11-02T20:00:00Z".parse().unwrap();
    let (_, dashboard) =
        dashboards().into_iter().find(|(name, _)| name == "deliverability.json").unwrap();
    let title = "Today and the same weekday before";
    let (_, target) = targets(&dashboard).find(|(it, _)| *it == title).unwrap();
    let variables = [("source", "acme"), ("zone", "America/New_York")]
        .map(|(name, value)| (name.to_owned(), vec![value.to_owned()]));
    let sql = target["rawSql"].as_str().unwrap();
    let sql = sql.replace("now()", &format!("toDateTime({})", stored.now()));
    let rows = stored.query(&sql, &dashboard, &variables.into());
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((&row["time"], &row["today"]), (&"2026-11-02 09:00:00".into(), &3.into()), "{row}");
    assert!(is_near(&row["mean_of_four_weeks"], 2.0), "{row}");
}
