//! Creates the tables from the numbered files in `schemas/clickhouse/`, and checks them before
//! anything is inserted.

mod error;
mod layout;

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::clickhouse_error::ClickHouseError;
use crate::server::Server;
use crate::tables::Table;
pub use error::SchemaError;
pub use layout::Layout;

/// How long a statement of a file may take. On a cluster, ClickHouse waits for all replicas.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(600);

/// One file of `schemas/clickhouse/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// The number of the file. Files are applied in this order.
    pub version: u32,
    pub name: &'static str,
    /// The statements. Each ends with a semicolon at the end of a line. Running a statement again must
    /// change nothing, also after those of all later files: a process may be slower than another one.
    pub sql: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal),+ $(,)?) => {
        /// All migrations, in order.
        pub const MIGRATIONS: &[Migration] = &[$(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../../../schemas/clickhouse/", $name)),
        }),+];
    };
}

migrations! {
    0 "0000_schema_migrations.sql",
    1 "0001_events.sql",
    2 "0002_rates.sql",
    3 "0003_alerts.sql",
    4 "0004_dead_letters.sql",
    5 "0005_events_hourly.sql",
    6 "0006_enrichment.sql",
    7 "0007_time_fault.sql",
    8 "0008_sending.sql",
    9 "0009_rates.sql",
    10 "0010_message_counts.sql",
    11 "0011_alerts.sql",
    12 "0012_events.sql",
    13 "0013_traffic.sql",
    14 "0014_cohorts.sql",
    15 "0015_side_rollups.sql",
    16 "0016_message_life.sql",
    17 "0017_recipients.sql",
    18 "0018_views.sql",
    19 "0019_audit.sql",
    20 "0020_comments.sql",
    21 "0021_actions.sql",
    22 "0022_predictions.sql",
    23 "0023_suppressions.sql",
}

/// The tables that must deduplicate inserts: those we insert into, and those that a materialized
/// view fills.
const DEDUPLICATED: [&str; 14] = [
    "events",
    "rates",
    "alerts",
    "incidents",
    "actions",
    "suppressions",
    "dead_letters",
    "traffic",
    "cohorts",
    "traffic_ip",
    "traffic_domain",
    "traffic_country",
    "links",
    "message_life",
];

impl Migration {
    /// Returns the SHA-256 of the file in lower-case hexadecimal.
    pub fn checksum(&self) -> String {
        hex::encode(Sha256::digest(self.sql))
    }

    /// Returns the statements of the file.
    pub fn statements(&self) -> impl Iterator<Item = &'static str> {
        self.sql.split(";\n").map(str::trim).filter(|statement| !statement.is_empty())
    }

    /// Returns the statements that are run to apply the file.
    fn adapted(&self, layout: &Layout) -> impl Iterator<Item = Cow<'static, str>> {
        let is_superseded = SUPERSEDED.contains(&self.version);
        let statements = self.statements().filter(move |_| !is_superseded);
        statements.map(|statement| layout.adapt(statement))
    }
}

/// The files whose tables and views a later file removes. They are recorded without being run. A process that is
/// slower than another one would create again what that one has removed; and if the slower one ended then, no later
/// start would remove it.
const SUPERSEDED: [u32; 1] = [5];

/// Applies the files that have not been applied yet, in order. It can run again, and in several
/// processes at once.
///
/// # Errors
/// See [`SchemaError`].
pub async fn migrate(server: &Server) -> Result<(), SchemaError> {
    let pending = pending(server).await?;
    let database = server.database();
    if pending.migrations.is_empty() {
        return Ok(());
    }
    if server.count() > 1 && pending.layout == Layout::OneServer {
        let (database, table, engine) = (database.to_owned(), "events".into(), "MergeTree".into());
        return Err(SchemaError::NotReplicated { database, table, engine });
    }
    if pending.migrations.len() == MIGRATIONS.len() {
        let clause = pending.layout.clause();
        let create = format!("CREATE DATABASE IF NOT EXISTS {database}{clause}");
        server.execute(&create, false).await?;
    }
    for migration in &pending.migrations {
        apply(server, migration, &pending.layout).await?;
    }
    Ok(())
}

