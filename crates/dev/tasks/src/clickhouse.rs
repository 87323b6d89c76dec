//! Queries a database of ClickHouse through its HTTP interface.

use anyhow::{Context, ensure};
use serde::de::DeserializeOwned;

/// A database on a server. Queries name its tables without the database.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    url: String,
    pub(crate) name: String,
}

impl Database {
    pub(crate) fn new(url: &str, name: &str) -> Self {
        Self { url: url.to_owned(), name: name.to_owned() }
    }

    /// Returns the answer to a statement.
    pub(crate) async fn text(&self, sql: &str) -> anyhow::Result<String> {
        let request = reqwest::Client::new().post(&self.url).query(&[("database", &self.name)]);
        let response = request.body(sql.to_owned()).send().await?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_success(), "ClickHouse: {text}");
        Ok(text)
    }

    /// Returns the number that a query returns.
    pub(crate) async fn count(&self, sql: &str) -> anyhow::Result<u64> {
        self.text(sql).await?.trim().parse().with_context(|| sql.to_owned())
    }

    /// Returns the rows of a query.
    pub(crate) async fn rows<T: DeserializeOwned>(&self, sql: &str) -> anyhow::Result<Vec<T>> {
        let settings = "SETTINGS output_format_json_quote_64bit_integers = 0 FORMAT JSONEachRow";
        let text = self.text(&format!("{sql} {settings}")).await?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}
