//! What must not start, what costs one row, and what holds.

use std::process::Stdio;

use crate::records::produce_events;
use crate::stack::{Outgoing, Stack, wait_until};

/// Runs the archive to its end and returns what it said.
fn refusal(stack: &Stack, further: &[(&str, &str)]) -> String {
    let mut command = stack.command(further);
    command.env("MAILPULSE__ARCHIVE__ADMIN", "127.0.0.1:0");
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    assert!(!output.status.success());
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn a_table_without_a_window_is_refused() {
    let stack = Stack::without_topics(devstack::shared_clickhouse());
    stack.migrate();
    for table in ["events", "events_hourly", "dead_letters"] {
        let set = |n| {
            stack.execute(&format!(
                "ALTER TABLE {table} MODIFY SETTING non_replicated_deduplication_window = {n}"
            ));
        };
        set(0);
        let said = refusal(&stack, &[]);
        assert!(said.contains("deduplication_off"), "{said}");
        assert!(said.contains(&format!("ALTER TABLE {}.{table}", stack.database)), "{said}");
        set(10_000);
    }
}

#[test]
fn a_missing_table_is_refused() {
    let stack = Stack::without_topics(devstack::shared_clickhouse());
    stack.migrate();
    stack.execute("DROP TABLE alerts SYNC");
    let said = refusal(&stack, &[("MAILPULSE__ARCHIVE__MIGRATE", "false")]);
    assert!(said.contains("table_missing") && said.contains("alerts"), "{said}");
}

#[test]
fn a_migration_that_changed_after_it_was_applied_is_refused() {
    let stack = Stack::without_topics(devstack::shared_clickhouse());
    stack.migrate();
    stack.execute("ALTER TABLE schema_migrations UPDATE checksum = 'x' WHERE version = 2 SETTINGS mutations_sync = 2");
    let said = refusal(&stack, &[]);
    assert!(said.contains("migration_changed") && said.contains("0002_rates.sql"), "{said}");
}

#[test]
fn migrations_may_run_at_once_and_again() {
    let stack = Stack::without_topics(devstack::shared_clickhouse());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let settings = crate::stack::toml_settings(&stack.url, &stack.database);
                let server = archive::server::Server::new(&settings);
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(archive::schema::migrate(&server)).unwrap();
                runtime.block_on(archive::schema::migrate(&server)).unwrap();
            });
        }
    });
    let versions: u64 = stack.ask("SELECT count() FROM schema_migrations FINAL");
    assert_eq!(versions, archive::schema::MIGRATIONS.len() as u64);
}

#[test]
fn poison_costs_one_row() {
    let stack = Stack::new();
    stack.migrate();
    stack.execute("ALTER TABLE events ADD CONSTRAINT no_poison CHECK recipient NOT IN ('u77@example.com', 'u1400@example.com')");
    produce_events(&stack, 0, 1000);
    let topic = stack.topics.events.as_str();
    let first: [(&str, &[u8]); 2] = [("first", b"often"), ("x", b"kept")];
    let opened = br#"{"event_id":"000102030405060708090a0b0c0d0e0f","kind":"opened","provider":"ses","source":"acme","occurred_at":1,"received_at":2,"provider_event":"Open","request_id":"r","raw":1}"#;
    let bad = |value, headers| Outgoing { topic, partition: 0, value, headers };
    stack.produce(&[bad(b"{\"event_id\":", &[]), bad(b"{}", &[]), bad(opened, &first)], 2);
    produce_events(&stack, 1000, 2000);
    let archive = stack.start(&[]);
    stack.await_count("events", 1998);
    stack.await_count("dead_letters", 5);
    let reasons: String = stack.ask(
        "SELECT arrayStringConcat(arraySort(groupArray(reason)), ' ') FROM dead_letters \
         WHERE stage = 'archive'",
    );
    assert_eq!(reasons, "bad_headers not_json row_refused row_refused wrong_shape");
    let refused: (String, u64) = stack.ask(
        "SELECT arrayStringConcat(arraySort(groupArray(JSONExtractString(value, 'recipient'))), ' '), \
         countIf(detail LIKE '%no_poison%' AND origin LIKE '%mail.events/%') \
         FROM dead_letters WHERE reason = 'row_refused'",
    );
    assert_eq!(refused, ("u1400@example.com u77@example.com".into(), 2));
    let kept: (String, String) =
        stack.ask("SELECT headers['x'], hex(key) FROM dead_letters WHERE reason = 'bad_headers'");
    assert_eq!(kept, ("kept".into(), hex::encode_upper("ada@example.com")));
    assert_eq!(stack.ask::<u64>("SELECT uniqExact(event_id) FROM events"), 1998);
    let hourly = || stack.ask::<u64>("SELECT sum(events) FROM events_hourly");
    wait_until("the rollup", || hourly() >= 1998);
    assert_eq!(hourly(), 1998);
    wait_until("readiness", || archive.get("/readyz").starts_with("HTTP/1.1 200"));
}

#[test]
fn many_refusals_in_a_row_hold_the_partition() {
    let stack = Stack::new();
    stack.migrate();
    stack.execute("ALTER TABLE events ADD CONSTRAINT nothing CHECK provider = 'none'");
    produce_events(&stack, 0, 100);
    let archive = stack.start(&[("MAILPULSE__ARCHIVE__REFUSALS_TO_HOLD", "5")]);
    wait_until("both holds", || {
        let metrics = archive.get("/metrics");
        metrics
            .lines()
            .filter(|line| line.starts_with("mailpulse_archive_held") && line.ends_with(" 1"))
            .filter(|line| line.contains("reason=\"refusals\""))
            .count()
            == 2
    });
    assert!(archive.get("/readyz").starts_with("HTTP/1.1 503"));
    // Others go on.
    let topic = stack.topics.rates.as_str();
    let rate = Outgoing { topic, partition: 0, value: crate::records::RATE, headers: &[] };
    stack.produce(&[rate], 1);
    stack.await_count("rates", 1);
    assert_eq!(stack.count("events"), 0);
    assert!(stack.count("dead_letters") <= 8, "four a partition");
}