/// The files that have not been applied yet, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    pub migrations: Vec<Migration>,
    pub layout: Layout,
}

impl Pending {
    /// Returns the statements that [`migrate`] would run.
    pub fn statements(&self) -> impl Iterator<Item = Cow<'static, str>> {
        self.migrations.iter().flat_map(|migration| migration.adapted(&self.layout))
    }
}

/// Returns the files that have not been applied yet. Changes nothing.
///
/// # Errors
/// See [`SchemaError`].
pub async fn pending(server: &Server) -> Result<Pending, SchemaError> {
    let database = checked_name(server.database())?;
    let layout = layout(server).await?;
    let has_migrations = server
        .pairs(
            "SELECT name, '' FROM system.tables WHERE database = ? AND name = 'schema_migrations'",
            &[database],
        )
        .await?;
    if has_migrations.is_empty() {
        return Ok(Pending { migrations: MIGRATIONS.to_vec(), layout });
    }
    let applied = format!("SELECT toString(version), checksum FROM {database}.schema_migrations");
    let applied = server.pairs(&applied, &[]).await?;
    let mut migrations = Vec::new();
    for migration in MIGRATIONS {
        let version = migration.version.to_string();
        let mut recorded = applied.iter().filter(|(applied, _)| *applied == version).peekable();
        if recorded.peek().is_none() {
            migrations.push(*migration);
        } else if !recorded.any(|(_, applied)| *applied == migration.checksum()) {
            let (name, database) = (migration.name, database.to_owned());
            return Err(SchemaError::MigrationChanged { name, database });
        }
    }
    Ok(Pending { migrations, layout })
}

/// Returns on which servers the database is, or will be.
async fn layout(server: &Server) -> Result<Layout, SchemaError> {
    let sql = "SELECT engine, '' FROM system.databases WHERE name = ?";
    let engine = server.pairs(sql, &[server.database()]).await?;
    match engine.first().map(|(engine, _)| engine.as_str()) {
        Some("Replicated") => return Ok(Layout::ReplicatedDatabase),
        Some("Shared") => return Ok(Layout::SharedDatabase),
        _ if server.cluster().is_empty() => return Ok(Layout::OneServer),
        _ => {}
    }
    let cluster = server.cluster().to_owned();
    let sql = "SELECT toString(uniqExact(shard_num)), '' FROM system.clusters WHERE cluster = ?";
    let shards = server.pairs(sql, &[&cluster]).await?;
    match shards.first().map_or("0", |(shards, _)| shards.as_str()) {
        "0" => Err(SchemaError::ClusterUnknown(cluster)),
        "1" => Ok(Layout::Cluster(cluster)),
        shards => Err(SchemaError::SeveralShards { cluster, shards: shards.to_owned() }),
    }
}

async fn apply(
    server: &Server,
    migration: &Migration,
    layout: &Layout,
) -> Result<(), ClickHouseError> {
    for statement in migration.adapted(layout) {
        server.execute_long(&statement, STATEMENT_TIMEOUT).await?;
    }
    let Migration { version, name, .. } = migration;
    let checksum = migration.checksum();
    let insert = format!(
        "INSERT INTO schema_migrations (version, name, checksum) SETTINGS async_insert = 0 \
         VALUES ({version}, '{name}', '{checksum}')"
    );
    server.execute(&insert, true).await?;
    tracing::info!(name, "migration applied");
    Ok(())
}

/// Checks that every table exists and deduplicates inserts, and passes the size of each
/// deduplication window to `server`. With several servers, checks that they are replicas; those that do not answer are
/// not checked.
///
/// # Errors
/// See [`SchemaError`].
pub async fn check(server: &mut Server) -> Result<(), SchemaError> {
    if server.count() == 1 {
        return check_one(server).await;
    }
    let (mut paths, mut last_error) = (Vec::new(), None);
    for (name, mut one) in server.each() {
        let path = match check_one(&mut one).await {
            Ok(()) => path_of_events(&one).await,
            Err(error) => Err(error),
        };
        match path {
            Ok(path) => paths.push((name, path)),
            Err(error) if error.is_of_the_server() => {
                tracing::warn!(server = name, %error, "a replica of ClickHouse does not answer; it is not checked");
                last_error = Some(error);
            }
            Err(error) => {
                return Err(SchemaError::OfServer { server: name, error: Box::new(error) });
            }
        }
    }
    let Some((one, first)) = paths.first() else { return last_error.map_or(Ok(()), Err) };
    if let Some((other, _)) = paths.iter().find(|(_, path)| path != first) {
        let (one, other) = (one.clone(), other.clone());
        return Err(SchemaError::DifferentReplicas { one, other });
    }
    pin_newer(server).await?;
    server.catch_up_before_reads();
    Ok(())
}

