//! The tables: made by the numbered files of `schemas/clickhouse/`, and checked before anything is
//! written to them.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::clickhouse_error::ClickHouseError;
use crate::server::Server;
use crate::tables::Table;

/// One file of `schemas/clickhouse/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Its number. They are applied in this order.
    pub version: u32,
    /// The file's name.
    pub name: &'static str,
    /// Its statements, each ended by a semicolon at the end of a line, and each such that running it
    /// again changes nothing: two archives may apply it at once.
    pub sql: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal),+ $(,)?) => {
        /// All migrations, in order.
        pub const MIGRATIONS: &[Migration] = &[$(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../../../../schemas/clickhouse/", $name)),
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
}

/// Tables that need a window of their own: those we insert into, and those fed by a view.
const WITH_WINDOW: [&str; 5] = ["events", "rates", "alerts", "dead_letters", "events_hourly"];

/// Why the archive cannot use the database.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// ClickHouse failed.
    #[error("{0}")]
    ClickHouse(#[from] ClickHouseError),
    /// The name is not one that needs no quoting.
    #[error("`{0}` is no name for a database; set clickhouse.database to letters, digits and _")]
    DatabaseName(String),
    /// A file that was applied is not what it was.
    #[error(
        "{name} was applied to `{database}` with other contents; restore the file and put the \
         change into a new one"
    )]
    MigrationChanged {
        /// The file.
        name: &'static str,
        /// Where.
        database: String,
    },
    /// A table is not there.
    #[error(
        "table `{database}.{table}` is missing; set archive.migrate or run `mailpulse migrate`"
    )]
    TableMissing {
        /// Where.
        database: String,
        /// Which.
        table: &'static str,
    },
    /// A table does not recognise repeated inserts.
    #[error(
        "table `{database}.{table}` ({engine}) does not recognise repeated inserts; run ALTER TABLE \
         {database}.{table} MODIFY SETTING {setting} = 10000"
    )]
    DeduplicationOff {
        /// Where.
        database: String,
        /// Which.
        table: &'static str,
        /// Its engine.
        engine: String,
        /// What is 0.
        setting: &'static str,
    },
    /// A table is of an engine that never recognises repeated inserts.
    #[error(
        "table `{database}.{table}` has the engine {engine}, which does not recognise repeated \
         inserts; it has to be one of the MergeTree family"
    )]
    WrongEngine {
        /// Where.
        database: String,
        /// Which.
        table: &'static str,
        /// Its engine.
        engine: String,
    },
}

impl SchemaError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ClickHouse(error) => error.code(),
            Self::DatabaseName(_) => "database_name",
            Self::MigrationChanged { .. } => "migration_changed",
            Self::TableMissing { .. } => "table_missing",
            Self::DeduplicationOff { .. } => "deduplication_off",
            Self::WrongEngine { .. } => "wrong_engine",
        }
    }

    /// Whether trying again may help without anybody doing anything.
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::ClickHouse(ClickHouseError::Away(_) | ClickHouseError::Timeout))
    }
}

impl Migration {
    /// SHA-256 of the file, lower-case hexadecimal.
    pub fn checksum(&self) -> String {
        hex::encode(Sha256::digest(self.sql))
    }

    /// The statements.
    pub fn statements(&self) -> impl Iterator<Item = &'static str> {
        self.sql.split(";\n").map(str::trim).filter(|statement| !statement.is_empty())
    }
}

/// Applies what is missing, in order. Safe to run again and from several processes at once.
///
/// # Errors
/// See [`SchemaError`].
pub async fn migrate(server: &Server) -> Result<(), SchemaError> {
    let database = checked_name(server.database())?;
    server.execute(&format!("CREATE DATABASE IF NOT EXISTS {database}"), false).await?;
    let Some((ledger, _)) = MIGRATIONS.split_first() else { return Ok(()) };
    for statement in ledger.statements() {
        server.execute(statement, true).await?;
    }
    let applied = server
        .pairs(
            &format!("SELECT toString(version), checksum FROM {database}.schema_migrations"),
            &[],
        )
        .await?;
    for migration in MIGRATIONS {
        let version = migration.version.to_string();
        let checksum = migration.checksum();
        let mut known = applied.iter().filter(|(applied, _)| *applied == version).peekable();
        if known.peek().is_none() {
            apply(server, migration, &checksum).await?;
        } else if !known.any(|(_, applied)| *applied == checksum) {
            let (name, database) = (migration.name, database.to_owned());
            return Err(SchemaError::MigrationChanged { name, database });
        }
    }
    Ok(())
}

