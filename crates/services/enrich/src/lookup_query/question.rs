//! One query for a look-up table, and its answer.

use std::time::Duration;

use clickhouse_http::{Client, Error, Limits};
use service::ClickHouseSettings;

use super::LookupQuery;
use crate::lookup::Table;
use crate::{FileError, OpenError};

/// The time that ClickHouse has to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The limits on this side. The connection is given up later, because ClickHouse's own error explains more.
const LIMITS: Limits = Limits { timeout: Duration::from_secs(65), answer_bytes: 512 << 20 };
/// No look-up query has parameters.
const NO_PARAMETERS: &[(&str, &str)] = &[];

/// A query, ready to be sent.
pub(super) struct Question {
    client: Client,
    sql: String,
}

/// Why a query has no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueryError {
    #[error("the answer has more than {0} bytes; select fewer rows or columns")]
    TooLarge(usize),
    #[error(transparent)]
    ClickHouse(Error),
    #[error("the answer is no look-up table: {0}")]
    Unusable(#[from] FileError),
}

impl From<Error> for QueryError {
    fn from(error: Error) -> Self {
        match error {
            Error::TooLarge(bytes) => Self::TooLarge(bytes),
            error => Self::ClickHouse(error),
        }
    }
}

impl Question {
    /// Prepares a query.
    ///
    /// # Errors
    /// Names the setting of `[clickhouse]` that cannot be used.
    pub(super) fn new(
        query: &LookupQuery,
        settings: &ClickHouseSettings,
    ) -> Result<Self, OpenError> {
        let user_agent = concat!("mailpulse-enrich/", env!("CARGO_PKG_VERSION"));
        let max_rows = query.max_rows.to_string();
        let seconds = ANSWER_TIMEOUT.as_secs().to_string();
        let query_settings = [
            ("default_format", "CSVWithNames"),
            ("format_csv_null_representation", ""),
            ("max_result_rows", &max_rows),
            ("result_overflow_mode", "throw"),
            ("max_execution_time", &seconds),
            // No statement that changes anything.
            ("readonly", "2"),
            // An error in the middle is the status of the answer, and not a part of its rows.
            ("wait_end_of_query", "1"),
        ];
        let client = Client::new(settings, user_agent, &query_settings)
            .map_err(|error| OpenError::clickhouse(error.key, error.problem))?;
        Ok(Self { client, sql: query.sql.clone() })
    }

    /// Sends the query, and reads its answer as a table.
    pub(super) async fn ask(&self) -> Result<Table, QueryError> {
        let answer = self.client.query(&self.sql, NO_PARAMETERS, LIMITS).await?;
        Ok(Table::from_csv(&answer)?)
    }
}
