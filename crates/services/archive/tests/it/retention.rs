//! Rows expire by `[archive.retention]`, and a TTL that is right is not set again.

use harness::{Launch, Service};

use crate::stack::Stack;

const RETENTION: &str = r#"
[archive.retention]
raw = "1d"
events = "3d"
traffic = "0s"
cohorts = "396d"
message_life = "400d"
rates = "30d"
alerts = "1827d"
incidents = "1827d"
actions = "400d"
audit = "1827d"
dead_letters = "2d"
"#;

/// Starts archive with a retention, and returns when it has changed the tables.
fn start(stack: &Stack, retention: &str) -> Service {
    let harness::Database { url, name, .. } = &stack.database;
    Launch::new("archive", env!("CARGO_BIN_EXE_archive"), &stack.cluster)
        .config(&format!("[clickhouse]\nurl = {url:?}\ndatabase = {name:?}\n{retention}"))
        .start()
}

/// Inserts an event into a partition that archive does not read. It was received `hours` hours ago.
fn insert_event(stack: &Stack, hours: u32) {
    stack.database.execute(&format!(
        "INSERT INTO events (event_id, source, kind, occurred_at, received_at, raw, kafka_partition, kafka_offset) \
         VALUES ('{hours}', 'acme', 'delivered', now() - {hours} * 3600, now() - {hours} * 3600, '{{}}', 99, {hours})"
    ));
}

/// Returns the number of changes that ClickHouse has made to a table.
fn changes(stack: &Stack, table: &str) -> u64 {
    let name = &stack.database.name;
    stack.database.one(&format!(
        "SELECT count() FROM system.mutations WHERE database = '{name}' AND table = '{table}' \
         AND command LIKE '%MATERIALIZE TTL%'"
    ))
}

#[test]
fn events_expire_after_their_raw_bytes_and_a_restart_changes_nothing() {
    let stack = Stack::new();
    let mut archive = start(&stack, RETENTION);
    for hours in [1, 36, 100] {
        insert_event(&stack, hours);
    }
    stack.database.execute("OPTIMIZE TABLE events FINAL");
    let rows: Vec<(String, String)> = stack.database.one(
        "SELECT groupArray((event_id, raw)) FROM (SELECT * FROM events ORDER BY kafka_offset)",
    );
    let expected = [("1", "{}"), ("36", "")].map(|(id, raw)| (id.to_owned(), raw.to_owned()));
    assert_eq!(rows, expected);
    let of_traffic: String = stack.database.one("SELECT engine_full FROM system.tables WHERE name = 'traffic' AND database = currentDatabase()");
    assert!(!of_traffic.contains(" TTL "), "0s leaves the table alone: {of_traffic}");

    let before = changes(&stack, "events");
    assert!(before > 0);
    archive.stop();
    archive.restart();
    assert_eq!(changes(&stack, "events"), before, "the parts are not rewritten again");
    drop(archive);
    let longer = RETENTION.replace("\"3d\"", "\"9d\"");
    drop(start(&stack, &longer));
    let ttl: String = stack.database.one("SELECT engine_full FROM system.tables WHERE name = 'events' AND database = currentDatabase()");
    assert!(ttl.contains("TTL toDateTime(received_at) + toIntervalDay(9)"), "{ttl}");
}
