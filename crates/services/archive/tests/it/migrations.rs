//! Several processes apply the files of `schemas/clickhouse` at once, and some of them are killed.

use archive::schema::{Layout, MIGRATIONS, Migration, Pending};
use harness::Database;

use crate::stack::{Stack, migrate};

/// The number of files of the previous release.
const RELEASED: usize = 12;

/// Returns the definitions of all tables and views of a database, with their comments.
fn definitions(database: &Database) -> Vec<String> {
    let sql = "SELECT concat(name, ': ', engine, ': ', create_table_query) FROM system.tables \
               WHERE database = currentDatabase() ORDER BY name";
    let text = String::from_utf8(database.bytes(sql, "TSV")).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Returns what differs, for the message of an assertion.
fn difference(before: &[String], after: &[String]) -> Vec<String> {
    let lacking = before.iter().filter(|it| !after.contains(it)).map(|it| format!("- {it}"));
    let further = after.iter().filter(|it| !before.contains(it)).map(|it| format!("+ {it}"));
    lacking.chain(further).collect()
}

/// Records a file as applied.
fn record(database: &Database, migration: &Migration) {
    let (Migration { version, name, .. }, checksum) = (migration, migration.checksum());
    database.execute(&format!(
        "INSERT INTO schema_migrations (version, name, checksum) VALUES ({version}, '{name}', '{checksum}')"
    ));
}

/// Creates the tables of the previous release.
fn create_released(database: &Database) {
    database.create();
    for migration in &MIGRATIONS[..RELEASED] {
        migration.statements().for_each(|statement| database.execute(statement));
        record(database, migration);
    }
}

/// Inserts an event and a rate, as a sign that no view rejects them.
fn assert_accepts_rows(database: &Database) {
    database.execute(
        "INSERT INTO events (event_id, source, occurred_at, received_at, counts) \
         VALUES ('a', 'acme', now(), now(), ['delivered'])",
    );
    let delivered: (i64, i64) =
        database.one("SELECT sum(events), sum(delivered) FROM events_hourly");
    assert_eq!(delivered, (1, 1));
}

#[test]
fn migrations_may_run_concurrently_and_repeatedly() {
    for round in 0..4 {
        let stack = Stack::without_topics();
        if round % 2 == 1 {
            create_released(&stack.database);
        }
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    migrate(&runtime, &stack.database);
                    migrate(&runtime, &stack.database);
                });
            }
        });
        let versions: u64 = stack.database.one("SELECT count() FROM schema_migrations FINAL");
        assert_eq!(versions, MIGRATIONS.len() as u64);
        assert_accepts_rows(&stack.database);
    }
}

/// A process that has found few files applied, and runs the others when another process has run them all. It may end
/// after any of its statements, and all files are recorded then, so no later start would run one of them.
#[test]
fn no_statement_of_a_slower_process_changes_anything() {
    for applied in [0, RELEASED] {
        let stack = Stack::without_topics();
        if applied > 0 {
            create_released(&stack.database);
        }
        let slower =
            Pending { migrations: MIGRATIONS[applied..].to_vec(), layout: Layout::OneServer };
        stack.migrate();
        let expected = definitions(&stack.database);
        for statement in slower.statements() {
            stack.database.execute(&statement);
            let found = definitions(&stack.database);
            assert_eq!(difference(&expected, &found), Vec::<String>::new(), "{statement}");
        }
        assert_accepts_rows(&stack.database);
    }
}

/// `0013_traffic.sql` replaces a table by a view: the only file that removes something.
#[test]
fn a_process_that_is_killed_between_two_statements_leaves_nothing_to_repair() {
    let fresh = Stack::without_topics();
    fresh.migrate();
    let expected = definitions(&fresh.database);
    let in_database = |lines: &[String], database: &Database| -> Vec<String> {
        lines.iter().map(|line| line.replace(&database.name, "DATABASE")).collect()
    };
    let expected = in_database(&expected, &fresh.database);
    let traffic = MIGRATIONS.iter().position(|it| it.name == "0013_traffic.sql").unwrap();
    for run in 0..=MIGRATIONS[traffic].statements().count() {
        let stack = Stack::without_topics();
        let database = &stack.database;
        create_released(database);
        for migration in &MIGRATIONS[RELEASED..traffic] {
            migration.statements().for_each(|statement| database.execute(statement));
            record(database, migration);
        }
        for statement in MIGRATIONS[traffic].statements().take(run) {
            database.execute(statement);
        }
        stack.migrate();
        let found = in_database(&definitions(database), database);
        // The order of columns that two files add differs from that of a new table in nothing else.
        assert_eq!(difference(&expected, &found), released_partitions(&expected), "{run}");
        assert_accepts_rows(database);
    }
}

/// Returns the difference between a new table of events and one of the previous release: its partitions.
fn released_partitions(expected: &[String]) -> Vec<String> {
    let events = expected.iter().find(|line| line.starts_with("events: ")).unwrap();
    let released = events.replace("toYYYYMM(received_at)", "toYYYYMM(occurred_at)");
    vec![format!("- {events}"), format!("+ {released}")]
}

#[test]
fn a_process_that_is_killed_before_it_creates_events_does_not_decide_how_they_are_divided() {
    let stack = Stack::without_topics();
    stack.database.create();
    MIGRATIONS[0].statements().for_each(|statement| stack.database.execute(statement));
    record(&stack.database, &MIGRATIONS[0]);
    stack.migrate();
    let key: String = stack.database.one(
        "SELECT partition_key FROM system.tables WHERE database = currentDatabase() AND name = 'events'",
    );
    assert_eq!(key, "toYYYYMM(received_at)");
}

/// libchdb runs nothing ON CLUSTER, but its parser is that of ClickHouse.
#[test]
fn the_statements_for_a_cluster_can_be_parsed() {
    let stack = Stack::without_topics();
    stack.database.create();
    let migrations = MIGRATIONS.to_vec();
    let pending = Pending { migrations, layout: Layout::Cluster("mail \'1\'".to_owned()) };
    for statement in pending.statements() {
        let parsed = stack.database.bytes(&format!("EXPLAIN AST {statement}"), "TSVRaw");
        assert!(!parsed.is_empty(), "{statement}");
    }
    let broken =
        format!("EXPLAIN AST {}", pending.statements().next().unwrap().replace("ON C", "ON D"));
    assert!(stack.database.try_one::<String>(&broken).is_err(), "the test can fail");
}
