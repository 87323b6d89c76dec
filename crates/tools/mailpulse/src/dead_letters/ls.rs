//! `mailpulse dead-letters ls`.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;

use jiff::Timestamp;
use kafka::dead_letters::DeadLetterView;
use record::names;
use serde::Serialize;

use super::Installation;
use super::dead_letter_record::{DeadLetterRecord, written_at};
use super::redrive_states::{RedriveState, RedriveStates};
use crate::args::Ls;
use crate::dead_letter_id::DeadLetterId;
use crate::{Outcome, text};

/// Lists dead letters, partition by partition.
pub(crate) fn run(installation: &Installation, args: &Ls) -> anyhow::Result<Outcome> {
    let (connection, topics) = (&installation.connection, &installation.topics);
    let view = DeadLetterView::committed(connection, &topics.dead_letters)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut summary = Summary::default();
    for partition in 0..view.partitions() {
        let states = RedriveStates::read(&view, partition)?;
        view.read(partition, 0, |entry| {
            let dead_letter = DeadLetterRecord::from_entry(entry);
            let written_at = written_at(entry);
            if !dead_letter.is_marker() && args.filters.matches(&dead_letter, written_at) {
                let state = states.state(dead_letter.id);
                summary.add(&dead_letter, state);
                if args.all || state == RedriveState::Open {
                    print(&mut out, &dead_letter, written_at, state, args.json)?;
                }
            }
            Ok::<_, anyhow::Error>(ControlFlow::Continue(()))
        })?;
    }
    out.flush()?;
    writeln!(io::stderr(), "{summary}")?;
    Ok(Outcome::Done)
}

fn print(
    out: &mut impl Write,
    dead_letter: &DeadLetterRecord<'_>,
    written_at: Timestamp,
    state: RedriveState,
    json: bool,
) -> anyhow::Result<()> {
    if json {
        serde_json::to_writer(&mut *out, &Row::new(dead_letter, written_at, state))
            .map_err(io::Error::from)?;
        writeln!(out)?;
        return Ok(());
    }
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let field = |text: &str| or_dash(text::escape_line(text.as_bytes()));
    let source = format!(
        "{}/{}",
        field(dead_letter.header(names::PROVIDER)),
        field(dead_letter.header(names::SOURCE))
    );
    let state = match state {
        RedriveState::Open => String::new(),
        RedriveState::Redriven => "[redriven] ".to_owned(),
        RedriveState::CopyOf(first) => format!("[copy of {first}] "),
    };
    writeln!(
        out,
        "{:<10} {written_at:.0} {:<15} {:<12} {source:<20} {:<28} {:>8} {:<28} {state}{}",
        dead_letter.id,
        field(dead_letter.added.reason),
        field(dead_letter.added.stage),
        or_dash(text::truncate_line(dead_letter.key, 28)),
        dead_letter.value.len(),
        field(dead_letter.added.origin),
        text::truncate_line(dead_letter.added.detail.as_bytes(), 60),
    )?;
    Ok(())
}

/// A line of `--json`. The field names are stable. In a key that is not UTF-8, U+FFFD replaces the
/// invalid bytes; `show` prints all bytes.
#[derive(Serialize)]
struct Row<'a> {
    id: String,
    partition: i32,
    offset: i64,
    /// RFC 3339, UTC.
    written_at: String,
    /// `open`, `redriven` or `copy`.
    state: &'static str,
    /// For a copy: the first dead letter about the same record.
    copy_of: Option<String>,
    reason: &'a str,
    stage: &'a str,
    provider: &'a str,
    source: &'a str,
    request_id: &'a str,
    key: std::borrow::Cow<'a, str>,
    bytes: usize,
    origin: &'a str,
    detail: &'a str,
}

impl<'a> Row<'a> {
    fn new(dead_letter: &DeadLetterRecord<'a>, written_at: Timestamp, state: RedriveState) -> Self {
        let DeadLetterId { partition, offset } = dead_letter.id;
        let (state, copy_of) = match state {
            RedriveState::Open => ("open", None),
            RedriveState::Redriven => ("redriven", None),
            RedriveState::CopyOf(first) => ("copy", Some(first.to_string())),
        };
        Self {
            id: dead_letter.id.to_string(),
            partition,
            offset,
            written_at: format!("{written_at:.3}"),
            state,
            copy_of,
            reason: dead_letter.added.reason,
            stage: dead_letter.added.stage,
            provider: dead_letter.header(names::PROVIDER),
            source: dead_letter.header(names::SOURCE),
            request_id: dead_letter.header(names::REQUEST_ID),
            key: String::from_utf8_lossy(dead_letter.key),
            bytes: dead_letter.value.len(),
            origin: dead_letter.added.origin,
            detail: dead_letter.added.detail,
        }
    }
}

/// The counts of the last line.
#[derive(Debug, Default)]
struct Summary {
    open: u64,
    by_reason: BTreeMap<String, u64>,
    redriven: u64,
    copies: u64,
}

impl Summary {
    fn add(&mut self, dead_letter: &DeadLetterRecord<'_>, state: RedriveState) {
        match state {
            RedriveState::Open => {
                self.open += 1;
                *self
                    .by_reason
                    .entry(text::escape_line(dead_letter.added.reason.as_bytes()))
                    .or_default() += 1;
            }
            RedriveState::Redriven => self.redriven += 1,
            RedriveState::CopyOf(_) => self.copies += 1,
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = if self.open == 1 { "" } else { "s" };
        write!(f, "{} dead letter{plural}", self.open)?;
        for (number, (reason, count)) in self.by_reason.iter().enumerate() {
            write!(f, "{}{reason} {count}", if number == 0 { ": " } else { ", " })?;
        }
        for (count, what) in [(self.redriven, "redriven"), (self.copies, "copies")] {
            if count > 0 {
                write!(f, "; {count} {what}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_by_reason() {
        let reasons = [("not_json", 2), ("wrong_shape", 1)];
        let by_reason = reasons.map(|(reason, count)| (reason.to_owned(), count)).into();
        let summary = Summary { open: 3, by_reason, redriven: 4, copies: 0 };
        assert_eq!(summary.to_string(), "3 dead letters: not_json 2, wrong_shape 1; 4 redriven");
        assert_eq!(Summary::default().to_string(), "0 dead letters");
    }
}
