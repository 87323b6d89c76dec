//! ClickHouse, as the commands ask it that need the archived records.

use std::time::Duration;

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

    /// Returns the rows of a query with parameters: `{name:Type}` in the SQL.
    pub(crate) fn rows_with<T: RowOwned + RowRead>(
        &self,
        sql: &str,
        parameters: &[(String, String)],
    ) -> Result<Vec<T>, ClickHouseError> {
        self.runtime.block_on(self.server.rows_with(sql, parameters))
    }
}

/// How long a statement over whole tables may take.
const LONG: Duration = Duration::from_secs(6 * 3600);

/// Statements over whole tables, and about recipients.
impl Database {
    /// Returns the rows of a query, which may read whole tables and name a recipient.
    pub(crate) fn long_rows<T: RowOwned + RowRead>(
        &self,
        sql: &str,
    ) -> Result<Vec<T>, ClickHouseError> {
        self.runtime.block_on(self.server.rows_long(sql, LONG))
    }

    /// Runs a statement, which may take long and name a recipient.
    pub(crate) fn execute(&self, sql: &str) -> Result<(), ClickHouseError> {
        self.runtime.block_on(self.server.execute_long(sql, LONG))
    }

    /// Calls an operation of the archive's library and waits for it.
    pub(crate) fn run<T>(&self, operation: impl AsyncFnOnce(&Server) -> T) -> T {
        self.runtime.block_on(operation(&self.server))
    }

    /// Like [`Self::run`], for an operation that depends on how long rows of `events` and their sums are kept.
    pub(crate) fn run_with<T>(
        &self,
        rows_and_sums_kept: Option<Duration>,
        operation: impl AsyncFnOnce(&Server) -> T,
    ) -> T {
        let mut server = self.server.clone();
        server.set_rows_and_sums_kept(rows_and_sums_kept);
        self.runtime.block_on(operation(&server))
    }

    /// Returns the name of the database.
    pub(crate) fn name(&self) -> &str {
        self.server.database()
    }
}

/// Returns a text as a literal of ClickHouse's SQL.
pub(crate) fn literal(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "\\'");
    format!("'{escaped}'")
}

/// Returns a further condition for the rows of a source, which is named as `acme` or `sendgrid/acme`.
pub(crate) fn and_source(source: &str) -> String {
    match source.split_once('/') {
        Some((provider, source)) => {
            format!(" AND source = {} AND provider = {}", literal(source), literal(provider))
        }
        None => format!(" AND source = {}", literal(source)),
    }
}

/// Returns the literal of a time in UTC microseconds.
pub(crate) fn time_literal(micros: i64) -> String {
    format!("fromUnixTimestamp64Micro({micros}, 'UTC')")
}
