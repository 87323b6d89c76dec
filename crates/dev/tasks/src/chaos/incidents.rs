//! Checks the records of every incident.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::balance::{Balance, Errors};
use crate::clickhouse::Database;

const PART: &str = "incidents";

/// The greatest number of episodes that a record lists.
const MOST_LISTED: u32 = 21;

/// A row of the table `incidents`.
#[derive(Debug, Clone, Deserialize)]
struct Row {
    id: String,
    seq: u32,
    page: u32,
    change: String,
    state: String,
    severity: String,
    episodes: u32,
    opened_by: String,
    lead: String,
    listed: Vec<String>,
}

const ROWS: &str = "
    SELECT id, seq, page, toString(change) AS change, toString(state) AS state,
        toString(severity) AS severity, episodes, opened_by, lead_episode_id AS lead,
        episode_ids AS listed
    FROM incidents ORDER BY id, kafka_offset";

/// The episodes of which this release has published an alert that begins them.
const EPISODES: &str = "SELECT DISTINCT toString(episode_id) FROM alerts WHERE seq = 1 AND state = 'firing' FORMAT TSV";

/// The episodes that were open when an earlier release was upgraded. Its alerts have no number.
const OLD_EPISODES: &str =
    "SELECT DISTINCT toString(episode_id) FROM alerts WHERE seq = 0 FORMAT TSV";

/// Compares all incidents with the alerts.
pub(super) async fn prove(balance: &mut Balance, database: &Database) -> anyhow::Result<()> {
    let rows: Vec<Row> = database.rows(ROWS).await?;
    balance.none(PART, "records that do not follow the one before", &malformed(&rows));
    let episodes = database.text(EPISODES).await?;
    let listed: BTreeSet<&str> = rows.iter().flat_map(Row::episodes).collect();
    let is_complete = rows.iter().all(|row| row.episodes <= MOST_LISTED);
    let mut without = Errors::default();
    for episode in episodes.lines().filter(|episode| is_complete && !listed.contains(episode)) {
        without.add(|| episode.to_owned());
    }
    balance.none(PART, "episodes without an incident", &without);
    let old_episodes = database.text(OLD_EPISODES).await?;
    let known: BTreeSet<&str> = episodes.lines().chain(old_episodes.lines()).collect();
    let mut unknown = Errors::default();
    for row in rows.iter().filter(|row| row.seq == 1 && !known.contains(row.opened_by.as_str())) {
        unknown.add(|| format!("{row:?}"));
    }
    balance.none(PART, "incidents that no episode has opened", &unknown);
    Ok(())
}

/// Finds records that do not follow from the one before. `rows` are sorted by incident and offset.
fn malformed(rows: &[Row]) -> Errors {
    let mut errors = Errors::default();
    for records in rows.chunk_by(|a, b| a.id == b.id) {
        let (mut seq, mut page, mut is_over, mut opened) = (0, 0, false, 0);
        let mut severity = 0;
        for row in records {
            let notifies = matches!(
                row.change.as_str(),
                "opened" | "escalated" | "reminder" | "digest" | "resolved"
            );
            let rank = ["warning", "critical", "page"].iter().position(|it| *it == row.severity);
            opened += u32::from(row.change == "opened");
            let is_right = row.seq == seq + 1
                && row.page == page + u32::from(notifies)
                && (row.change != "resolved" || row.state == "resolved")
                // Afterwards people can still judge it.
                && (!is_over || row.change == "handled" || row.change == "digest")
                && rank.is_some_and(|rank| rank >= severity)
                && opened <= 1;
            if !is_right {
                errors.add(|| format!("{row:?}"));
            }
            (seq, page, severity) = (row.seq, row.page, rank.unwrap_or(severity));
            is_over |= row.change == "resolved";
        }
    }
    errors
}

impl Row {
    fn episodes(&self) -> impl Iterator<Item = &str> {
        let listed = self.listed.iter().map(String::as_str);
        listed.chain([self.opened_by.as_str(), self.lead.as_str()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: u32, page: u32, change: &str) -> Row {
        Row {
            id: "i1".into(),
            seq,
            page,
            change: change.into(),
            state: if change == "resolved" { "resolved".into() } else { "open".into() },
            severity: "critical".into(),
            episodes: 1,
            opened_by: "e1".into(),
            lead: "e1".into(),
            listed: Vec::new(),
        }
    }

    #[test]
    fn records_that_do_not_follow_each_other_are_detected() {
        let count = |rows: &[Row]| malformed(rows).count;
        let [opened, updated, resolved] =
            [row(1, 1, "opened"), row(2, 1, "updated"), row(3, 2, "resolved")];
        assert_eq!(count(&[opened.clone(), updated.clone(), resolved.clone()]), 0);
        assert_eq!(count(&[opened.clone(), resolved.clone()]), 1, "a number is missing");
        assert_eq!(count(&[opened.clone(), row(2, 2, "opened")]), 1, "opened twice");
        assert_eq!(count(&[opened.clone(), row(2, 2, "updated")]), 1, "no notification");
        assert_eq!(
            count(&[opened, updated, resolved, row(4, 3, "reminder")]),
            1,
            "a reminder after the end"
        );
    }
}
