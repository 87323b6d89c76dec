//! Tests the documents: their queries run on the current tables, and every problem code is described.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;

use devstack::shared_clickhouse;
use support::{read, root, sources};

const DOCUMENTS: [&str; 10] = [
    "README.md",
    "ARCHITECTURE.md",
    "docs/alerts.md",
    "docs/metrics.md",
    "docs/operations.md",
    "docs/runbooks.md",
    "docs/sources.md",
    "docs/reason-codes/README.md",
    "docs/reason-codes/problem-codes.md",
    "docs/reason-codes/redriven.md",
];

/// Returns the bodies of the fenced blocks of a language.
fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let bodies = document.split(fence.as_str()).skip(1);
    bodies.map(|rest| rest.split("\n```").next().unwrap()).collect()
}

fn statements(sql: &str) -> impl Iterator<Item = &str> {
    // A part that consists of comments is not a statement.
    let is_code = |s: &&str| s.lines().any(|l| !l.trim().is_empty() && !l.starts_with("--"));
    sql.split(";\n").map(|s| s.trim().trim_end_matches(';')).filter(is_code)
}

struct Database {
    client: reqwest::Client,
    url: String,
    name: String,
}

impl Database {
    /// Creates a database with the tables of `schemas/clickhouse`. Its name contains the process id:
    /// other runs may use the same server.
    async fn create() -> Self {
        let name = format!("documents_{}", std::process::id());
        let database = Self {
            client: reqwest::Client::new(),
            url: shared_clickhouse().trim_end_matches('/').to_owned(),
            name: name.clone(),
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
                database.run(&name, statement).await.unwrap();
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
    let database = Database::create().await;
    let mut queries = 0;
    for document in DOCUMENTS {
        for block in blocks(&read(document), "sql") {
            let here = block.replace("mailpulse.", &format!("{}.", database.name));
            let here = here.replace("'mailpulse'", &format!("'{}'", database.name));
            for statement in statements(&here) {
                // A backup needs a configured disk.
                if statement.starts_with("BACKUP ") {
                    continue;
                }
                let outcome = database.run(&database.name, statement).await;
                assert!(outcome.is_ok(), "{document}: {statement}\n{}", outcome.unwrap_err());
                queries += 1;
            }
        }
    }
    assert!(queries >= 20, "only {queries} were found");
    let drop = format!("DROP DATABASE {}", database.name);
    database.run("default", &drop).await.unwrap();
}

/// Returns the codes that `fn code` of a source maps its variants to.
fn codes(source: &str) -> BTreeSet<&str> {
    let body = source.split("fn code(").nth(1).unwrap().split("\n    }\n").next().unwrap();
    let literals = body.split("=> \"").skip(1);
    literals.map(|rest| rest.split('"').next().unwrap()).collect()
}

/// The codes of failures to store a request are literals or come from the spool and the publisher.
const UNAVAILABLE: [&str; 5] =
    ["spool_full", "spool_failed", "spool_unfit", "no_room_for_body", "subscription_not_confirmed"];

#[test]
fn every_problem_code_is_documented_and_exists() {
    let page = read("docs/reason-codes/problem-codes.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<_> = rows.map(|row| row.split('`').next().unwrap()).collect();

    let problem = read("crates/services/ingress/src/problem.rs");
    let rejection = read("crates/libraries/providers/src/rejection.rs");
    let mut expected = codes(&problem);
    expected.extend(codes(&rejection));
    let all_sources: String = sources().into_iter().map(|(_, text)| text).collect();
    for code in UNAVAILABLE {
        assert!(all_sources.contains(&format!("\"{code}\"")), "no source contains {code}");
        expected.insert(code);
    }
    assert_eq!(documented, expected);
}
