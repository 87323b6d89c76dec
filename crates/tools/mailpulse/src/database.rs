//! ClickHouse, as the commands ask it that need the archived records.

use archive::ClickHouseError;
use archive::server::Server;
use clickhouse::{RowOwned, RowRead};
use service::{ClickHouseSettings, Settings};
use tokio::runtime::Runtime;

/// A connection to ClickHouse that blocks until it answers.
pub(crate) struct Database {
    runtime: Runtime,
    server: Server,
}

impl Database {
    /// Connects on the first query.
    ///
    /// # Errors
    /// If the settings of `[clickhouse]` cannot be used.
    pub(crate) fn open(settings: &Settings) -> anyhow::Result<Self> {
        let clickhouse: ClickHouseSettings = settings.section("clickhouse")?;
        let server =
            Server::new(&clickhouse).map_err(|error| settings.invalid(error.key, error.problem))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, server })
    }

    /// Returns the rows of a query. Each `?` in `sql` is replaced by the next value.
    pub(crate) fn rows<T: RowOwned + RowRead>(
        &self,
        sql: &str,
        values: &[&str],
    ) -> Result<Vec<T>, ClickHouseError> {
        self.runtime.block_on(self.server.rows(sql, values))
    }
}

/// Returns a text as a literal of ClickHouse's SQL.
pub(crate) fn literal(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "\\'");
    format!("'{escaped}'")
}

/// Returns the literal of a time in UTC microseconds.
pub(crate) fn time_literal(micros: i64) -> String {
    format!("fromUnixTimestamp64Micro({micros}, 'UTC')")
}
