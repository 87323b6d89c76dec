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
        self.text_with(sql, &[]).await
    }

    /// Returns the answer to a statement with parameters, such as `{source:String}`.
    pub(crate) async fn text_with(
        &self,
        sql: &str,
        parameters: &[(String, String)],
    ) -> anyhow::Result<String> {
        self.response(sql, parameters).await.map(|(text, _)| text)
    }

    /// Runs a query and returns how many rows it has read.
    pub(crate) async fn rows_read(
        &self,
        sql: &str,
        parameters: &[(String, String)],
    ) -> anyhow::Result<u64> {
        let (_, summary) = self.response(sql, parameters).await?;
        let summary: serde_json::Value = serde_json::from_str(&summary)
            .context("the answer has no header X-ClickHouse-Summary")?;
        let rows = summary["read_rows"].as_str().context("the summary has no read_rows")?;
        Ok(rows.parse()?)
    }

    /// Returns the answer and the header with the summary.
    async fn response(
        &self,
        sql: &str,
        parameters: &[(String, String)],
    ) -> anyhow::Result<(String, String)> {
        let request = reqwest::Client::new().post(&self.url).query(&[("database", &self.name)]);
        let named = parameters.iter().map(|(name, value)| (format!("param_{name}"), value));
        let request = request.query(&named.collect::<Vec<_>>());
        let response = request.body(sql.to_owned()).send().await?;
        let status = response.status();
        let summary = response.headers().get("X-ClickHouse-Summary").cloned();
        let summary = summary.and_then(|value| value.to_str().ok().map(str::to_owned));
        let text = response.text().await?;
        ensure!(status.is_success(), "ClickHouse: {text}");
        Ok((text, summary.unwrap_or_default()))
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
