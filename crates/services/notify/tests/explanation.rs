//! The preparation of a page: newer records are awaited, and ClickHouse is asked for the reasons.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods, reason = "deliveries have the real time")]

mod support;

use std::time::{Duration, Instant};

use alerting::Change::{Opened, Resolved, Updated};
use harness::{DEADLINE, Database};
use notify::delivery::{Deliveries, DeliverySettings, Retry};
use notify::explainer::Explainer;
use serde_json::Value;
use service::{ClickHouseSettings, Secret, Shutdown};
use support::sample::START;
use support::{Hook, await_done, channels, delivery_settings, read, received, sample};

const RETRY: Retry = Retry {
    min: Duration::from_millis(10),
    max: Duration::from_millis(40),
    give_up_after: DEADLINE,
};

/// Creates a database with the tables of `schemas/clickhouse`.
fn database(name: &str) -> Database {
    let database = Database::new(name);
    database.create();
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../schemas/clickhouse");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        let lines: Vec<_> = text.lines().filter(|line| !line.trim().starts_with("--")).collect();
        let statements = lines.join("\n");
        for statement in statements.split(';').filter(|text| !text.trim().is_empty()) {
            database.execute(statement);
        }
    }
    database
}

/// Adds `count` events of a kind, one per second before the end of the window.
fn add(
    database: &Database,
    count: u64,
    kind: &str,
    source: &str,
    status: &str,
    text: &str,
    to: &str,
) {
    let counts = if kind == "bounced" { "['bounced_hard']" } else { "['delivered']" };
    let (local, domain) = to.split_once('@').unwrap();
    database.execute(&format!(
        "INSERT INTO events (event_id, kind, provider, source, occurred_at, received_at, recipient, \
         mailbox_provider, bounce_status, bounce_class, bounce_diagnostic, counts) \
         SELECT toString(number), '{kind}', 'sendgrid', '{source}', \
         fromUnixTimestamp64Micro({START} - (number + 1) * 1000000, 'UTC') AS at, at, \
         '{local}@{domain}', splitByChar('.', '{domain}')[1], '{status}', 'invalid_recipient', \
         '{text}', {counts} FROM numbers({count})"
    ));
}

fn explainer(url: &str, database: &str, within: Duration) -> Explainer {
    let settings = ClickHouseSettings {
        url: url.to_owned(),
        ca_file: String::new(),
        certificate_file: String::new(),
        key_file: String::new(),
        cluster: String::new(),
        database: database.to_owned(),
        user: "default".to_owned(),
        password: Secret::new(""),
    };
    Explainer::new(&settings, within, true).unwrap()
}

fn start(hook: &Hook, explainer: Option<Explainer>, gather: Duration) -> Deliveries {
    let secret = "whsec_YW4gaW52ZW50ZWQga2V5IG9mIDMyIGJ5dGVzLi4uLi4=";
    let list = format!(
        r#"[{{ kind = "webhook", name = "hook", url = "{}", secret = "{secret}", allow_private = true }}]"#,
        hook.url()
    );
    let settings = DeliverySettings { gather, ..delivery_settings(RETRY) };
    Deliveries::start(channels(&list), settings, explainer, Shutdown::new()).unwrap()
}

fn page(posted: &Value) -> String {
    posted["page"].as_str().unwrap().to_owned()
}

