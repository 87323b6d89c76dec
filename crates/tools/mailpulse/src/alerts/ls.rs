//! `mailpulse alerts ls`.

use std::io::{self, Write};

use clickhouse::Row;
use serde::Deserialize;

use super::Stack;
use crate::args::ListIncidents;
use crate::database::{literal, time_literal};
use crate::text::{escape_line, truncate_line};
use crate::{Outcome, text};

/// The greatest number of incidents that are listed.
const LIMIT: usize = 1000;

#[derive(Debug, Row, Deserialize)]
struct Line {
    id: String,
    severity: String,
    state: String,
    opened_at: i64,
    family: String,
    group: String,
    acknowledged_by: String,
    summary: String,
    record: String,
}

/// Lists incidents.
///
/// # Errors
/// If ClickHouse cannot be reached.
pub(super) fn run(stack: &Stack, args: &ListIncidents) -> anyhow::Result<Outcome> {
    let mut conditions = vec!["1".to_owned()];
    if args.open {
        conditions.push("state != 'resolved'".to_owned());
    }
    if let Some(since) = args.since {
        conditions.push(format!("at >= {}", time_literal(since.as_microsecond())));
    }
    if let Some(source) = &args.source {
        let (source, end) = (literal(source), literal(&format!("/{source}")));
        conditions.push(format!(
            "arrayExists(it -> it = {source} OR endsWith(it, {end}), arrayPushBack(sources, group_of))"
        ));
    }
    let sql = format!(
        "SELECT id, severity, state, toUnixTimestamp64Micro(opened_at) AS opened_at, family, \
         if(group_of = '', `group`, concat(`group`, '/', group_of)) AS `group`, acknowledged_by, summary, record \
         FROM (SELECT * FROM incidents ORDER BY seq DESC LIMIT 1 BY id) AS i WHERE {} \
         ORDER BY i.opened_at DESC, id LIMIT {}",
        conditions.join(" AND "),
        LIMIT + 1
    );
    let mut lines: Vec<Line> = stack.database.rows(&sql, &[])?;
    let is_cut = lines.len() > LIMIT;
    lines.truncate(LIMIT);
    let mut out = io::stdout().lock();
    for line in &lines {
        if args.json {
            writeln!(out, "{}", text::escape_line(line.record.as_bytes()))?;
            continue;
        }
        let started = super::show::utc(line.opened_at);
        let state = if line.acknowledged_by.is_empty() || line.state == "resolved" {
            line.state.clone()
        } else {
            format!(
                "{}, seen by {}",
                line.state,
                truncate_line(line.acknowledged_by.as_bytes(), 20)
            )
        };
        writeln!(
            out,
            "{}\t{}\t{}\t{started}\t{}\t{}\t{}",
            line.id.get(..16).unwrap_or(&line.id),
            line.severity,
            state,
            line.family,
            escape_line(line.group.as_bytes()),
            truncate_line(line.summary.as_bytes(), 300),
        )?;
    }
    let end = if is_cut { "; there are more, which --since can leave out" } else { "" };
    writeln!(io::stderr(), "{} incidents{end}", lines.len())?;
    Ok(Outcome::Done)
}
