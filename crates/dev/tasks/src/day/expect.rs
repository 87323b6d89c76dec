//! Compares the incidents of which people were notified with the written expectation.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::feed::clock_text;
use super::mail::SECOND;
use super::script::{HOUR, MINUTE};
use crate::clickhouse::Database;

/// An incident that people must be notified of.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// What happens on the day.
    name: String,
    /// The first and the last possible start of its first episode, such as `10:00`.
    began: [String; 2],
    /// The highest severity.
    severity: String,
    family: String,
    /// The group, such as `source/sendgrid/acme`.
    about: String,
    /// The key of the scope that is the cause. Empty: any.
    #[serde(default)]
    cause: String,
    /// What people are told, in this order. A word that ends in `?` may come any number of times.
    notifications: Vec<String>,
    /// Why the line cannot be right yet. Such a line may be missing.
    #[serde(default)]
    not_yet: String,
}

#[derive(Debug, Deserialize)]
struct File {
    incident: Vec<Expected>,
}

/// A row of the table `incidents`.
#[derive(Debug, Clone, Deserialize)]
struct Row {
    id: String,
    seq: u32,
    change: String,
    severity: String,
    family: String,
    about: String,
    cause: String,
    began: i64,
    at: i64,
    summary: String,
}

const ROWS: &str = "
    SELECT id, seq, toString(change) AS change, toString(severity) AS severity,
        toString(family) AS family, if(`group` = 'ours', 'ours', concat(`group`, '/', group_of)) AS about,
        toString(cause_scope) AS cause, toUnixTimestamp64Micro(opened_at) AS began,
        toUnixTimestamp64Micro(at) AS at, summary
    FROM incidents WHERE page > 0 ORDER BY kafka_offset, kafka_partition";

/// An incident of which people were notified.
#[derive(Debug)]
pub(crate) struct Notified {
    pub(crate) id: String,
    about: String,
    family: String,
    severity: String,
    /// What was named as the cause, one after the other.
    causes: Vec<String>,
    /// The start of its first episode, in seconds since the start of the day.
    began: i64,
    /// What people were told, and when, in seconds since the start of the day.
    pub(crate) changes: Vec<(i64, String)>,
    /// The numbers of the records that notify.
    pub(crate) seqs: Vec<u32>,
    summary: String,
}

/// Returns the incidents in the order of their first notifications. `start` is the start of the day in unix
/// seconds.
pub(crate) async fn notified(database: &Database, start: i64) -> anyhow::Result<Vec<Notified>> {
    let rows: Vec<Row> = database.rows(ROWS).await?;
    let mut incidents: BTreeMap<String, Notified> = BTreeMap::new();
    for row in rows {
        let notifies = ["opened", "escalated", "reminder", "digest", "resolved"];
        let incident = incidents.entry(row.id.clone()).or_insert_with(|| Notified {
            id: row.id.clone(),
            about: String::new(),
            family: String::new(),
            severity: String::new(),
            causes: Vec::new(),
            began: i64::MAX,
            changes: Vec::new(),
            seqs: Vec::new(),
            summary: row.summary.clone(),
        });
        (incident.about, incident.family, incident.severity) =
            (row.about, row.family, row.severity);
        incident.began = incident.began.min(row.began / SECOND - start);
        // Later causes are those of what is left.
        if !row.cause.is_empty() && incident.causes.last() != Some(&row.cause) {
            incident.causes.push(row.cause);
        }
        if notifies.contains(&row.change.as_str()) {
            incident.changes.push((row.at / SECOND - start, row.change));
            incident.seqs.push(row.seq);
        }
    }
    let mut incidents: Vec<_> = incidents.into_values().collect();
    incidents.sort_by_key(|incident| incident.began);
    Ok(incidents)
}

/// The comparison.
pub(crate) struct Comparison {
    pub(crate) table: String,
    pub(crate) differences: Vec<String>,
}

/// Compares the incidents with a file such as `expected.toml`.
pub(crate) fn compare(
    file: &str,
    incidents: &[Notified],
    first_lines: &BTreeMap<String, String>,
) -> anyhow::Result<Comparison> {
    let File { incident: expected } = toml::from_str(file).context("read the expectation")?;
    let mut free: Vec<usize> = (0..incidents.len()).collect();
    let (mut lines, mut differences) = (Vec::new(), Vec::new());
    for one in &expected {
        let range = one.range()?;
        let found = free.iter().position(|index| {
            let it = &incidents[*index];
            it.about == one.about && it.family == one.family && range.contains(&it.began)
        });
        match found {
            Some(position) => {
                let incident = &incidents[free.remove(position)];
                let wrong = one.differences(incident);
                let verdict = if wrong.is_empty() { "ok".to_owned() } else { wrong.join("; ") };
                differences.extend(wrong.iter().map(|wrong| format!("{}: {wrong}", one.name)));
                lines.push((incident.line(first_lines), verdict));
            }
            None if one.not_yet.is_empty() => {
                differences.push(format!("{}: people were not notified of it", one.name));
                lines.push((
                    (i64::MAX, format!("       –       {}", one.name)),
                    "missing".to_owned(),
                ));
            }
            None => {
                let verdict = format!("missing, as long as {}", one.not_yet);
                lines.push(((i64::MAX, format!("       –       {}", one.name)), verdict));
            }
        }
    }
    for index in free {
        let line = incidents[index].line(first_lines);
        differences.push(format!("people were notified of something else:{}", line.1));
        lines.push((line, "unexpected".to_owned()));
    }
    lines.sort();
    let mut table = String::new();
    for ((_, line), verdict) in &lines {
        let _ = writeln!(table, "{line}\n               => {verdict}");
    }
    Ok(Comparison { table, differences })
}