/// Returns the path of the table `events` in Keeper. Empty for a table that ClickHouse Cloud replicates.
async fn path_of_events(server: &Server) -> Result<String, SchemaError> {
    let sql =
        "SELECT zookeeper_path, '' FROM system.replicas WHERE database = ? AND table = 'events'";
    let paths = server.pairs(sql, &[server.database()]).await?;
    Ok(paths.into_iter().next().unwrap_or_default().0)
}

/// Pins the settings that only some versions of ClickHouse have.
async fn pin_newer(server: &mut Server) -> Result<(), SchemaError> {
    let sql = "SELECT name, value FROM system.settings WHERE name = 'deduplicate_insert'";
    if !server.pairs(sql, &[]).await?.is_empty() {
        // Versions that have this setting give it precedence over insert_deduplicate.
        server.pin("deduplicate_insert", "enable");
    }
    Ok(())
}

async fn check_one(server: &mut Server) -> Result<(), SchemaError> {
    let database = checked_name(server.database())?.to_owned();
    let tables = server
        .pairs(
            "SELECT name, concat(engine, ' ', engine_full) FROM system.tables WHERE database = ?",
            &[&database],
        )
        .await?;
    let tables: HashMap<String, String> = tables.into_iter().collect();
    let defaults = server
        .pairs(
            "SELECT name, value FROM system.merge_tree_settings \
             WHERE name LIKE '%replicated_deduplication_window'",
            &[],
        )
        .await?;
    pin_newer(server).await?;
    for table in DEDUPLICATED {
        let Some(engine_full) = tables.get(table) else {
            return Err(SchemaError::TableMissing { database, table });
        };
        let window = window(&database, table, engine_full, &defaults)?;
        let insert_table = Table::ALL.into_iter().find(|insert| insert.name() == table);
        if let (Some(insert_table), Some(window)) = (insert_table, window) {
            server.set_window(insert_table, window);
        }
    }
    if server.is_one_of_several() {
        let plain = tables.into_iter().find(|(_, engine)| is_plain(engine_name(engine)));
        if let Some((table, engine)) = plain {
            let engine = engine_name(&engine).to_owned();
            return Err(SchemaError::NotReplicated { database, table, engine });
        }
    }
    Ok(())
}

/// Returns the name of an engine without its arguments.
fn engine_name(engine_full: &str) -> &str {
    engine_full.split([' ', '(']).next().unwrap_or_default()
}

/// Whether tables of an engine have their rows on one server only.
fn is_plain(engine: &str) -> bool {
    engine.ends_with("MergeTree")
        && !engine.starts_with("Replicated")
        && !engine.starts_with("Shared")
}

/// Returns the size of a table's deduplication window, in inserts. Returns `None` if the engine
/// does not number inserts across the whole table; then the age of an insert cannot be determined.
fn window(
    database: &str,
    table: &'static str,
    engine_full: &str,
    defaults: &[(String, String)],
) -> Result<Option<u64>, SchemaError> {
    let engine = engine_name(engine_full);
    let owned = || (database.to_owned(), engine.to_owned());
    if !engine.ends_with("MergeTree") {
        let (database, engine) = owned();
        return Err(SchemaError::WrongEngine { database, table, engine });
    }
    let replicated = !is_plain(engine);
    let setting = if replicated {
        "replicated_deduplication_window"
    } else {
        "non_replicated_deduplication_window"
    };
    let default =
        defaults.iter().find(|(name, _)| name == setting).map(|(_, value)| value.as_str());
    let window: u64 =
        own_setting(engine_full, setting).or(default).and_then(|n| n.parse().ok()).unwrap_or(0);
    if window == 0 {
        let (database, engine) = owned();
        return Err(SchemaError::DeduplicationOff { database, table, engine, setting });
    }
    Ok((!replicated).then_some(window))
}

