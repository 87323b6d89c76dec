use std::borrow::Cow;
use std::io::{self, BufWriter, Write};

use enrich::Unreadable;
use event::{Event, Provider};
use providers::SplitError;
use record::Stage;
use serde::Serialize;

use super::RequestContext;

/// Writes one JSON object per line, and counts them.
pub(super) struct EventLines<'a, W: Write> {
    pub(super) context: RequestContext<'a>,
    out: BufWriter<W>,
    events: usize,
    dead_letters: usize,
}

/// A dead letter that a stage would write. The field names are stable.
#[derive(Serialize)]
struct DeadLetter<'a> {
    stage: &'static str,
    /// The code of a [`record::Reason`].
    reason: &'static str,
    detail: String,
    provider: Provider,
    source: &'a str,
    /// The recipient, or empty.
    key: &'a str,
    bytes: usize,
    /// U+FFFD replaces invalid UTF-8.
    value: Cow<'a, str>,
}

#[derive(Serialize)]
struct DeadLetterLine<'a> {
    dead_letter: DeadLetter<'a>,
}

impl<'a, W: Write> EventLines<'a, W> {
    pub(super) fn new(context: RequestContext<'a>, out: W) -> Self {
        Self { context, out: BufWriter::new(out), events: 0, dead_letters: 0 }
    }

    /// Writes an event as `enrich` publishes it.
    pub(super) fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        self.events += 1;
        self.write(event)
    }

    /// Writes a raw event that `enrich` cannot parse.
    pub(super) fn unreadable_event(
        &mut self,
        error: &Unreadable,
        recipient: &str,
        bytes: &[u8],
    ) -> io::Result<()> {
        self.dead_letter(Stage::Enrich, error.reason().code(), error.to_string(), recipient, bytes)
    }

    /// Writes a body that the ingress cannot split.
    pub(super) fn unsplittable_body(&mut self, error: &SplitError, body: &[u8]) -> io::Result<()> {
        self.dead_letter(Stage::Ingress, error.code(), error.to_string(), "", body)
    }

    /// Flushes the output. Returns the numbers of events and dead letters.
    pub(super) fn finish(mut self) -> io::Result<(usize, usize)> {
        self.out.flush()?;
        Ok((self.events, self.dead_letters))
    }

    fn dead_letter(
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
            provider: self.context.provider,
            source: self.context.source,
            key,
            bytes: value.len(),
            value: String::from_utf8_lossy(value),
        };
        self.write(&DeadLetterLine { dead_letter })
    }

    /// Replaces line ends in a provider's bytes by spaces. JSON allows them only between tokens, so
    /// the value does not change.
    fn write(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(line)?;
        line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|end| *end = b' ');
        line.push(b'\n');
        self.out.write_all(&line)
    }
}
