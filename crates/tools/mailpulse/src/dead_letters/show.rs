//! `mailpulse dead-letters show`.

use std::io::{self, Write};
use std::ops::ControlFlow;

use jiff::Timestamp;
use record::{Topics, names};
use kafka::letters::Letters;

use super::Site;
use super::book::{Book, State};
use super::explain;
use super::letter::{Letter, written_at};
use super::route::Route;
use crate::args::Show;
use crate::{Outcome, text};

/// Headers whose values are bytes, not text.
const BINARY: [&str; 2] = [names::EVENT_ID, names::ENGAGEMENT_ID];

/// Shows one letter.
pub(crate) fn run(site: &Site, what: &Show) -> anyhow::Result<Outcome> {
    let letters = Letters::committed(&site.connection, &site.topics.dead_letters)?;
    let book = Book::read(&letters, what.id.partition)?;
    let mut outcome = Outcome::Incomplete;
    letters.read(what.id.partition, what.id.offset, |entry| -> anyhow::Result<_> {
        let letter = Letter::read(entry);
        // The offset may be no record's, and this the one behind it.
        if letter.id == what.id && !letter.is_marker() {
            let mut out = io::stdout().lock();
            if what.raw {
                out.write_all(letter.value)?;
            } else {
                let sheet = sheet(&letter, written_at(entry), book.state(letter.id), &site.topics);
                out.write_all(sheet.as_bytes())?;
            }
            out.flush()?;
            outcome = Outcome::Done;
        }
        Ok(ControlFlow::Break(()))
    })?;
    if outcome == Outcome::Incomplete {
        writeln!(io::stderr(), "mailpulse: there is no letter {}", what.id)?;
    }
    Ok(outcome)
}

fn sheet(letter: &Letter<'_>, written_at: Timestamp, state: State, topics: &Topics) -> String {
    let line = |text: &str| text::line(text.as_bytes());
    let state = match state {
        State::Open => match Route::of(letter, topics) {
            Ok(route) => format!("waits; redrive would send it on: {route}"),
            Err(stays) => format!("waits; redrive would leave it here: {stays}"),
        },
        State::Redriven => "was redriven".to_owned(),
        State::CopyOf(first) => format!("is a copy of {first}, which stands for it"),
    };
    let origin = match letter.death.origin {
        "" => "an HTTP request",
        origin => origin,
    };
    let rows = [
        ("letter", letter.id.to_string()),
        ("written", format!("{written_at:.3}")),
        ("state", line(&state)),
        ("stage", line(letter.death.stage)),
        ("reason", line(letter.death.reason)),
        ("detail", line(letter.death.detail)),
        ("from", line(origin)),
        ("key", text::line(letter.key)),
        ("means", explain::meaning(letter).to_owned()),
        ("mend", explain::mend(letter).to_owned()),
    ];
    let mut sheet: String = rows.iter().map(|(name, text)| format!("{name:<9}{text}\n")).collect();
    sheet += "\nheaders\n";
    let width = letter.headers.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, value) in &letter.headers {
        let value = if BINARY.contains(name) { hex::encode(value) } else { text::line(value) };
        sheet += &format!("  {:<width$}  {value}\n", line(name));
    }
    let value = text::value(letter.value);
    sheet + &format!("\nvalue, {} bytes\n{value}\n", letter.value.len())
}
