//! `mailpulse parse`: what the pipeline makes of a body, by the code of the pipeline.

mod cut;
mod lines;
mod pipeline;
mod wrap;

use std::io::{self, Write};
use std::path::Path;

use event::{Provider, ReceivedAt};
use jiff::Timestamp;
use providers::body_limit;

use crate::args::Parse;
use crate::request::Captured;
use crate::{Outcome, Unusable, input, text};
use cut::{Cut, cut};
use lines::Lines;
use pipeline::Pipeline;

/// What the ingress knows of a request beside its body.
#[derive(Debug, Clone, Copy)]
struct Arrival<'a> {
    provider: Provider,
    source: &'a str,
    received_at: ReceivedAt,
    request_id: &'a str,
}

/// Prints the events of a body and what would be given up on, a JSON line each.
pub(crate) fn run(config: Option<&Path>, how: &Parse) -> anyhow::Result<Outcome> {
    let mut pipeline = Pipeline::open(config)?;
    let arrival = Arrival {
        provider: how.provider,
        source: &how.source,
        received_at: ReceivedAt(how.received_at.unwrap_or_else(Timestamp::now).as_microsecond()),
        request_id: &how.request_id,
    };
    let received = body(how)?;
    let body = if how.published { received.into() } else { pipeline.ingress(&received) };
    let mut lines = Lines::new(arrival, io::stdout().lock());
    let said = match cut(how.provider, &body) {
        Ok(Cut { events, said }) => {
            pipeline.enrich(&events, &mut lines)?;
            said
        }
        Err(error) => {
            lines.refused_body(&error, &body)?;
            None
        }
    };
    let (events, dead_letters) = lines.finish()?;
    tell(how, body.len(), events, dead_letters, said);
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

/// What there is to say beside the lines.
fn tell(how: &Parse, bytes: usize, events: usize, dead_letters: usize, said: Option<String>) {
    let counts = format!("{}, {}", count(events, "event"), count(dead_letters, "dead letter"));
    let mut said = [counts].into_iter().chain(said).collect::<Vec<_>>().join("; ");
    let limit = body_limit(how.provider);
    if bytes > limit {
        said += &format!("; the ingress takes bodies of at most {limit} bytes");
    }
    // Nobody is left to tell if standard error is gone too.
    let _ = writeln!(io::stderr(), "{}", text::line(said.as_bytes()));
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
