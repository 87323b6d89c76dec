//! `mailpulse dead-letters show`.

use std::io::{self, Write};
use std::ops::ControlFlow;

use jiff::Timestamp;
use kafka::dead_letters::DeadLetterView;
use record::names;

use super::dead_letter_record::{DeadLetterRecord, written_at};
use super::redrive_states::{RedriveState, RedriveStates};
use super::{Installation, explain};
use crate::args::Show;
use crate::{Outcome, text};

/// Headers whose values are bytes and not text.
const BINARY: [&str; 2] = [names::EVENT_ID, names::ENGAGEMENT_ID];

pub(crate) fn run(installation: &Installation, args: &Show) -> anyhow::Result<Outcome> {
    let Installation { connection, topics, .. } = installation;
    let view = DeadLetterView::committed(connection, &topics.dead_letters)?;
    let states = RedriveStates::read(&view, args.id.partition)?;
    let mut outcome = Outcome::Incomplete;
    view.read(args.id.partition, args.id.offset, |entry| -> anyhow::Result<_> {
        let dead_letter = DeadLetterRecord::from_entry(entry);
        // If there is no record at this offset, the entry is the next one.
        if dead_letter.id == args.id && !dead_letter.is_marker() {
            let mut out = io::stdout().lock();
            if args.raw {
                out.write_all(dead_letter.value)?;
            } else {
                let state = states.state(dead_letter.id);
                let text = description(&dead_letter, written_at(entry), state, installation);
                out.write_all(text.as_bytes())?;
            }
            out.flush()?;
            outcome = Outcome::Done;
        }
        Ok(ControlFlow::Break(()))
    })?;
    if outcome == Outcome::Incomplete {
        writeln!(io::stderr(), "mailpulse: there is no dead letter {}", args.id)?;
    }
    Ok(outcome)
}

fn description(
    dead_letter: &DeadLetterRecord<'_>,
    written_at: Timestamp,
    state: RedriveState,
    installation: &Installation,
) -> String {
    let line = |text: &str| text::escape_line(text.as_bytes());
    let state = match state {
        RedriveState::Open => match installation.route(dead_letter) {
            Ok(route) => format!("open; can be redriven: {route}"),
            Err(reason) => format!("open; cannot be redriven: {reason}"),
        },
        RedriveState::Redriven => "redriven".to_owned(),
        RedriveState::CopyOf(first) => format!("copy of {first}; redrive that one instead"),
    };
    let origin = match dead_letter.added.origin {
        "" => "an HTTP request",
        origin => origin,
    };
    let rows = [
        ("id", dead_letter.id.to_string()),
        ("written", format!("{written_at:.3}")),
        ("state", line(&state)),
        ("stage", line(dead_letter.added.stage)),
        ("reason", line(dead_letter.added.reason)),
        ("detail", line(dead_letter.added.detail)),
        ("origin", line(origin)),
        ("key", text::escape_line(dead_letter.key)),
        ("meaning", explain::meaning(dead_letter).to_owned()),
        ("fix", explain::fix(dead_letter).to_owned()),
    ];
    let mut description: String =
        rows.iter().map(|(name, text)| format!("{name:<9}{text}\n")).collect();
    description += "\nheaders\n";
    let width = dead_letter.headers.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, value) in &dead_letter.headers {
        let value =
            if BINARY.contains(name) { hex::encode(value) } else { text::escape_line(value) };
        description += &format!("  {:<width$}  {value}\n", line(name));
    }
    let value = text::format_value(dead_letter.value);
    description + &format!("\nvalue, {} bytes\n{value}\n", dead_letter.value.len())
}
