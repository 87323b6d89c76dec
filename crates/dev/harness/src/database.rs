//! A ClickHouse database of one test, over ClickHouse's HTTP interface.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{DEADLINE, eventually, http, seen};

/// A database on a ClickHouse that other tests use at the same time.
#[derive(Debug, Clone)]
pub struct Database {
    /// The URL of the server's HTTP interface.
    pub url: String,
    /// The name of the database.
    pub name: String,
    _removal: Option<Arc<Removal>>,
}

/// Removes a database from the shared ClickHouse when the last clone of its [`Database`] is dropped: ClickHouse
/// spends time on every table that exists.
#[derive(Debug)]
struct Removal {
    url: String,
    name: String,
}

impl Drop for Removal {
    fn drop(&mut self) {
        // A failed test leaves what it found.
        if std::thread::panicking() {
            return;
        }
        let server = Database::existing(&self.url, "default");
        // If this fails, the database remains. That is slower, but no error.
        let _ = server.query(&format!("DROP DATABASE IF EXISTS {}", self.name), "TSV");
    }
}

impl Database {
    /// Returns a unique name on the ClickHouse that this test program shares. The database is not
    /// created: archive does that. It is removed when the last clone is dropped.
    pub fn new(name: &str) -> Self {
        let Self { url, name, .. } = Self::on(devstack::shared_clickhouse(), name);
        let removal = Removal { url: url.clone(), name: name.clone() };
        Self { url, name, _removal: Some(Arc::new(removal)) }
    }

    /// Returns a unique name on another ClickHouse, for example one that the test stops.
    pub fn on(url: &str, name: &str) -> Self {
        Self::existing(url, &format!("{name}_{}", uuid::Uuid::new_v4().simple()))
    }

    /// Returns a database that exists.
    pub fn existing(url: &str, name: &str) -> Self {
        Self { url: url.to_owned(), name: name.to_owned(), _removal: None }
    }

    /// Creates the database.
    pub fn create(&self) {
        let server = Self::existing(&self.url, "default");
        server.execute(&format!("CREATE DATABASE {}", self.name));
    }

    /// Executes a statement and returns when it has taken effect.
    pub fn execute(&self, sql: &str) {
        self.query(sql, "TSV").unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    /// Returns the first row of a query: a tuple, or the value of the only column.
    pub fn one<T: DeserializeOwned>(&self, sql: &str) -> T {
        self.try_one(sql).unwrap_or_else(|error| panic!("{error}: {sql}"))
    }

    /// Returns the first row of a query: a tuple, or the value of the only column.
    ///
    /// # Errors
    /// If ClickHouse does not respond, rejects the query, or returns no such row.
    pub fn try_one<T: DeserializeOwned>(&self, sql: &str) -> Result<T, String> {
        let rows = self.query(sql, "JSONCompactEachRow")?;
        let row = rows.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let mut row: Vec<Value> = serde_json::from_slice(row).map_err(|error| error.to_string())?;
        let row = if row.len() == 1 { row.remove(0) } else { Value::Array(row) };
        serde_json::from_value(row).map_err(|error| error.to_string())
    }

    /// Returns the result of a query in one of ClickHouse's formats.
    pub fn bytes(&self, sql: &str, format: &str) -> Vec<u8> {
        self.query(sql, format).unwrap_or_else(|error| panic!("{error}: {sql}"))
    }

    /// Returns the number of rows of a table; 0 while the table or ClickHouse is missing.
    pub fn count(&self, table: &str) -> u64 {
        self.try_one(&format!("SELECT count() FROM {table}")).unwrap_or(0)
    }

    /// Waits until a table has `expected` rows, and asserts that it has no more.
    pub fn await_count(&self, table: &str, expected: u64) {
        let what = format!("{expected} rows in {table}");
        let rows = eventually(&what, DEADLINE, || seen(self.count(table), |n| *n >= expected));
        assert_eq!(rows, expected, "rows in {table}");
    }

    /// Waits until a query returns a row that is awaited, and returns it.
    pub fn await_one<T: DeserializeOwned + std::fmt::Debug>(
        &self,
        what: &str,
        sql: &str,
        is_awaited: impl Fn(&T) -> bool,
    ) -> T {
        eventually(what, DEADLINE, || seen(self.try_one(sql)?, &is_awaited))
    }

    fn query(&self, sql: &str, format: &str) -> Result<Vec<u8>, String> {
        // The response is sent when it is complete, so that its status is that of the whole query.
        let path = format!(
            "/?database={}&default_format={format}&wait_end_of_query=1\
             &output_format_json_quote_64bit_integers=0",
            self.name
        );
        let address = self.url.strip_prefix("http://").unwrap_or(&self.url);
        let response = http::send(address, "POST", &path, &[], sql.as_bytes());
        let response = response.map_err(|error| error.to_string())?;
        let body = response.body_bytes();
        if response.status == 200 {
            return Ok(body);
        }
        Err(format!("HTTP {}: {}", response.status, String::from_utf8_lossy(&body)))
    }
}
