//! What is printed: one JSON object per line.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};

use enrich::Unreadable;
use event::{Event, Provider};
use providers::SplitError;
use record::Stage;
use serde::Serialize;

use super::Arrival;

/// Writes lines and counts them.
pub(super) struct Lines<'a, W: Write> {
    pub(super) arrival: Arrival<'a>,
    out: BufWriter<W>,
    events: usize,
    dead_letters: usize,
}

/// What would go to `mail.dead-letters`. The names are stable.
#[derive(Serialize)]
struct DeadLetter<'a> {
    /// Who would give up on it.
    stage: &'static str,
    /// The code of a [`record::Reason`].
    reason: &'static str,
    detail: String,
    provider: Provider,
    source: &'a str,
    /// The recipient; empty where none is known.
    key: &'a str,
    bytes: usize,
    /// Bytes that are not UTF-8 are replaced by U+FFFD.
    value: Cow<'a, str>,
}

#[derive(Serialize)]
struct DeadLine<'a> {
    dead_letter: DeadLetter<'a>,
}

impl<'a, W: Write> Lines<'a, W> {
    pub(super) fn new(arrival: Arrival<'a>, out: W) -> Self {
        Self { arrival, out: BufWriter::new(out), events: 0, dead_letters: 0 }
    }

    /// An event as the archive gets it.
    pub(super) fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        self.events += 1;
        self.write(event)
    }

    /// A raw event that `enrich` gives up on.
    pub(super) fn refused_event(
        &mut self,
        why: &Unreadable,
        recipient: &str,
        bytes: &[u8],
    ) -> io::Result<()> {
        self.dead(Stage::Enrich, why.reason().code(), why.to_string(), recipient, bytes)
    }

    /// A body that the ingress gives up on, whole.
    pub(super) fn refused_body(&mut self, why: &SplitError, body: &[u8]) -> io::Result<()> {
        self.dead(Stage::Ingress, why.code(), why.to_string(), "", body)
    }

    /// How many events and dead letters there were, when all of them are written.
    pub(super) fn finish(mut self) -> io::Result<(usize, usize)> {
        self.out.flush()?;
        Ok((self.events, self.dead_letters))
    }

    fn dead(
        &mut self,
        stage: Stage,
        reason: &'static str,
        detail: String,
        key: &str,
        value: &[u8],
    ) -> io::Result<()> {
        self.dead_letters += 1;
        let dead_letter = DeadLetter {
            stage: stage.code(),
            reason,
            detail,
            provider: self.arrival.provider,
            source: self.arrival.source,
            key,
            bytes: value.len(),
            value: String::from_utf8_lossy(value),
        };
        self.write(&DeadLine { dead_letter })
    }

    /// Of the line ends in a provider's bytes each becomes a space: JSON has them between tokens
    /// only, where that is the same.
    fn write(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(line)?;
        line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|end| *end = b' ');
        line.push(b'\n');
        self.out.write_all(&line)
    }
}
