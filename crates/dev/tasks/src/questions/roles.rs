//! Checks `schemas/clickhouse/roles/roles.sql` as far as a server without users can: that every statement parses, also those
//! of the examples in comments, that the columns exist, and that masked views show no address. The test `roles` of the
//! crate `mailpulse` runs the questions and panels with the rights of each role.

use std::path::Path;

use anyhow::{Context, ensure};

use super::mail::Mail;
use crate::clickhouse::Database;

const FILE: &str = "schemas/clickhouse/roles/roles.sql";
/// Columns that name a person, or contain texts of others.
const PERSONAL: [&str; 14] = [
    "recipient",
    "raw",
    "ip",
    "user_agent",
    "url",
    "bounce_diagnostic",
    "delivery_response",
    "sender",
    "message_id",
    "labels",
    "key",
    "value",
    "headers",
    "detail",
];
/// Those that the panels of Grafana need.
const OF_DASHBOARDS: [&str; 3] = ["bounce_diagnostic", "labels", "detail"];

/// Checks the file and the masked views.
pub(super) async fn check(root: &Path, database: &Database, mails: &[Mail]) -> anyhow::Result<()> {
    let content = std::fs::read_to_string(root.join(FILE)).context(FILE)?;
    // Examples are indented, and a statement ends with a semicolon.
    let examples: Vec<&str> =
        content.lines().filter_map(|line| line.strip_prefix("--   ")).collect();
    let examples = examples.join("\n") + "\n";
    let examples = examples.split(";\n").filter_map(|it| Some(&it[it.find("CREATE ")?..]));
    let statements = content.split(";\n").chain(examples);
    let mut parsed = 0;
    for statement in statements.map(str::trim) {
        let lines = statement.lines().filter(|line| !line.starts_with("--"));
        let sql = lines.collect::<Vec<_>>().join(" ");
        if !sql.trim().is_empty() {
            let parameters = [("sql".to_owned(), sql.clone())];
            let formatted = database.text_with("SELECT formatQuery({sql:String})", &parameters);
            formatted.await.with_context(|| format!("{FILE}: {sql}"))?;
            parsed += 1;
        }
    }
    ensure!(parsed > 70, "only {parsed} statements were found in {FILE}");
    for Grant { columns, table, role } in grants(&content) {
        let exist = format!(
            "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = '{table}'"
        );
        let exist = database.text(&exist).await?;
        for name in columns {
            ensure!(
                exist.lines().any(|it| it == name),
                "{FILE} names the column {table}.{name}, which does not exist"
            );
            let may = !PERSONAL.contains(&name)
                || (role == "dashboards" && OF_DASHBOARDS.contains(&name));
            ensure!(may, "{FILE} shows {table}.{name} to {role}");
        }
    }
    masked(database, mails).await
}

/// A grant of single columns.
struct Grant<'c> {
    columns: Vec<&'c str>,
    table: &'c str,
    role: &'c str,
}

fn grants(content: &str) -> impl Iterator<Item = Grant<'_>> {
    content.split("GRANT SELECT (").skip(1).filter_map(|rest| {
        let (list, rest) = rest.split_once(')')?;
        let (table, rest) = rest.strip_prefix(" ON mailpulse.")?.split_once(" TO ")?;
        let columns = list.split(',').map(str::trim).collect();
        Some(Grant { columns, table, role: rest.split(';').next()? })
    })
}

/// Checks that masked views have all rows, and no address.
async fn masked(database: &Database, mails: &[Mail]) -> anyhow::Result<()> {
    for (masked, open) in
        [("messages_masked", "messages"), ("recipients_masked", "recipients FINAL")]
    {
        let rows = database.count(&format!("SELECT count() FROM {masked}")).await?;
        let all = database.count(&format!("SELECT count() FROM {open}")).await?;
        ensure!(rows == all && rows > 0, "{masked} has {rows} rows, and {open} has {all}");
    }
    let id = super::truth::message_id(mails[0].message.source, mails[0].message.number);
    let views = [
        "messages_masked".to_owned(),
        "recipients_masked".to_owned(),
        format!("message_story_masked(id = '{id}')"),
    ];
    for view in views {
        let text = database.text(&format!("SELECT * FROM {view}")).await?;
        ensure!(text.contains("rea…@"), "{view} shows no masked address");
        let shown = mails.iter().find(|mail| text.contains(&mail.message.recipient));
        ensure!(
            shown.is_none(),
            "{view} shows an address: {:?}",
            shown.map(|mail| &mail.message.recipient)
        );
    }
    Ok(())
}
