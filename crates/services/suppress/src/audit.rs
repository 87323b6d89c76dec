//! The table `audit`: which operator has added or lifted which entry.

use std::time::Duration;

use clickhouse_http::{Client, Limits};
use service::{ClickHouseSettings, Settings, SettingsError};

/// How long a row may take. Without the row nothing is changed.
const LIMITS: Limits = Limits { timeout: Duration::from_secs(5), answer_bytes: 1 << 10 };

const INSERT: &str = "INSERT INTO audit (who, command, subject, counts, result, detail) SETTINGS async_insert = 0 \
                      SELECT {who:String}, {command:String}, {subject:String}, \
                      map('mail.suppressions', {records:UInt64}), {result:String}, {detail:String}";

/// Writes rows.
#[derive(Debug)]
pub struct Audit(Client);

/// What an operator does to one recipient.
#[derive(Debug, Clone, Copy)]
pub struct Row<'r> {
    /// The name of the token, and the address of the client.
    pub who: &'r str,
    /// `suppressions add` or `suppressions lift`, as the commands of the tool.
    pub command: &'static str,
    /// The digest of the recipient.
    pub subject: &'r str,
    /// The number of records of `mail.suppressions`.
    pub records: usize,
    /// It contains no address.
    pub detail: &'r str,
}

impl Audit {
    /// Creates the client. This opens no connection.
    ///
    /// # Errors
    /// If the section `[clickhouse]` is invalid.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let clickhouse: ClickHouseSettings = settings.section("clickhouse")?;
        let agent = concat!("mailpulse-suppress/", env!("CARGO_PKG_VERSION"));
        Client::new(&clickhouse, agent, &[])
            .map(Self)
            .map_err(|error| settings.invalid(error.key, error.to_string()))
    }

    /// Writes a row with this result: `started`, `done` or `incomplete`.
    ///
    /// # Errors
    /// If ClickHouse cannot be reached, or refuses the row.
    pub async fn write(&self, row: Row<'_>, result: &str) -> Result<(), clickhouse_http::Error> {
        let records = row.records.to_string();
        let parameters = [
            ("who", row.who),
            ("command", row.command),
            ("subject", row.subject),
            ("records", &records),
            ("result", result),
            ("detail", row.detail),
        ];
        self.0.query(INSERT, &parameters, LIMITS).await.map(drop)
    }
}
