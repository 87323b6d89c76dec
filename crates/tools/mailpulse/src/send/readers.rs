//! Readers of the topics through which a test event passes. They are opened at the ends of the topics before it is
//! posted.

use std::time::{Duration, Instant};

use event::Kind;
use jiff::Timestamp;
use kafka::OwnedRecord;
use kafka::tail::{Next, Start, Tail};
use record::names;

use super::Stopped;
use crate::installation::Installation;

/// How long the end of a topic may take to be found.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait for a record before the next topic is looked at.
const POLL: Duration = Duration::from_millis(10);

pub(super) struct Readers {
    raw: Tail,
    events: Tail,
    dead_letters: Tail,
    raw_topic: String,
    events_topic: String,
}

impl Readers {
    /// Returns when every record that is written from now on will be read.
    ///
    /// # Errors
    /// If a topic is missing or Kafka cannot be reached.
    pub(super) fn open(
        installation: &Installation,
        kind: Kind,
        now: Timestamp,
    ) -> anyhow::Result<Self> {
        let topics = &installation.topics;
        let open = |topic: &str| -> anyhow::Result<Tail> {
            let start = Start::At(now.as_millisecond());
            let mut tail = Tail::open(&installation.connection, "send", topic, start)?;
            let until = Instant::now() + OPEN_TIMEOUT;
            while !tail.has_caught_up() {
                anyhow::ensure!(
                    Instant::now() < until,
                    "the end of {topic} was not found within {} s; check the brokers with `mailpulse doctor`",
                    OPEN_TIMEOUT.as_secs()
                );
                tail.next(POLL)?;
            }
            Ok(tail)
        };
        let raw_topic = topics.raw(kind).to_owned();
        Ok(Self {
            raw: open(&raw_topic)?,
            events: open(&topics.events)?,
            dead_letters: open(&topics.dead_letters)?,
            raw_topic,
            events_topic: topics.events.clone(),
        })
    }

    /// Waits for the raw event, which the ingress has written before its answer.
    pub(super) fn raw(
        &mut self,
        until: Instant,
        is_wanted: impl Fn(&OwnedRecord) -> bool,
    ) -> anyhow::Result<Result<OwnedRecord, Stopped>> {
        let found = search(&mut self.raw, &mut self.dead_letters, until, &is_wanted, &is_wanted)?;
        Ok(found.map_err(|missing| {
            missing.unwrap_or_else(|| Stopped {
                step: "missing",
                text: format!(
                    "the event is not in {}: if Kafka was away, it is in the spool of the ingress (`mailpulse spool \
                     ls`); else check that kafka.bootstrap and kafka.prefix are those of the ingress",
                    self.raw_topic
                ),
            })
        }))
    }

    /// Waits for the canonical event.
    pub(super) fn event(
        &mut self,
        until: Instant,
        is_dead_letter: impl Fn(&OwnedRecord) -> bool,
        is_wanted: impl Fn(&OwnedRecord) -> bool,
    ) -> anyhow::Result<Result<OwnedRecord, Stopped>> {
        let found =
            search(&mut self.events, &mut self.dead_letters, until, &is_wanted, &is_dead_letter)?;
        Ok(found.map_err(|missing| {
            missing.unwrap_or_else(|| Stopped {
                step: "missing",
                text: format!(
                    "the event is not in {}: see that enrich and dedupe run and have no lag (`mailpulse top`), or wait \
                     longer with --wait",
                    self.events_topic
                ),
            })
        }))
    }
}

/// Reads a topic until a record is wanted. The error is the dead letter that was found instead, if there is one.
fn search(
    topic: &mut Tail,
    dead_letters: &mut Tail,
    until: Instant,
    is_wanted: &dyn Fn(&OwnedRecord) -> bool,
    is_dead_letter: &dyn Fn(&OwnedRecord) -> bool,
) -> anyhow::Result<Result<OwnedRecord, Option<Stopped>>> {
    loop {
        if let Some(record) = find(topic, until, is_wanted)? {
            return Ok(Ok(record));
        }
        if let Some(record) = find(dead_letters, until, is_dead_letter)? {
            return Ok(Err(Some(dead_letter(&record))));
        }
        if Instant::now() >= until {
            return Ok(Err(None));
        }
    }
}

/// Reads what is there.
fn find(
    tail: &mut Tail,
    until: Instant,
    is_wanted: &dyn Fn(&OwnedRecord) -> bool,
) -> Result<Option<OwnedRecord>, kafka::Error> {
    while let Next::Record(record) = tail.next(POLL)? {
        if is_wanted(&record) {
            return Ok(Some(record));
        }
        if Instant::now() >= until {
            break;
        }
    }
    Ok(None)
}

fn dead_letter(record: &OwnedRecord) -> Stopped {
    let header =
        |name| String::from_utf8_lossy(record.header(name).unwrap_or_default()).into_owned();
    let text = format!(
        "{} gave up on the event: {}, {}; see `mailpulse dead-letters show {}/{}`",
        header(names::STAGE),
        header(names::REASON),
        header(names::DETAIL),
        record.partition,
        record.offset.0
    );
    Stopped { step: "dead_letter", text }
}