/// Returns the value of a setting in the `SETTINGS` of a table's definition.
fn own_setting<'t>(engine_full: &'t str, setting: &str) -> Option<&'t str> {
    let (_, settings) = engine_full.rsplit_once(" SETTINGS ")?;
    settings
        .split(", ")
        .find_map(|pair| pair.strip_prefix(setting)?.trim_start().strip_prefix("= "))
}

/// Returns the name if it can be put into a statement without quoting.
fn checked_name(database: &str) -> Result<&str, SchemaError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let first_is_valid = database.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    if first_is_valid && database.bytes().all(plain) {
        Ok(database)
    } else {
        Err(SchemaError::DatabaseName(database.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_have_the_number_of_their_file_and_can_be_repeated() {
        for (version, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version as usize, version);
            assert!(migration.name.starts_with(&format!("{version:04}_")));
            for statement in migration.statements() {
                let code = statement.lines().filter(|line| !line.trim().starts_with("--"));
                let adds = |line: &&str| line.contains("ADD COLUMN") || line.contains("CREATE ");
                // A statement may add several columns.
                for line in code.clone().filter(adds) {
                    let is_repeatable = ["IF NOT EXISTS", "CREATE OR REPLACE VIEW"];
                    assert!(is_repeatable.iter().any(|it| line.contains(it)), "{line}");
                }
                let repeatable = |line: &str| {
                    ["EXISTS", "CREATE OR REPLACE VIEW", "MODIFY SETTING", "COMMENT COLUMN"]
                        .iter()
                        .any(|it| line.contains(it))
                };
                assert!(code.clone().any(repeatable), "{statement}");
                assert_eq!(code.filter(|line| line.contains(';')).count(), 0, "a single statement");
            }
        }
        let files = std::fs::read_dir("../../../schemas/clickhouse").unwrap();
        let sql =
            files.filter(|f| f.as_ref().unwrap().path().extension().is_some_and(|e| e == "sql"));
        assert_eq!(sql.count(), MIGRATIONS.len(), "every file is a migration");
    }

    #[test]
    fn the_window_is_read_from_the_table_or_the_default_of_the_server() {
        let defaults = |non_replicated: &str| {
            vec![
                ("non_replicated_deduplication_window".to_owned(), non_replicated.to_owned()),
                ("replicated_deduplication_window".to_owned(), "10000".to_owned()),
            ]
        };
        let of = |engine: &str, default: &str| window("d", "events", engine, &defaults(default));
        let plain = "MergeTree MergeTree ORDER BY x SETTINGS";
        let set =
            format!("{plain} non_replicated_deduplication_window = 7, index_granularity = 8192");
        assert_eq!(of(&set, "0").unwrap(), Some(7));
        assert_eq!(of(&format!("{plain} index_granularity = 8192"), "5").unwrap(), Some(5));
        let code = |engine: &str| of(engine, "0").unwrap_err().code();
        assert_eq!(code(&format!("{plain} index_granularity = 8192")), "deduplication_off");
        assert_eq!(code(&set.replace("= 7", "= 0")), "deduplication_off");
        assert_eq!(code("Memory Memory"), "wrong_engine");
        let replicated = "ReplicatedMergeTree ReplicatedMergeTree('/x', 'r') ORDER BY x";
        assert_eq!(of(replicated, "0").unwrap(), None);
        let off = format!("{replicated} SETTINGS replicated_deduplication_window = 0");
        assert_eq!(code(&off), "deduplication_off");
    }

    #[test]
    fn database_names_that_need_quoting_are_rejected() {
        assert!(checked_name("mail_1").is_ok());
        for bad in ["", "1a", "a-b", "a`b", "a b", "é"] {
            assert_eq!(checked_name(bad).unwrap_err().code(), "database_name", "{bad}");
        }
    }
}
