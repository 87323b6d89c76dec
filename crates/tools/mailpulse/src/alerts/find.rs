//! Finds incidents and episodes by the beginning of their ids.

use clickhouse::Row;
use serde::Deserialize;

use super::Stack;
use crate::InputError;
use crate::database::literal;

/// What an id names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Incident(String),
    Episode(String),
}

#[derive(Debug, Row, Deserialize)]
struct IdRow {
    id: String,
    is_incident: bool,
}

/// The shortest beginning of an id that is looked up.
const SHORTEST: usize = 4;

/// Returns the only incident or episode whose id begins with `prefix`.
///
/// # Errors
/// If there is none or more than one, or ClickHouse cannot be reached.
pub(super) fn find(stack: &Stack, prefix: &str) -> anyhow::Result<Found> {
    let mut found = look_up(stack, prefix)?;
    match (found.pop(), found.pop()) {
        (Some(IdRow { id, is_incident: true }), None) => Ok(Found::Incident(id)),
        (Some(IdRow { id, .. }), None) => Ok(Found::Episode(id)),
        (Some(one), Some(other)) => {
            let text = format!(
                "more than one id begins with `{prefix}`, such as {} and {}; give more of it",
                one.id, other.id
            );
            Err(InputError(text).into())
        }
        (None, _) => anyhow::bail!(
            "no incident or episode has an id that begins with `{prefix}`; `mailpulse alerts ls` lists \
             those that archive has stored"
        ),
    }
}

/// Returns the only incident whose id begins with `prefix`.
///
/// # Errors
/// As [`find`], and if the id is that of an episode.
pub(super) fn find_incident(stack: &Stack, prefix: &str) -> anyhow::Result<String> {
    match find(stack, prefix)? {
        Found::Incident(id) => Ok(id),
        Found::Episode(id) => {
            anyhow::bail!("{id} is an episode; `mailpulse alerts show {id}` names its incident")
        }
    }
}

fn look_up(stack: &Stack, prefix: &str) -> anyhow::Result<Vec<IdRow>> {
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if prefix.len() < SHORTEST || prefix.len() > 32 || !prefix.chars().all(is_hex) {
        let text = format!(
            "`{prefix}` is not the beginning of an id; give at least {SHORTEST} of its 32 digits (0-9, a-f)"
        );
        return Err(InputError(text).into());
    }
    let prefix = literal(prefix);
    let sql = format!(
        "SELECT id, max(is_incident) AS is_incident FROM ( \
         SELECT id, true AS is_incident FROM incidents WHERE startsWith(id, {prefix}) \
         UNION ALL SELECT episode_id AS id, false AS is_incident FROM alerts \
         WHERE startsWith(episode_id, {prefix})) GROUP BY id ORDER BY id LIMIT 3"
    );
    Ok(stack.database.rows(&sql, &[])?)
}
