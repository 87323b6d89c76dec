//! `mailpulse parse`: converts a body to canonical events, with the code of the services.

mod envelope;
mod output;
mod pipeline;
mod raw_events;

use std::io::{self, Write};
use std::path::Path;

use event::{Provider, ReceivedAt};
use providers::profile;

use crate::args::Parse;
use crate::request::CapturedRequest;
use crate::{InputError, Outcome, input, text};
use output::EventLines;
use pipeline::Pipeline;
use raw_events::BodyEvents;

/// What the ingress knows about a request besides its body.
#[derive(Debug, Clone, Copy)]
struct RequestContext<'a> {
    provider: Provider,
    source: &'a str,
    received_at: ReceivedAt,
    request_id: &'a str,
}

/// Prints a JSON line for each event and each dead letter.
pub(crate) fn run(config: Option<&Path>, args: &Parse) -> anyhow::Result<Outcome> {
    let mut pipeline = Pipeline::open(config)?;
    let context = RequestContext {
        provider: args.provider,
        source: &args.source,
        received_at: ReceivedAt(args.received_at.unwrap_or_else(crate::now).as_microsecond()),
        request_id: &args.request_id,
    };
    let received = read_body(args)?;
    let body = if args.published { received.into() } else { pipeline.pseudonymize(&received) };
    let mut lines = EventLines::new(context, io::stdout().lock());
    let note = match pipeline.split(context, &body) {
        Ok(BodyEvents { events, note }) => {
            pipeline.enrich(&events, &mut lines)?;
            note
        }
        Err(error) => {
            lines.unsplittable_body(&error, &body)?;
            None
        }
    };
    let (events, dead_letters) = lines.finish()?;
    print_summary(args, body.len(), events, dead_letters, note);
    Ok(if dead_letters == 0 { Outcome::Done } else { Outcome::Incomplete })
}

/// Reads the body. If the file is a captured request, extracts it.
fn read_body(args: &Parse) -> Result<Vec<u8>, InputError> {
    let bytes = input::read(&args.body)?;
    let has_http_extension = args.body.extension().is_some_and(|extension| extension == "http");
    if !has_http_extension && !bytes.starts_with(b"POST /") && !bytes.starts_with(b"POST http") {
        return Ok(bytes);
    }
    let captured = CapturedRequest::read(&bytes).map_err(|error| {
        InputError(format!("{} is not an HTTP request: {error}", args.body.display()))
    })?;
    Ok(captured.body)
}

fn print_summary(
    args: &Parse,
    bytes: usize,
    events: usize,
    dead_letters: usize,
    note: Option<String>,
) {
    let counts = format!("{}, {}", count(events, "event"), count(dead_letters, "dead letter"));
    let mut summary = [counts].into_iter().chain(note).collect::<Vec<_>>().join("; ");
    let limit = profile(args.provider).body_limit;
    if bytes > limit {
        summary += &format!("; the ingress accepts bodies of at most {limit} bytes");
    }
    // An error of standard error cannot be reported.
    let _ = writeln!(io::stderr(), "{}", text::escape_line(summary.as_bytes()));
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
