//! The dashboards in `deploy/grafana`, and their queries as Grafana sends them.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use harness::{Database, http};
use jiff::{Timestamp, ToSpan};
use serde_json::Value;

/// One query of a dashboard.
pub struct Query {
    /// The dashboard, and the panel or variable.
    pub of: String,
    pub sql: String,
}

/// The values of the variables of a dashboard.
pub type Variables = BTreeMap<String, Vec<String>>;

/// Returns a file of the repository.
pub fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns all dashboards by the names of their files.
pub fn dashboards() -> Vec<(String, Value)> {
    let directory =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../deploy/grafana/dashboards");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (
            path.file_name().unwrap().to_str().unwrap().to_owned(),
            serde_json::from_str(&text).unwrap(),
        )
    };
    paths.into_iter().map(read).collect()
}

/// Returns the targets of all panels of a dashboard, with the titles of their panels.
pub fn targets(dashboard: &Value) -> impl Iterator<Item = (&str, &Value)> {
    dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| {
        let title = panel["title"].as_str().unwrap();
        panel["targets"].as_array().unwrap().iter().map(move |target| (title, target))
    })
}

/// Returns the time that a dashboard shows at first.
pub fn range(dashboard: &Value, now: Timestamp) -> (Timestamp, Timestamp) {
    let from = dashboard["time"]["from"].as_str().unwrap().strip_prefix("now-").unwrap();
    let (number, unit) = from.split_at(from.len() - 1);
    let number: i64 = number.parse().unwrap();
    let span = match unit {
        "h" => number.hours(),
        "d" => (number * 24).hours(),
        _ => panic!("{from}"),
    };
    (now - span, now)
}

/// Replaces the macros of the data source and the variables of the dashboard as Grafana does.
pub fn expand(sql: &str, (from, to): (Timestamp, Timestamp), variables: &Variables) -> String {
    let time = |at: Timestamp| format!("toDateTime({})", at.as_second());
    let date = |at: Timestamp| format!("toDate('{}')", at.strftime("%Y-%m-%d"));
    let filter = |value: &dyn Fn(Timestamp) -> String, column: &str| {
        format!("{column} >= {} AND {column} <= {}", value(from), value(to))
    };
    let mut sql = calls(sql, "$__timeFilter", |column| filter(&time, column));
    sql = calls(&sql, "$__dateFilter", |column| filter(&date, column));
    sql = sql.replace("$__fromTime", &time(from)).replace("$__toTime", &time(to));
    for (name, values) in variables {
        let quoted: Vec<String> = values.iter().map(|value| format!("'{value}'")).collect();
        sql = sql.replace(&format!("${{{name}:singlequote}}"), &quoted.join(","));
        sql = sql.replace(&format!("${{{name}}}"), &values.join(","));
    }
    assert!(!sql.contains('$'), "a macro or variable that this test does not know: {sql}");
    sql
}

/// Replaces each `name(argument)`.
fn calls(sql: &str, name: &str, with: impl Fn(&str) -> String) -> String {
    let call = format!("{name}(");
    let mut parts = sql.split(&call);
    let mut expanded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (argument, rest) = part.split_once(')').unwrap();
        expanded += &with(argument);
        expanded += rest;
    }
    expanded
}

/// Returns the queries of a dashboard: those of its variables, whose values the others use, and of its panels.
pub fn queries(
    database: &Database,
    name: &str,
    dashboard: &Value,
    now: Timestamp,
) -> (Vec<Query>, Variables) {
    let time = range(dashboard, now);
    let mut variables = BTreeMap::new();
    let mut queries = Vec::new();
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let own = variable["name"].as_str().unwrap();
        let sql = variable["query"].as_str().unwrap();
        if variable["type"] == "query" {
            let sql = expand(sql, time, &variables);
            let found = String::from_utf8(database.bytes(&sql, "TSV")).unwrap();
            variables.insert(own.to_owned(), found.lines().map(str::to_owned).collect());
            queries.push(Query { of: format!("{name}: ${own}"), sql });
        } else {
            // Another zone than the default, whose days are not those of UTC.
            variables.insert(own.to_owned(), vec!["Asia/Kolkata".to_owned()]);
        }
    }
    for (title, target) in targets(dashboard) {
        let Some(sql) = target["rawSql"].as_str() else { continue };
        let of = format!("{name}: {title} {}", target["refId"].as_str().unwrap());
        queries.push(Query { of, sql: expand(sql, time, &variables) });
    }
    (queries, variables)
}

/// Sends a statement with further parameters of the URL. Returns the response.
pub fn send(database: &Database, sql: &str, parameters: &[(String, String)]) -> harness::Response {
    let address = database.url.strip_prefix("http://").unwrap();
    let mut path = format!(
        "/?database={}&default_format=JSONCompactEachRow&wait_end_of_query=1",
        database.name
    );
    for (name, value) in parameters {
        let encoded = value.bytes().map(|byte| format!("%{byte:02X}"));
        path += &format!("&{name}={}", encoded.collect::<String>());
    }
    http::send(address, "POST", &path, &[], sql.as_bytes()).unwrap()
}
