//! `mailpulse send`: posts a signed test event to a running ingress, and follows it until it is a row in ClickHouse.

mod readers;
mod stored;

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use event::{Kind, recipient_key};
use kafka::OwnedRecord;
use record::names;
use serde::{Deserialize, Serialize};

use crate::args::Send;
use crate::configured::ConfiguredSource;
use crate::installation::{Installation, note};
use crate::post::{Answer, Client, Poster, RECIPIENT, TestEvent, local_ingress};
use crate::{InputError, Outcome, text};
use readers::Readers;

/// The longest mailbox address (RFC 5321).
const MAX_ADDRESS: usize = 320;

/// A line of the output. The names of the steps and fields are stable.
#[derive(Debug, Serialize)]
struct Step {
    step: &'static str,
    /// Seconds from the beginning of the request until the tool saw it.
    seconds: f64,
    text: String,
}

/// What stopped the event.
#[derive(Debug)]
struct Stopped {
    step: &'static str,
    text: String,
}

/// Posts a test event and follows it.
///
/// # Errors
/// If the arguments or the settings are invalid, or Kafka cannot be read.
pub(crate) fn run(config: Option<&Path>, args: &Send) -> anyhow::Result<Outcome> {
    let installation = Installation::open(config)?;
    let source = ConfiguredSource::find(&installation.settings, &args.source)?;
    let poster = Poster::new(source, &args.with)?;
    let recipient = recipient(args)?;
    let base = match &args.to.url {
        Some(url) => url.clone(),
        None => local_ingress(&installation.settings)?,
    };
    let client = Client::new(&base, &poster.source().path())?;
    let now = crate::now();
    let test = TestEvent {
        source: poster.source(),
        kind: args.kind,
        recipient: &recipient,
        at: now.as_microsecond(),
        number: uuid::Uuid::new_v4().as_u128(),
    };
    let request = poster.request(&test.mail_event(), now.as_second())?;
    if suppresses(args.kind) && recipient != RECIPIENT {
        note(&format!(
            "note: suppress treats this {} like a real one, so {recipient} may be suppressed",
            args.kind
        ))?;
    }

    let mut readers = Readers::open(&installation, args.kind, now)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let journey = Journey { begin: Instant::now(), wait: args.wait, json: args.json };
    let answer = match runtime.block_on(client.post(request)) {
        Ok(answer) => answer,
        Err(reason) => {
            let text =
                format!("no answer of {}: {reason}; give the ingress with --url", client.url());
            return journey.stop(&Stopped { step: "unanswered", text });
        }
    };
    if let Err(stopped) = journey.answered(&answer, &client)? {
        return journey.stop(&stopped);
    }
    match journey.follow(&answer.request_id, &mut readers, &installation)? {
        Ok(()) => Ok(Outcome::Done),
        Err(stopped) => journey.stop(&stopped),
    }
}

/// The beginning of a request, and how its steps are printed.
struct Journey {
    begin: Instant,
    wait: Duration,
    json: bool,
}

impl Journey {
    fn answered(&self, answer: &Answer, client: &Client) -> io::Result<Result<(), Stopped>> {
        let status = answer.status.as_u16();
        if !answer.status.is_success() {
            let text = if answer.code.is_empty() {
                format!("{status} without a code; is {} an ingress?", client.url())
            } else {
                format!("{status} {}: {}", answer.code, answer.detail)
            };
            return Ok(Err(Stopped { step: "refused", text }));
        }
        if answer.request_id.is_empty() {
            let text = format!("{status} without a request id; is {} an ingress?", client.url());
            return Ok(Err(Stopped { step: "refused", text }));
        }
        self.step(
            "answered",
            format!("{status}, request {}, {}", answer.request_id, client.url()),
        )?;
        Ok(Ok(()))
    }

    /// Waits for each record in turn, and for the row.
    fn follow(
        &self,
        request_id: &str,
        readers: &mut Readers,
        installation: &Installation,
    ) -> anyhow::Result<Result<(), Stopped>> {
        let until = self.begin + self.wait;
        let is_of_request =
            |record: &OwnedRecord| record.header(names::REQUEST_ID) == Some(request_id.as_bytes());
        let raw = match readers.raw(until, is_of_request)? {
            Ok(raw) => raw,
            Err(stopped) => return Ok(Err(stopped)),
        };
        self.step("raw", place(&raw, ""))?;
        let is_event = |record: &OwnedRecord| {
            record.key == raw.key
                && CanonicalEvent::of(record).is_some_and(|it| it.request_id == request_id)
        };
        let record = match readers.event(until, is_of_request, is_event)? {
            Ok(record) => record,
            Err(stopped) => return Ok(Err(stopped)),
        };
        let Some(event) = CanonicalEvent::of(&record) else { return Ok(Ok(())) };
        self.step("events", place(&record, &format!(", event {}", event.event_id)))?;
        match stored::wait(installation, &event, until)? {
            Ok(text) => self.step("row", text)?,
            Err(stopped) => return Ok(Err(stopped)),
        }
        Ok(Ok(()))
    }

    fn stop(&self, stopped: &Stopped) -> anyhow::Result<Outcome> {
        self.step(stopped.step, stopped.text.clone())?;
        Ok(Outcome::Incomplete)
    }

    fn step(&self, step: &'static str, text: String) -> io::Result<()> {
        let line = Step { step, seconds: self.begin.elapsed().as_secs_f64(), text };
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, &line)?;
            return writeln!(out);
        }
        let text = text::escape_line(line.text.as_bytes());
        writeln!(out, "{:<12} {:>7.3} s  {text}", line.step, line.seconds)
    }
}

/// What is needed of a record of `mail.events`.
#[derive(Debug, Deserialize)]
struct CanonicalEvent {
    event_id: String,
    request_id: String,
    kind: Kind,
    source: String,
    /// UTC microseconds.
    occurred_at: i64,
}

impl CanonicalEvent {
    fn of(record: &OwnedRecord) -> Option<Self> {
        serde_json::from_slice(record.value.as_deref()?).ok()
    }
}

fn place(record: &OwnedRecord, more: &str) -> String {
    format!("{}/{} at offset {}{more}", record.topic, record.partition, record.offset.0)
}

/// Returns the recipient in the form that events have.
fn recipient(args: &Send) -> Result<String, InputError> {
    let address = &args.recipient;
    let is_address = address.rsplit_once('@').is_some_and(|(name, domain)| {
        !name.is_empty() && !domain.is_empty() && !address.contains(char::is_whitespace)
    });
    if !is_address || address.len() > MAX_ADDRESS {
        return Err(InputError(format!("`{address}` is not an address; write name@domain")));
    }
    Ok(recipient_key(address).into_owned())
}

/// Returns whether an event of this kind can suppress its recipient.
const fn suppresses(kind: Kind) -> bool {
    matches!(kind, Kind::Bounced | Kind::Dropped | Kind::Complained | Kind::Unsubscribed)
}
