//! `mailpulse tail`: follows `mail.events`.

mod filter;
mod line;

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use kafka::tail::{Next, Start, Tail};

use crate::args;
use crate::installation::{Installation, note};
use crate::interrupt::Interrupt;
use crate::{InputError, Outcome};
use filter::Filter;
use line::{Format, Position, TailedEvent};

/// How long to wait for a record before what was written is flushed.
const POLL: Duration = Duration::from_millis(100);

/// Prints each event that passes the filters, until Ctrl-C. Nothing is kept: what the reader of the output does not
/// take stays in Kafka.
///
/// # Errors
/// If the settings are invalid, or Kafka cannot be read.
pub(crate) fn run(config: Option<&Path>, args: &args::Tail) -> anyhow::Result<Outcome> {
    let installation = Installation::open(config)?;
    let filter = Filter::new(args, installation.pseudonymizer()?.as_ref())?;
    let start = match args.since {
        _ if args.from_beginning => Start::Beginning,
        Some(since) => Start::At(since.as_millisecond()),
        None => Start::At(crate::now().as_millisecond()),
    };
    let format = Format { json: args.json, addresses: args.addresses };
    let interrupt = Interrupt::listen()?;
    let mut tail =
        Tail::open(&installation.connection, "tail", &installation.topics.events, start)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let (mut printed, mut is_away) = (0, false);
    while !interrupt.is_requested() {
        match tail.next(POLL)? {
            Next::Record(record) => {
                is_away = false;
                let Some(value) = record.value.as_deref().filter(|value| !value.is_empty()) else {
                    continue; // a time record
                };
                // Everybody but one stage has read it before.
                if record.redriven_for().is_some() {
                    continue;
                }
                let Ok(event) = serde_json::from_slice::<TailedEvent<'_>>(value) else {
                    note(&format!("{} is no event; it is left out", record.origin()))?;
                    continue;
                };
                if !filter.matches(&event) {
                    continue;
                }
                let at = Position { partition: record.partition, offset: record.offset.0 };
                format.write(&mut out, &event, value, at)?;
                printed += 1;
                if args.count == Some(printed) {
                    break;
                }
            }
            Next::Nothing => {
                out.flush()?;
                if args.no_follow && tail.has_caught_up() {
                    break;
                }
            }
            Next::Away(reason) => {
                out.flush()?;
                if !std::mem::replace(&mut is_away, true) {
                    note(&format!("Kafka does not answer ({reason}); waiting until it is back"))?;
                }
            }
        }
    }
    out.flush()?;
    Ok(Outcome::Done)
}

impl Filter {
    fn new(
        args: &args::Tail,
        pseudonymizer: Option<&privacy::Pseudonymizer>,
    ) -> Result<Self, InputError> {
        let recipient = args.recipient.as_deref();
        if let Some(address) = recipient.filter(|address| !address.contains('@')) {
            return Err(InputError(format!("`{address}` is not an address; write name@domain")));
        }
        Ok(Self::of(&args.sources, &args.kinds, recipient, pseudonymizer))
    }
}
