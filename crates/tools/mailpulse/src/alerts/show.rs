//! `mailpulse alerts show`.

use std::io::{self, Write};

use alerting::Incident;
use alerting::page::{PageSettings, page};
use clickhouse::Row;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::Stack;
use super::find::{Found, find};
use crate::Outcome;
use crate::database::literal;
use crate::text::escape_line;

/// The keys of `[notify]` by which pages are written.
#[derive(Debug, Deserialize)]
struct Notify {
    #[serde(default)]
    dashboard_url: String,
    #[serde(default)]
    runbook_base: String,
    #[serde(default)]
    zone: String,
}

#[derive(Debug, Row, Deserialize)]
struct Stored {
    record: String,
}

#[derive(Debug, Row, Deserialize)]
struct Transition {
    episode_id: String,
    seq: u32,
    at: i64,
    state: String,
    severity: String,
    summary: String,
}

#[derive(Debug, Row, Deserialize)]
struct Id {
    id: String,
}

/// Shows an incident, or an episode with the id of its incident.
///
/// # Errors
/// If nothing has this id, or ClickHouse cannot be reached.
pub(super) fn run(stack: &Stack, prefix: &str) -> anyhow::Result<Outcome> {
    let mut out = io::stdout().lock();
    match find(stack, prefix)? {
        Found::Incident(id) => {
            let incident = latest(stack, &id)?;
            let text = page(&incident, None, &settings(stack)?).text();
            for line in text.lines() {
                writeln!(out, "{}", escape_line(line.as_bytes()))?;
            }
            writeln!(out)?;
            write_state(&incident, &mut out)?;
            let episodes = episodes_of(stack, &id)?;
            write_transitions(stack, &episodes, &mut out)?;
        }
        Found::Episode(id) => {
            let sql = format!(
                "SELECT DISTINCT id FROM incidents WHERE has(episode_ids, {}) ORDER BY id",
                literal(&id)
            );
            let incidents: Vec<Id> = stack.database.rows(&sql, &[])?;
            for Id { id } in incidents {
                writeln!(out, "incident  {id}")?;
            }
            write_transitions(stack, &[id], &mut out)?;
        }
    }
    Ok(Outcome::Done)
}

/// Returns the present state of an incident.
pub(super) fn latest(stack: &Stack, id: &str) -> anyhow::Result<Incident> {
    let sql = format!(
        "SELECT record FROM incidents WHERE id = {} ORDER BY seq DESC LIMIT 1",
        literal(id)
    );
    let stored: Vec<Stored> = stack.database.rows(&sql, &[])?;
    let Some(Stored { record }) = stored.into_iter().next() else {
        anyhow::bail!("the table incidents no longer has {id}");
    };
    Ok(serde_json::from_str(&record)?)
}

/// Returns the ids of all episodes that records of the incident name.
pub(super) fn episodes_of(stack: &Stack, incident: &str) -> anyhow::Result<Vec<String>> {
    let sql = format!(
        "SELECT DISTINCT arrayJoin(arrayPushBack(episode_ids, opened_by)) AS id FROM incidents \
         WHERE id = {} ORDER BY id",
        literal(incident)
    );
    // `id` would otherwise be the alias in the condition.
    let sql = sql.replace("AS id", "AS episode").replace("ORDER BY id", "ORDER BY episode");
    let rows: Vec<Episode> = stack.database.rows(&sql, &[])?;
    Ok(rows.into_iter().map(|row| row.episode).collect())
}

#[derive(Debug, Row, Deserialize)]
struct Episode {
    episode: String,
}

fn settings(stack: &Stack) -> anyhow::Result<PageSettings> {
    let Notify { dashboard_url, runbook_base, zone } = stack.settings.section("notify")?;
    let zone = TimeZone::get(&zone).unwrap_or(TimeZone::UTC);
    Ok(PageSettings { dashboard_url, runbook_base, zone })
}

fn write_state(incident: &Incident, out: &mut impl Write) -> io::Result<()> {
    let people = &incident.people;
    let lines = [
        ("incident", Some(incident.id.to_string())),
        ("seen by", people.acknowledged_by.clone()),
        ("assigned", people.assigned_to.clone()),
        ("snoozed", people.snoozed_until.map(|until| format!("until {}", utc(until)))),
        ("judged", people.judged.clone()),
        ("closed by", people.closed_by.clone()),
        ("part of", incident.merged_into.map(|id| id.to_string())),
        ("pages", Some(incident.page.to_string())),
        ("episodes", Some(format!("{} ({} open)", incident.episodes, incident.open_episodes))),
    ];
    for (label, value) in lines {
        if let Some(value) = value {
            writeln!(out, "{label:<10}{}", escape_line(value.as_bytes()))?;
        }
    }
    Ok(())
}

fn write_transitions(
    stack: &Stack,
    episodes: &[String],
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let ids: Vec<String> = episodes.iter().map(|id| literal(id)).collect();
    let sql = format!(
        "SELECT episode_id, seq, toUnixTimestamp64Micro(at) AS at, state, severity, summary FROM alerts \
         WHERE episode_id IN ({}) ORDER BY alerts.at, episode_id, seq LIMIT 1000",
        ids.join(", ")
    );
    let transitions: Vec<Transition> = stack.database.rows(&sql, &[])?;
    for it in transitions {
        writeln!(
            out,
            "{}\t{}\t{}\t{}\t{}\t{}",
            utc(it.at),
            it.episode_id.get(..16).unwrap_or(&it.episode_id),
            it.seq,
            it.state,
            it.severity,
            escape_line(it.summary.as_bytes())
        )?;
    }
    Ok(())
}

/// Returns a time as `2026-11-21T10:00:00Z`.
pub(crate) fn utc(micros: i64) -> String {
    let time = Timestamp::from_microsecond(micros);
    time.map_or_else(|_| micros.to_string(), |time| format!("{time:.0}"))
}