#[test]
fn a_page_has_the_most_frequent_answers_and_what_is_still_sent() {
    let database = database("explanation");
    let unknown = "550 5.1.1 The email account <ada.lovelace@gmail.com> that you tried to reach does not exist d2e1a72fcca58-72aa8a0b3c4si123456b3a.12 - gsmtp";
    add(&database, 61, "bounced", "acme", "5.1.1", unknown, "ada.lovelace@gmail.com");
    add(
        &database,
        15,
        "bounced",
        "acme",
        "5.5.0",
        "550 5.5.0 mailbox unavailable",
        "bob@outlook.com",
    );
    add(&database, 4, "bounced", "acme", "5.1.1", "no such user", "eve@yahoo.com");
    add(&database, 2, "bounced", "acme", "5.1.2", "no such host", "eve@rare.example");
    add(&database, 99, "bounced", "other", "5.7.1", "blocked", "mallory@gmail.com");
    add(&database, 200, "delivered", "acme", "", "", "ada@gmail.com");
    // In the hour before the incident: 3 of 500.
    database.execute(&format!(
        "INSERT INTO events (event_id, kind, provider, source, occurred_at, received_at, counts) \
         SELECT toString(number), if(number < 3, 'bounced', 'delivered'), 'sendgrid', 'acme', \
         fromUnixTimestamp64Micro({START} - 301000000 - number * 1000000, 'UTC') AS at, at, \
         [if(number < 3, 'bounced_hard', 'delivered')] FROM numbers(500)"
    ));
    let hook = Hook::start(|_| Some(200));
    let explainer = explainer(&database.url, &database.name, Duration::from_secs(60));
    let mut deliveries = start(&hook, Some(explainer), Duration::ZERO);
    deliveries.send(received(Opened, 1, "acme", 1));
    assert_eq!(await_done(&mut deliveries), 1);
    let text = page(&hook.posted()[0].json());
    for expected in ["61", "15", "5.1.1", "does not exist", "ada…@gmail.com", "mailbox unavailable"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(text.contains("the hour before: 0.6 % of 500"), "{text}");
    assert!(text.contains("61× 550 5.1.1 \"The email account <…> that you tried"), "{text}");
    // The events of the last five minutes: 82 bounces and 200 deliveries.
    assert!(text.contains("56 a minute"), "{text}");
    for wrong in ["lovelace", "no such host", "blocked", "gsmtp d2e1", "123456b3a", "ClickHouse"] {
        assert!(!text.contains(wrong), "{wrong}: {text}");
    }
}

#[test]
fn a_page_goes_out_without_clickhouse_and_says_so() {
    let silent = Hook::start(|_| None);
    let broken = Hook::start(|_| Some(500));
    let closed = format!("127.0.0.1:{}", harness::free_port());
    for address in [silent.address.to_string(), broken.address.to_string(), closed] {
        let hook = Hook::start(|_| Some(200));
        let url = format!("http://{address}");
        let explainer = explainer(&url, "none", Duration::from_millis(300));
        let mut deliveries = start(&hook, Some(explainer), Duration::ZERO);
        let began = Instant::now();
        deliveries.send(received(Opened, 1, "acme", 1));
        assert_eq!(await_done(&mut deliveries), 1);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        let text = page(&hook.posted()[0].json());
        assert!(text.contains("82 of 501 sent"), "{text}");
        assert!(text.contains("ClickHouse did not answer in time"), "{text}");
    }
}

#[test]
fn a_new_incident_waits_for_the_newer_records() {
    let hook = Hook::start(|_| Some(200));
    let gather = Duration::from_millis(1500);
    let mut deliveries = start(&hook, None, gather);
    let began = Instant::now();
    deliveries.send(received(Opened, 1, "acme", 1));
    let mut updated = sample::incident(Updated, 2, "acme");
    updated["cause"] = serde_json::json!({
        "scope": { "scope": "campaign", "provider": "sendgrid", "source": "acme", "campaign": "spring" },
        "share": 0.97, "numerator": 80, "volume": 300, "rest_numerator": 2, "rest_volume": 201,
    });
    deliveries.send(read(&updated, 2));
    deliveries.send(received(Resolved, 3, "acme", 3));
    assert_eq!((await_done(&mut deliveries), await_done(&mut deliveries)), (1, 2));
    assert_eq!(await_done(&mut deliveries), 3);
    assert!(began.elapsed() >= gather);
    let posted: Vec<_> = hook.posted().iter().map(support::Posted::json).collect();
    assert_eq!(posted.len(), 2, "the update is part of the first message");
    assert_eq!(posted[0]["type"], "incident.opened");
    assert!(page(&posted[0]).contains("spring"), "{}", page(&posted[0]));
    assert_eq!(posted[1]["type"], "incident.resolved");
    // The identity is that of the record that notifies.
    assert!(hook.posted()[0].headers["webhook-id"].ends_with("_1"));
}