impl Expected {
    fn range(&self) -> anyhow::Result<std::ops::RangeInclusive<i64>> {
        let [from, to] = &self.began;
        let (from, to) = (time(from)?, time(to)?);
        ensure!(from <= to, "{}: the times of `began` are not in order", self.name);
        Ok(from..=to)
    }

    /// Returns what is different about an incident.
    fn differences(&self, incident: &Notified) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut compare = |what: &str, expected: &str, found: &str| {
            if expected != found {
                wrong.push(format!("{what} is {found:?} instead of {expected:?}"));
            }
        };
        compare("the severity", &self.severity, &incident.severity);
        if !self.cause.is_empty() {
            let found = incident.causes.first().map_or("", String::as_str);
            compare("the cause", &self.cause, found);
        }
        let changes: Vec<&str> =
            incident.changes.iter().map(|(_, change)| change.as_str()).collect();
        if !follows(&self.notifications, &changes) {
            wrong.push(format!(
                "people were told {} instead of {}",
                changes.join(", "),
                self.notifications.join(", ")
            ));
        }
        wrong
    }
}

/// Returns whether the words are those of the pattern, in which words that end in `?` may come any number of times.
fn follows(pattern: &[String], words: &[&str]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return words.is_empty() };
    let Some(optional) = first.strip_suffix('?') else {
        return words
            .split_first()
            .is_some_and(|(word, words)| word == first && follows(rest, words));
    };
    let repeated = words.iter().take_while(|word| **word == optional).count();
    (0..=repeated).any(|number| follows(rest, &words[number..]))
}

/// Reads a time such as `10:00` or `10:00:30` as seconds since the start of the day.
fn time(text: &str) -> anyhow::Result<i64> {
    let read = || {
        let mut parts = text.split(':').map(str::parse::<i64>);
        let (hours, minutes) = (parts.next()?.ok()?, parts.next()?.ok()?);
        let seconds = parts.next().unwrap_or(Ok(0)).ok()?;
        Some(hours * HOUR + minutes * MINUTE + seconds)
    };
    read().with_context(|| format!("{text:?} is no time; write HH:MM or HH:MM:SS"))
}

impl Notified {
    /// Returns the start, and two lines for the table.
    fn line(&self, first_lines: &BTreeMap<String, String>) -> (i64, String) {
        let text = first_lines.get(&self.id).unwrap_or(&self.summary);
        let changes =
            self.changes.iter().map(|(at, change)| format!("{} {change}", clock_text(*at)));
        let mut line = format!("{:>14} {text}\n", clock_text(self.began));
        let _ = write!(
            line,
            "               {} · {} · {} · cause {} · {}",
            self.severity,
            self.family,
            self.about,
            if self.causes.is_empty() { "–".to_owned() } else { self.causes.join(" → ") },
            changes.collect::<Vec<_>>().join(", ")
        );
        (self.began, line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incident(at: i64) -> Notified {
        Notified {
            id: "1".into(),
            about: "source/ses/news".into(),
            family: "bounces".into(),
            severity: "page".into(),
            causes: vec!["campaign/ses/news/a".into()],
            began: at,
            changes: vec![(at, "opened".into()), (at + 60, "resolved".into())],
            seqs: vec![1, 2],
            summary: "text".into(),
        }
    }

    const FILE: &str = r#"
        [[incident]]
        name = "the list"
        began = ["10:00", "10:05:30"]
        severity = "page"
        family = "bounces"
        about = "source/ses/news"
        cause = "campaign/ses/news/a"
        notifications = ["opened", "escalated?", "resolved"]
    "#;

    fn differences(file: &str, incidents: &[Notified]) -> usize {
        compare(file, incidents, &BTreeMap::new()).unwrap().differences.len()
    }

    #[test]
    fn missing_unexpected_and_different_incidents_are_differences() {
        assert_eq!(differences(FILE, &[incident(10 * HOUR)]), 0);
        assert_eq!(differences(FILE, &[]), 1, "missing");
        assert_eq!(differences(FILE, &[incident(10 * HOUR), incident(10 * HOUR)]), 1, "unexpected");
        assert_eq!(differences(FILE, &[incident(11 * HOUR)]), 2, "too late");
        let not_yet = format!("{FILE}\nnot_yet = \"there is no history\"");
        assert_eq!(differences(&not_yet, &[]), 0);
        let changed: [fn(&mut Notified); 3] = [
            |it| it.severity = "warning".into(),
            |it| it.causes.clear(),
            |it| it.changes.insert(1, (0, "reminder".into())),
        ];
        for change in changed {
            let mut it = incident(10 * HOUR);
            change(&mut it);
            assert_eq!(differences(FILE, &[it]), 1);
        }
    }

    #[test]
    fn optional_notifications_come_any_number_of_times() {
        let pattern = ["opened", "escalated?", "resolved"].map(str::to_owned);
        assert!(follows(&pattern, &["opened", "resolved"]));
        assert!(follows(&pattern, &["opened", "escalated", "escalated", "resolved"]));
        assert!(!follows(&pattern, &["opened", "escalated"]));
        assert!(!follows(&pattern, &["opened", "resolved", "resolved"]));
    }

    #[test]
    fn the_expectations_of_the_repository_can_be_read() {
        for file in [super::super::EXPECTED, super::super::EXPECTED_SHORT] {
            let file = super::super::expectation(file).unwrap();
            let comparison = compare(&file, &[], &BTreeMap::new()).unwrap();
            assert!(!comparison.differences.is_empty());
        }
    }
}
