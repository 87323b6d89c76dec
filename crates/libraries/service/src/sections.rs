use serde::Deserialize;

use crate::Secret;

/// `[service]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSettings {
    /// This process's name among its peers, stable over restarts; empty for a random one.
    pub instance: String,
    /// Filter of the log, in the syntax of `tracing`'s `EnvFilter`.
    pub log: String,
    /// How log lines are written.
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[clickhouse]`. (`[kafka]` and `[topics]` are read by the `stream` crate.)
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClickHouseSettings {
    /// Of the HTTP interface.
    pub url: String,
    /// Its database.
    pub database: String,
    /// Its user.
    pub user: String,
    /// The user's password; may be empty.
    pub password: Secret,
}
