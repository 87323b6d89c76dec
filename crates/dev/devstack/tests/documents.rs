//! The queries in the documents run on the tables there are, and links lead somewhere.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use devstack::shared_clickhouse;
use support::{read, root};

const DOCUMENTS: [&str; 4] =
    ["README.md", "ARCHITECTURE.md", "docs/operations.md", "docs/runbooks.md"];

/// The bodies of the fenced blocks of a language.
fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let bodies = document.split(fence.as_str()).skip(1);
    bodies.map(|rest| rest.split("\n```").next().unwrap()).collect()
}

fn statements(sql: &str) -> impl Iterator<Item = &str> {
    // Comments at the end keep a statement from being empty.
    let is_code = |s: &&str| s.lines().any(|l| !l.trim().is_empty() && !l.starts_with("--"));
    sql.split(";\n").map(|s| s.trim().trim_end_matches(';')).filter(is_code)
}

struct Database {
    client: reqwest::Client,
    url: String,
    name: &'static str,
}

impl Database {
    /// A new one with the tables of `schemas/clickhouse`.
    async fn create(name: &'static str) -> Self {
        let database = Self {
            client: reqwest::Client::new(),
            url: shared_clickhouse().trim_end_matches('/').to_owned(),
            name,
        };
        database.run("default", &format!("DROP DATABASE IF EXISTS {name} SYNC")).await.unwrap();
        database.run("default", &format!("CREATE DATABASE {name}")).await.unwrap();
        let schemas = std::fs::read_dir(root().join("schemas/clickhouse")).unwrap().flatten();
        let mut files: Vec<_> = schemas
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
            .collect();
        files.sort();
        assert!(!files.is_empty());
        for file in files {
            for statement in statements(&std::fs::read_to_string(file).unwrap()) {
                database.run(name, statement).await.unwrap();
            }
        }
        database
    }

    async fn run(&self, database: &str, sql: &str) -> Result<String, String> {
        let url = format!("{}/?database={database}", self.url);
        let response = self.client.post(url).body(sql.to_owned()).send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        if status.is_success() { Ok(text) } else { Err(text) }
    }
}

#[tokio::test]
async fn every_query_runs() {
    let database = Database::create("documents_test").await;
    let mut queries = 0;
    for document in DOCUMENTS {
        for block in blocks(&read(document), "sql") {
            let here = block.replace("mailpulse.", &format!("{}.", database.name));
            let here = here.replace("'mailpulse'", &format!("'{}'", database.name));
            for statement in statements(&here) {
                // A backup wants a disk that is configured for it.
                if statement.starts_with("BACKUP ") {
                    continue;
                }
                let outcome = database.run(database.name, statement).await;
                assert!(outcome.is_ok(), "{document}: {statement}\n{}", outcome.unwrap_err());
                queries += 1;
            }
        }
    }
    assert!(queries >= 20, "only {queries} were found");
}

#[test]
fn every_link_between_documents_leads_to_a_heading() {
    for document in DOCUMENTS {
        let text = read(document);
        let directory = root().join(document).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { root().join(document) } else { directory.join(path) };
            // Written by `cargo xtask bench`.
            if path.ends_with("benchmarks.md") {
                continue;
            }
            assert!(target.exists(), "{document}: {link}");
            if !anchor.is_empty() {
                let page = std::fs::read_to_string(&target).unwrap();
                let anchors = support::anchors(&page);
                assert!(anchors.contains(anchor), "{document}: {link} in {anchors:?}");
            }
        }
    }
}
