//! `mailpulse alerts verify`: recomputes the numbers of alerts from the stored events, with the crate `recount`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use kafka::inspect::committed_offsets;
use recount::{PARTITIONS, StoredEvents, TRANSITIONS, Transition, Verdict, cannot_verify};
use serde::Serialize;

use super::Stack;
use super::find::{Found, find};
use super::show::episodes_of;
use crate::Outcome;
use crate::args::VerifyAlerts;
use crate::database::{literal, time_literal};
use crate::rules::Monitor;
use crate::text::escape_line;

/// One line of the output in JSON. The field names are stable.
#[derive(Debug, Serialize)]
struct Line<'a> {
    episode_id: &'a str,
    seq: u32,
    rule: &'a str,
    alert_numerator: u64,
    alert_volume: u64,
    #[serde(flatten)]
    verdict: &'a Verdict,
}

/// How many transitions are read at once.
const PAGE: usize = 1000;

/// Verifies the transitions and prints one line for each.
///
/// # Errors
/// If nothing has the id, or a server cannot be reached.
pub(super) fn run(stack: &Stack, args: &VerifyAlerts) -> anyhow::Result<Outcome> {
    let condition = match &args.id {
        Some(id) => {
            let episodes = match find(stack, id)? {
                Found::Episode(id) => vec![id],
                Found::Incident(id) => episodes_of(stack, &id)?,
            };
            let ids: Vec<String> = episodes.iter().map(|id| literal(id)).collect();
            format!("episode_id IN ({})", ids.join(", "))
        }
        None => match args.since {
            Some(since) => format!("alerts.at >= {}", time_literal(since.as_microsecond())),
            None => "1".to_owned(),
        },
    };
    let stored = stored_events(stack)?;
    let by_weekday = recount::rules_by_weekday(&Monitor::of(&stack.settings)?.rule_set()?);
    let mut results: BTreeMap<&str, u64> = BTreeMap::new();
    let mut offset = 0;
    loop {
        let transitions = read(stack, &condition, offset)?;
        for transition in &transitions {
            let verdict = verify(stack, &stored, &by_weekday, transition)?;
            print(transition, &verdict, args.json)?;
            *results.entry(verdict.name()).or_default() += 1;
        }
        if transitions.len() < PAGE {
            break;
        }
        offset += PAGE;
    }
    let count = |name| results.get(name).copied().unwrap_or(0);
    let different = count("different");
    writeln!(
        io::stderr(),
        "{} equal, {different} different, {} unverifiable",
        count("equal"),
        count("unverifiable")
    )?;
    Ok(if different > 0 { Outcome::Incomplete } else { Outcome::Done })
}

/// Asks Kafka how far archive is, and ClickHouse what it has.
fn stored_events(stack: &Stack) -> anyhow::Result<StoredEvents> {
    let topic = &stack.topics.events;
    let group = stack.topics.group(record::Stage::Archive.code());
    let counts = kafka::topics::partition_counts(&stack.connection)?;
    let partitions = counts.get(topic).copied().unwrap_or(0);
    let committed = committed_offsets(&stack.connection, &group, topic, partitions)?;
    Ok(StoredEvents::new(committed, stack.database.rows(PARTITIONS, &[])?))
}

fn read(stack: &Stack, condition: &str, offset: usize) -> anyhow::Result<Vec<Transition>> {
    let sql = format!(
        "SELECT {TRANSITIONS} FROM alerts WHERE {condition} \
         ORDER BY kafka_partition, kafka_offset LIMIT {PAGE} OFFSET {offset}"
    );
    Ok(stack.database.rows(&sql, &[])?)
}

fn verify(
    stack: &Stack,
    stored: &StoredEvents,
    by_weekday: &BTreeSet<String>,
    transition: &Transition,
) -> anyhow::Result<Verdict> {
    if let Some(reason) =
        cannot_verify(transition, by_weekday).or_else(|| stored.not_yet(transition))
    {
        return Ok(Verdict::Unverifiable { reason });
    }
    let Some(query) = recount::query(transition) else {
        let reason = format!("this release does not know the metric `{}`", transition.metric);
        return Ok(Verdict::Unverifiable { reason });
    };
    let rows: Vec<(u64, u64)> = stack.database.rows_with(&query.sql, &query.parameters)?;
    Ok(recount::verdict(transition, stored, rows.first().copied().unwrap_or_default()))
}

fn print(transition: &Transition, verdict: &Verdict, json: bool) -> io::Result<()> {
    let Transition { episode_id, seq, rule, numerator, volume, .. } = transition;
    let mut out = io::stdout().lock();
    if json {
        let (alert_numerator, alert_volume) = (*numerator, *volume);
        let line = Line { episode_id, seq: *seq, rule, alert_numerator, alert_volume, verdict };
        serde_json::to_writer(&mut out, &line)?;
        return writeln!(out);
    }
    let what = match verdict {
        Verdict::Equal => format!("{numerator} of {volume}"),
        Verdict::Different { numerator: stored, volume: of } => {
            format!("the alert has {numerator} of {volume}, the stored events {stored} of {of}")
        }
        Verdict::Unverifiable { reason } => format!("{numerator} of {volume}: {reason}"),
    };
    writeln!(
        out,
        "{}\t{}\t{seq}\t{}\t{}\t{}\t{}\t{what}",
        verdict.name(),
        episode_id.get(..16).unwrap_or(episode_id),
        transition.state,
        escape_line(rule.as_bytes()),
        escape_line(transition.scope_text().as_bytes()),
        transition.window,
    )
}
