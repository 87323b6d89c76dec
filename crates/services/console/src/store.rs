//! ClickHouse, as the pages ask it. Every query is bounded in time, in what it reads and in what it returns, and
//! the number of queries at the same time is bounded too.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clickhouse_http::{Client, SettingError};
use serde::de::DeserializeOwned;
use service::ClickHouseSettings;
use tokio::sync::Semaphore;

/// The largest response, in bytes.
const MAX_RESPONSE: usize = 8 << 20;

/// The limits that ClickHouse enforces, besides that of time.
const LIMITS: [(&str, &str); 9] = [
    ("readonly", "2"),
    ("max_result_rows", "20000"),
    ("max_rows_to_read", "500000000"),
    ("max_bytes_to_read", "20000000000"),
    ("max_memory_usage", "2000000000"),
    // The limits of a result count whole blocks.
    ("result_overflow_mode", "throw"),
    ("output_format_json_quote_64bit_integers", "0"),
    // Parameters can name recipients, so ClickHouse does not write them to its log of queries.
    ("log_queries", "0"),
    // The status is that of the whole query.
    ("wait_end_of_query", "1"),
];

/// What one console may ask of ClickHouse.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest time of one query, with the time that it waits for its turn.
    pub timeout: Duration,
    /// The greatest number of queries at the same time.
    pub queries: usize,
}

/// A query and its parameters, which ClickHouse inserts as values: `{name:Type}` in the SQL.
#[derive(Debug, Clone)]
pub struct Query {
    /// What the query is called in the metrics.
    pub name: &'static str,
    /// The SQL.
    pub sql: Cow<'static, str>,
    /// The names and the values of its parameters.
    pub parameters: Vec<(Cow<'static, str>, String)>,
}

impl Query {
    /// Returns a query without parameters.
    pub const fn new(name: &'static str, sql: &'static str) -> Self {
        Self { name, sql: Cow::Borrowed(sql), parameters: Vec::new() }
    }

    /// Returns a query whose SQL another crate has built, with parameters.
    pub fn built(name: &'static str, sql: String, parameters: Vec<(String, String)>) -> Self {
        let parameters = parameters.into_iter();
        let parameters = parameters.map(|(name, value)| (Cow::Owned(name), value));
        Self { name, sql: Cow::Owned(sql), parameters: parameters.collect() }
    }

    /// Adds a parameter.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.parameters.push((Cow::Borrowed(name), value.to_string()));
        self
    }
}

/// Why a query has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    #[error(
        "too many pages ask ClickHouse at the same time; try again, or raise console.max_queries"
    )]
    Busy,
    #[error("ClickHouse did not answer within {} s; choose a shorter time", .0.as_secs())]
    Timeout(Duration),
    #[error("ClickHouse cannot be reached: {0}")]
    Away(String),
    #[error("the answer would be too large; choose a shorter time or one source")]
    TooLarge,
    #[error("a table or view is missing; let archive apply schemas/clickhouse first: {0}")]
    Missing(String),
    #[error("ClickHouse reported an error: {0}")]
    Refused(String),
    #[error("the answer of ClickHouse cannot be read: {0}")]
    Unreadable(String),
}

impl StoreError {
    /// Returns the stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Busy => "too_many_queries",
            Self::Timeout(_) => "clickhouse_timeout",
            Self::Away(_) => "clickhouse_away",
            Self::TooLarge => "answer_too_large",
            Self::Missing(_) => "clickhouse_table_missing",
            Self::Refused(_) => "clickhouse_refused",
            Self::Unreadable(_) => "clickhouse_unreadable",
        }
    }
}

/// A client of ClickHouse.
#[derive(Debug)]
pub struct Store {
    client: Client,
    timeout: Duration,
    turns: Arc<Semaphore>,
}

