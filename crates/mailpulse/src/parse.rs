//! `mailpulse parse`: what the pipeline would make of a body, by the code of the pipeline.

mod wrap;

use std::io::{self, BufWriter, Write};

use event::{Provider, ReceivedAt};
use jiff::Timestamp;
use providers::{Envelope, ParseError, RawEvent, Split, SplitError, body_limit, parse, split};
use record::{Reason, Stage};
use serde::Serialize;

use crate::args::Parse;
use crate::request::Captured;
use crate::{Outcome, Unusable, input, text};

/// Prints the events of a body and what would be given up on, a JSON line each.
pub(crate) fn run(how: &Parse) -> anyhow::Result<Outcome> {
    let body = body(how)?;
    let received_at = how.received_at.unwrap_or_else(Timestamp::now);
    let mut lines = Lines {
        how,
        received_at: ReceivedAt(received_at.as_microsecond()),
        out: BufWriter::new(io::stdout().lock()),
        events: 0,
        dead_letters: 0,
        written: Ok(()),
    };
    let said = lines.body(&body);
    lines.written.and_then(|()| lines.out.flush())?;
    let (events, dead_letters) = (lines.events, lines.dead_letters);
    let counts = format!("{}, {}", count(events, "event"), count(dead_letters, "dead letter"));
    let mut said = [counts].into_iter().chain(said).collect::<Vec<_>>().join("; ");
    if body.len() > body_limit(how.provider) {
        let limit = body_limit(how.provider);
        said += &format!("; the ingress takes bodies of at most {limit} bytes");
    }
    // Nobody is left to tell if standard error is gone too.
    let _ = writeln!(io::stderr(), "{}", text::line(said.as_bytes()));
    Ok(if dead_letters == 0 { Outcome::Done } else { Outcome::Incomplete })
}

/// The body, out of its request where the file is one.
fn body(how: &Parse) -> Result<Vec<u8>, Unusable> {
    let bytes = input::read(&how.body)?;
    let is_named_so = how.body.extension().is_some_and(|extension| extension == "http");
    if !is_named_so && !bytes.starts_with(b"POST /") && !bytes.starts_with(b"POST http") {
        return Ok(bytes);
    }
    let captured = Captured::read(&bytes)
        .map_err(|error| Unusable(format!("{} is no HTTP request: {error}", how.body.display())))?;
    Ok(captured.body)
}

/// Why a body that was split has no events.
fn nothing_in_it(what: &Split) -> Option<String> {
    match what {
        Split::Events(_) => None,
        Split::Ping => Some("a sign of life".to_owned()),
        Split::ConfirmSubscription { topic, .. } => {
            Some(format!("SNS asks whether {topic} may post; the ingress would confirm it"))
        }
        Split::Unsubscribed { topic } => Some(format!("SNS will send nothing more of {topic}")),
    }
}

struct Lines<'a, W: Write> {
    how: &'a Parse,
    received_at: ReceivedAt,
    out: W,
    events: usize,
    dead_letters: usize,
    /// The first failure to write; there are no lines after it.
    written: io::Result<()>,
}

/// What would go to `mail.dead-letters`. The names are stable.
#[derive(Serialize)]
struct DeadLetter<'a> {
    /// Who would give up on it.
    stage: &'static str,
    /// A [`Reason`]'s code.
    reason: &'static str,
    detail: String,
    provider: Provider,
    source: &'a str,
    /// The recipient; empty where none is known.
    key: &'a str,
    bytes: usize,
    /// Bytes that are not UTF-8 are replaced by U+FFFD.
    value: std::borrow::Cow<'a, str>,
}

#[derive(Serialize)]
struct DeadLine<'a> {
    dead_letter: DeadLetter<'a>,
}

impl<W: Write> Lines<'_, W> {
    /// The lines of a body, and what there is to say beside them. Nothing was handed over where a
    /// body cannot be split, so it may be tried again as a piece of one.
    fn body(&mut self, body: &[u8]) -> Option<String> {
        let provider = self.how.provider;
        let error = match split(provider, body, &mut |raw| self.event(raw)) {
            Ok(what) => return nothing_in_it(&what),
            Err(error) => error,
        };
        if let Some(whole) = wrap::wrapped(provider, body)
            && split(provider, &whole, &mut |raw| self.event(raw)).is_ok()
        {
            return Some("taken as a piece of a body, without its envelope".to_owned());
        }
        self.dead(Stage::Ingress, reason_of_body(&error), error.to_string(), "", body);
        None
    }

    fn event(&mut self, raw: RawEvent<'_>) {
        let envelope = Envelope {
            source: &self.how.source,
            recipient: raw.recipient,
            received_at: self.received_at,
            request_id: &self.how.request_id,
        };
        match parse(self.how.provider, raw.raw, &envelope) {
            Ok(event) => {
                self.events += 1;
                self.write(&event);
            }
            Err(error) => {
                let reason = reason_of_event(&error);
                self.dead(Stage::Enrich, reason, error.to_string(), raw.recipient, raw.raw);
            }
        }
    }

    fn dead(&mut self, stage: Stage, reason: Reason, detail: String, key: &str, value: &[u8]) {
        self.dead_letters += 1;
        let how = self.how;
        let dead_letter = DeadLetter {
            stage: stage.code(),
            reason: reason.code(),
            detail,
            provider: how.provider,
            source: &how.source,
            key,
            bytes: value.len(),
            value: String::from_utf8_lossy(value),
        };
        self.write(&DeadLine { dead_letter });
    }

    fn write(&mut self, line: &impl Serialize) {
        if self.written.is_ok() {
            self.written = serde_json::to_writer(&mut self.out, line)
                .map_err(io::Error::from)
                .and_then(|()| self.out.write_all(b"\n"));
        }
    }
}

/// As the ingress says it.
const fn reason_of_body(error: &SplitError) -> Reason {
    match error {
        SplitError::NotUtf8 => Reason::NotUtf8,
        SplitError::NotJson { .. } => Reason::NotJson,
        SplitError::NotForm(_) => Reason::NotForm,
        SplitError::WrongShape(_) => Reason::WrongShape,
    }
}

/// As `enrich` says it.
const fn reason_of_event(error: &ParseError) -> Reason {
    match error {
        ParseError::NotUtf8 => Reason::NotUtf8,
        ParseError::NotJson { .. } => Reason::NotJson,
        ParseError::WrongShape(_) => Reason::WrongShape,
        ParseError::MissingTime => Reason::MissingTime,
        ParseError::UnreadableTime => Reason::UnreadableTime,
        ParseError::TimeOutOfRange => Reason::TimeOutOfRange,
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
