//! `mailpulse migrate` on a database of its own, and `mailpulse heal` on sums that somebody has changed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stored;

use archive::schema::MIGRATIONS;
use harness::Database;
use stored::{SECOND, Setup, Stored, T0};

fn rows(setup: &Setup, sql: &str) -> u64 {
    setup.database.one(sql)
}

#[test]
fn migrate_prints_or_applies_what_is_missing_and_then_nothing() {
    let setup = Setup::with(
        "migrate",
        Database::new("migrate"),
        "[archive.retention]\nrates = \"36h\"\ncohorts = \"0s\"\n",
    );
    let removed = MIGRATIONS.iter().find(|it| it.name == "0019_audit.sql").unwrap();
    setup.database.execute("DROP TABLE audit");
    setup.database.execute(&format!(
        "ALTER TABLE schema_migrations DELETE WHERE version = {} SETTINGS mutations_sync = 2",
        removed.version
    ));
    let printed = setup.run(&["migrate", "--print"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    let statement = removed.statements().next().unwrap();
    assert!(printed.out.contains(statement), "{printed:?}");
    assert!(
        printed.out.contains("rates MODIFY TTL toDateTime(window_end) + toIntervalSecond(129600);")
    );
    assert!(
        printed
            .out
            .contains("events MODIFY COLUMN raw TTL toDateTime(received_at) + toIntervalDay(30);")
    );
    assert!(!printed.out.contains("cohorts MODIFY"), "{printed:?}");
    let tables =
        "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'audit'";
    assert_eq!(rows(&setup, tables), 0, "nothing was run");

    let applied = setup.run(&["migrate"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    assert!(applied.out.contains(&format!("applied {}", removed.name)), "{applied:?}");
    assert_eq!(rows(&setup, tables), 1);
    let missing = setup
        .run_with(&["migrate", "--print"], &[("MAILPULSE__CLICKHOUSE__DATABASE", "not_there")]);
    assert_eq!(missing.code, 0, "{missing:?}");
    assert!(missing.out.contains("CREATE TABLE IF NOT EXISTS events"), "{missing:?}");
    // What is printed for a new database is what would run there, not what the file has.
    assert!(MIGRATIONS[1].sql.contains("PARTITION BY toYYYYMM(occurred_at)"));
    assert!(missing.out.contains("PARTITION BY toYYYYMM(received_at)"), "{missing:?}");
    assert!(!missing.out.contains("PARTITION BY toYYYYMM(occurred_at)"), "{missing:?}");
    let again = setup.run(&["migrate", "--print"]);
    assert_eq!((again.code, &*again.out), (0, ""), "{again:?}");
    assert!(again.err.contains("0 migrations and 0 changes of retention"), "{again:?}");
}

#[test]
fn heal_finds_and_corrects_sums_that_differ() {
    // The events of these tests are of October 2025.
    let kept = "[archive.retention]\nevents = \"0s\"\ntraffic = \"0s\"\ncohorts = \"0s\"\n";
    let setup = Setup::with("heal", Database::new("heal"), kept);
    let event = |offset| Stored {
        partition: 1,
        offset,
        at: T0 + offset.cast_signed() * SECOND,
        source: "acme",
        campaign: "spring",
        counts: "delivered",
        sent: None,
        corrections: "",
    };
    setup.insert_events(&(0..10).map(event).collect::<Vec<_>>());
    let equal = setup.run(&["heal"]);
    assert_eq!((equal.code, &*equal.out), (0, ""), "{equal:?}");

    let delivered = "SELECT toUInt64(sum(delivered)) FROM traffic";
    assert_eq!(rows(&setup, delivered), 10);
    setup.database.execute("TRUNCATE TABLE traffic");
    let found = setup.run(&["heal"]);
    assert_eq!((found.code, &*found.out), (1, "traffic\t1 groups differ\n"), "{found:?}");
    assert_eq!(rows(&setup, delivered), 0, "nothing was corrected");
    let healed = setup.run(&["heal", "--repair"]);
    assert_eq!(healed.code, 0, "{healed:?}");
    assert_eq!(rows(&setup, delivered), 10);
    assert_eq!(setup.run(&["heal"]).code, 0);
    let audit: (String, String) = setup.database.one("SELECT command, result FROM audit");
    assert_eq!(audit, ("heal".to_owned(), "done".to_owned()));
}
