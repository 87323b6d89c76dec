//! Reads what ClickHouse stores.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::clickhouse::Database;

/// The rows of each table, and the rows of `schema_migrations`.
pub(crate) type Tables = (BTreeMap<String, u64>, Vec<Value>);

const MIGRATIONS: &str =
    "SELECT version, name, checksum FROM schema_migrations FINAL ORDER BY version";

/// Returns the directories of parts that were merged into others. ClickHouse keeps them for a few
/// minutes and does not read them.
pub(crate) async fn merged_parts(database: &Database) -> anyhow::Result<Vec<PathBuf>> {
    let sql = "SELECT path FROM system.parts \
               WHERE database = currentDatabase() AND NOT active FORMAT TSV";
    Ok(database.text(sql).await?.lines().map(PathBuf::from).collect())
}

/// Counts the rows of every table, with `FINAL` if its engine merges rows, and reads the migrations.
pub(crate) async fn read(database: &Database) -> anyhow::Result<Tables> {
    #[derive(Deserialize)]
    struct Table {
        name: String,
        engine: String,
    }
    let sql = "SELECT name, engine FROM system.tables \
               WHERE database = currentDatabase() AND engine LIKE '%MergeTree' ORDER BY name";
    let tables: Vec<Table> = database.rows(sql).await?;
    let mut rows = BTreeMap::new();
    for Table { name, engine } in tables {
        let merged = if engine == "MergeTree" { "" } else { "FINAL" };
        let count = database.count(&format!("SELECT count() FROM {name} {merged}")).await?;
        rows.insert(name, count);
    }
    Ok((rows, migrations(database).await?))
}

/// Returns the applied files of `schemas/clickhouse` with their checksums.
pub(crate) async fn migrations(database: &Database) -> anyhow::Result<Vec<Value>> {
    database.rows(MIGRATIONS).await
}
