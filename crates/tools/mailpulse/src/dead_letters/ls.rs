//! `mailpulse dead-letters ls`.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;

use jiff::Timestamp;
use record::names;
use serde::Serialize;
use kafka::letters::Letters;

use super::Site;
use super::book::{Book, State};
use super::letter::{Letter, written_at};
use crate::args::Ls;
use crate::letter_id::LetterId;
use crate::{Outcome, text};

/// Lists letters as they are read, partition by partition.
pub(crate) fn run(site: &Site, how: &Ls) -> anyhow::Result<Outcome> {
    let letters = Letters::committed(&site.connection, &site.topics.dead_letters)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut tally = Tally::default();
    for partition in 0..letters.partitions() {
        let book = Book::read(&letters, partition)?;
        letters.read(partition, 0, |entry| {
            let (letter, written_at) = (Letter::read(entry), written_at(entry));
            if !letter.is_marker() && how.filters.let_pass(&letter, written_at) {
                let state = book.state(letter.id);
                tally.add(&letter, state);
                if how.all || state == State::Open {
                    print(&mut out, &letter, written_at, state, how.json)?;
                }
            }
            Ok::<_, anyhow::Error>(ControlFlow::Continue(()))
        })?;
    }
    out.flush()?;
    writeln!(io::stderr(), "{tally}")?;
    Ok(Outcome::Done)
}

fn print(
    out: &mut impl Write,
    letter: &Letter<'_>,
    written_at: Timestamp,
    state: State,
    json: bool,
) -> anyhow::Result<()> {
    if json {
        serde_json::to_writer(&mut *out, &Row::new(letter, written_at, state))
            .map_err(io::Error::from)?;
        writeln!(out)?;
        return Ok(());
    }
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let word = |text: &str| or_dash(text::line(text.as_bytes()));
    let sender =
        format!("{}/{}", word(letter.header(names::PROVIDER)), word(letter.header(names::SOURCE)));
    let mark = match state {
        State::Open => String::new(),
        State::Redriven => "[redriven] ".to_owned(),
        State::CopyOf(first) => format!("[copy of {first}] "),
    };
    writeln!(
        out,
        "{:<10} {written_at:.0} {:<15} {:<12} {sender:<20} {:<28} {:>8} {:<28} {mark}{}",
        letter.id,
        word(letter.death.reason),
        word(letter.death.stage),
        or_dash(text::cut(letter.key, 28)),
        letter.value.len(),
        word(letter.death.origin),
        text::cut(letter.death.detail.as_bytes(), 60),
    )?;
    Ok(())
}

/// A line of `--json`. The names are stable; keys that are not UTF-8 have their bytes replaced by
/// U+FFFD, `show` has them all.
#[derive(Serialize)]
struct Row<'a> {
    id: String,
    partition: i32,
    offset: i64,
    /// RFC 3339, UTC.
    written_at: String,
    /// `open`, `redriven` or `copy`.
    state: &'static str,
    /// Of a copy: the letter that stands for it.
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
    fn new(letter: &Letter<'a>, written_at: Timestamp, state: State) -> Self {
        let LetterId { partition, offset } = letter.id;
        let (state, copy_of) = match state {
            State::Open => ("open", None),
            State::Redriven => ("redriven", None),
            State::CopyOf(first) => ("copy", Some(first.to_string())),
        };
        Self {
            id: letter.id.to_string(),
            partition,
            offset,
            written_at: format!("{written_at:.3}"),
            state,
            copy_of,
            reason: letter.death.reason,
            stage: letter.death.stage,
            provider: letter.header(names::PROVIDER),
            source: letter.header(names::SOURCE),
            request_id: letter.header(names::REQUEST_ID),
            key: String::from_utf8_lossy(letter.key),
            bytes: letter.value.len(),
            origin: letter.death.origin,
            detail: letter.death.detail,
        }
    }
}

/// What there was, for the last line.
#[derive(Debug, Default)]
struct Tally {
    open: u64,
    by_reason: BTreeMap<String, u64>,
    redriven: u64,
    copies: u64,
}

impl Tally {
    fn add(&mut self, letter: &Letter<'_>, state: State) {
        match state {
            State::Open => {
                self.open += 1;
                *self.by_reason.entry(text::line(letter.death.reason.as_bytes())).or_default() += 1;
            }
            State::Redriven => self.redriven += 1,
            State::CopyOf(_) => self.copies += 1,
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = if self.open == 1 { "" } else { "s" };
        write!(f, "{} letter{plural}", self.open)?;
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
    fn the_last_line_counts_by_reason() {
        let reasons = [("not_json", 2), ("wrong_shape", 1)];
        let by_reason = reasons.map(|(reason, count)| (reason.to_owned(), count)).into();
        let tally = Tally { open: 3, by_reason, redriven: 4, copies: 0 };
        assert_eq!(tally.to_string(), "3 letters: not_json 2, wrong_shape 1; 4 redriven");
        assert_eq!(Tally::default().to_string(), "0 letters");
    }
}