impl Store {
    /// Creates a client, which connects on its first query.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub fn new(settings: &ClickHouseSettings, limits: Limits) -> Result<Self, SettingError> {
        let user_agent = concat!("mailpulse-console/", env!("CARGO_PKG_VERSION"));
        let seconds = limits.timeout.as_secs().to_string();
        let mut query_settings =
            vec![("default_format", "JSONEachRow"), ("max_execution_time", seconds.as_str())];
        query_settings.extend(LIMITS);
        let client = Client::new(settings, user_agent, &query_settings)?;
        let (timeout, turns) = (limits.timeout, Arc::new(Semaphore::new(limits.queries)));
        Ok(Self { client, timeout, turns })
    }

    /// Returns the rows of a query.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn rows<T: DeserializeOwned>(&self, query: &Query) -> Result<Vec<T>, StoreError> {
        let started = Instant::now();
        let rows = self.ask(query).await;
        metrics::histogram!("mailpulse_console_query_duration_seconds", "query" => query.name)
            .record(started.elapsed().as_secs_f64());
        if let Err(error) = &rows {
            metrics::counter!("mailpulse_console_failed_queries_total", "code" => error.code())
                .increment(1);
            tracing::warn!(query = query.name, code = error.code(), %error, "a query failed");
        }
        rows
    }

    /// Returns the first row of a query that always has one.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn row<T: DeserializeOwned>(&self, query: &Query) -> Result<T, StoreError> {
        let rows = self.rows(query).await?;
        let first = rows.into_iter().next();
        first.ok_or_else(|| StoreError::Unreadable("it has no row".to_owned()))
    }

    async fn ask<T: DeserializeOwned>(&self, query: &Query) -> Result<Vec<T>, StoreError> {
        let started = Instant::now();
        // The semaphore is never closed.
        let turn = tokio::time::timeout(self.timeout / 2, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| StoreError::Busy)?;
        // ClickHouse ends the query itself at `max_execution_time`.
        let timeout = self.timeout + Duration::from_secs(1);
        let limits = clickhouse_http::Limits {
            timeout: timeout.saturating_sub(started.elapsed()),
            answer_bytes: MAX_RESPONSE,
        };
        let body = self.client.query(&query.sql, &query.parameters, limits).await;
        let body = body.map_err(|error| self.error(error))?;
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let rows = lines.map(|line| serde_json::from_slice(line));
        rows.collect::<Result<_, _>>().map_err(|error| unreadable(&error))
    }

    /// Returns the error with what the reader of a page can do about it.
    fn error(&self, error: clickhouse_http::Error) -> StoreError {
        let (exception, message) = match error {
            clickhouse_http::Error::Timeout(_) => return StoreError::Timeout(self.timeout),
            clickhouse_http::Error::Unreachable(why) => return StoreError::Away(why),
            clickhouse_http::Error::TooLarge(_) => return StoreError::TooLarge,
            clickhouse_http::Error::Refused { exception, message, .. } => (exception, message),
        };
        let shown = message.chars().take(300).collect();
        match exception {
            // TIMEOUT_EXCEEDED
            Some(159) => StoreError::Timeout(self.timeout),
            // TOO_MANY_ROWS, TOO_MANY_BYTES, MEMORY_LIMIT_EXCEEDED, TOO_MANY_ROWS_OR_BYTES
            Some(158 | 307 | 241 | 396) => StoreError::TooLarge,
            // UNKNOWN_FUNCTION (a view with parameters), UNKNOWN_IDENTIFIER, UNKNOWN_TABLE, UNKNOWN_DATABASE
            Some(46 | 47 | 60 | 81) => StoreError::Missing(shown),
            _ => StoreError::Refused(shown),
        }
    }
}

/// Returns the error of a row. The text of the error itself can repeat a value, such as an address.
fn unreadable(error: &serde_json::Error) -> StoreError {
    let (kind, column) = (error.classify(), error.column());
    StoreError::Unreadable(format!("a row has an error in its {kind:?} at column {column}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_about_a_row_contains_none_of_its_values() {
        let error = serde_json::from_str::<Vec<u8>>("[\"ada@example.com\"]").unwrap_err();
        assert!(error.to_string().contains("ada"), "{error}");
        assert!(!unreadable(&error).to_string().contains("ada"));
    }
}