async fn apply(
    server: &Server,
    migration: &Migration,
    checksum: &str,
) -> Result<(), ClickHouseError> {
    for statement in migration.statements() {
        server.execute(statement, true).await?;
    }
    let Migration { version, name, .. } = migration;
    let note = format!(
        "INSERT INTO schema_migrations (version, name, checksum) SETTINGS async_insert = 0 \
         VALUES ({version}, '{name}', '{checksum}')"
    );
    server.execute(&note, true).await?;
    tracing::info!(name, "migration applied");
    Ok(())
}

/// Checks that every table is there and recognises repeated inserts, and tells the server how far
/// back.
///
/// # Errors
/// See [`SchemaError`].
pub async fn check(server: &mut Server) -> Result<(), SchemaError> {
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
    let newer = server
        .pairs("SELECT name, value FROM system.settings WHERE name = 'deduplicate_insert'", &[])
        .await?;
    if !newer.is_empty() {
        // Where there is one, it has the last word over insert_deduplicate.
        server.pin("deduplicate_insert", "enable");
    }
    for table in WITH_WINDOW {
        let Some(engine_full) = tables.get(table) else {
            return Err(SchemaError::TableMissing { database, table });
        };
        let window = window(&database, table, engine_full, &defaults)?;
        let ours = Table::ALL.into_iter().find(|ours| ours.name() == table);
        if let (Some(ours), Some(window)) = (ours, window) {
            server.set_window(ours, window);
        }
    }
    Ok(())
}

/// How many of the last inserts a table recognises: `None` where its engine does not number inserts
/// over the whole table, so that it cannot be told how long ago one was.
fn window(
    database: &str,
    table: &'static str,
    engine_full: &str,
    defaults: &[(String, String)],
) -> Result<Option<u64>, SchemaError> {
    let engine = engine_full.split([' ', '(']).next().unwrap_or_default();
    let refused = || (database.to_owned(), engine.to_owned());
    if !engine.ends_with("MergeTree") {
        let (database, engine) = refused();
        return Err(SchemaError::WrongEngine { database, table, engine });
    }
    let replicated = engine.starts_with("Replicated") || engine.starts_with("Shared");
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
        let (database, engine) = refused();
        return Err(SchemaError::DeduplicationOff { database, table, engine, setting });
    }
    Ok((!replicated).then_some(window))
}

/// A number in the `SETTINGS` of a table's definition.
fn own_setting<'t>(engine_full: &'t str, setting: &str) -> Option<&'t str> {
    let (_, settings) = engine_full.rsplit_once(" SETTINGS ")?;
    settings
        .split(", ")
        .find_map(|pair| pair.strip_prefix(setting)?.trim_start().strip_prefix("= "))
}

fn checked_name(database: &str) -> Result<&str, SchemaError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let starts_well = database.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    if starts_well && database.bytes().all(plain) {
        Ok(database)
    } else {
        Err(SchemaError::DatabaseName(database.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_as_their_files_and_can_be_repeated() {
        for (version, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version as usize, version);
            assert!(migration.name.starts_with(&format!("{version:04}_")));
            for statement in migration.statements() {
                let code = statement.lines().filter(|line| !line.trim().starts_with("--"));
                let first = code.clone().next().unwrap();
                assert!(first.contains("IF NOT EXISTS") || first.contains("IF EXISTS"), "{first}");
                assert_eq!(code.filter(|line| line.contains(';')).count(), 0, "one statement");
            }
        }
        let files = std::fs::read_dir("../../../schemas/clickhouse").unwrap();
        let sql =
            files.filter(|f| f.as_ref().unwrap().path().extension().is_some_and(|e| e == "sql"));
        assert_eq!(sql.count(), MIGRATIONS.len(), "every file is a migration");
    }

    #[test]
    fn windows_are_read_from_the_table_or_the_servers_default() {
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
    fn names_that_need_quoting_are_refused() {
        assert!(checked_name("mail_1").is_ok());
        for bad in ["", "1a", "a-b", "a`b", "a b", "é"] {
            assert_eq!(checked_name(bad).unwrap_err().code(), "database_name", "{bad}");
        }
    }
}
