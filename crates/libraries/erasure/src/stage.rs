//! What a stage publishes about erased recipients: a pseudonym in place of the address, and no raw event.
//!
//! Event ids, digests and partitions are computed from the original address. So an event that was published before
//! its recipient was erased is a duplicate when it is replayed.
//!
//! The tombstones that a batch knows may be others in its next attempt. Nothing of the first attempt is visible
//! then, and the ids are the same.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::{Kept, Outcome, Output, OwnedRecord, Record};
use privacy::Eraser;
use record::Reason;
use service::{Health, Shutdown};

use crate::Erased;

/// How long a batch waits until all tombstones are known. A stage that waited without limit would stop the rates
/// and alerts of everybody. `archive`, which is behind all stages, does wait.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// The erased recipients, as one batch of a stage knows them.
#[derive(Debug)]
pub struct StageErasure {
    erased: Arc<Erased>,
    eraser: Eraser,
    health: Health,
    shutdown: Shutdown,
}

impl StageErasure {
    /// Knows the recipients that `erased` knows now.
    pub fn new(erased: impl Into<Arc<Erased>>, health: &Health, shutdown: &Shutdown) -> Self {
        let erased = erased.into();
        let eraser = erased.eraser();
        Self { erased, eraser, health: health.clone(), shutdown: shutdown.clone() }
    }

    /// Takes over the tombstones that have come since the last batch. While they cannot be read, it waits, and the
    /// service is not ready; the next batch makes it ready again.
    pub fn refresh(&mut self) {
        let until = Instant::now() + PATIENCE;
        while !self.erased.is_current() && Instant::now() < until && !self.shutdown.requested() {
            self.health.hold(crate::NOT_CURRENT);
            self.health.mark_alive();
            std::thread::sleep(PAUSE);
        }
        if !self.update() {
            tracing::warn!(
                "mail.erased cannot be read; recipients that were erased just now may be published, and archive removes them"
            );
        }
    }

    /// Like [`Self::refresh`], without waiting. Returns whether all tombstones are known.
    pub fn update(&mut self) -> bool {
        let is_current = self.erased.is_current();
        self.eraser = self.erased.eraser();
        is_current
    }

    /// Returns what removes erased recipients from events.
    pub const fn eraser(&self) -> &Eraser {
        &self.eraser
    }

    /// Returns the key of what is published for a record: the recipient's address or pseudonym.
    pub fn key<'k>(&self, key: &'k [u8]) -> Cow<'k, [u8]> {
        key_of(&self.eraser, key)
    }

    /// Returns the key and the value under which a canonical event is passed on. `erased` is its header
    /// [`record::names::ERASED`]. The event is not parsed if nobody is erased, or if `enrich` has removed the same
    /// recipients.
    pub fn event<'r>(&self, record: &Record<'r>, erased: Option<&[u8]>) -> Kept<'r> {
        let fingerprint = self.eraser.fingerprint();
        if fingerprint.is_none_or(|fingerprint| erased == Some(&fingerprint[..])) {
            return Kept::all(record);
        }
        let key = self.key(record.key());
        let erase = |value: &'r [u8]| match self.eraser.erase_event(value) {
            Ok(value) => value,
            // Later stages cannot read the event either, and make a dead letter of it.
            Err(_) if matches!(key, Cow::Owned(_)) => Cow::Borrowed(&b"{}"[..]),
            Err(_) => self.eraser.erase_body(value),
        };
        let value = record.value().map(erase);
        Kept { key, value }
    }

    /// Returns what a dead letter keeps of a record. The key tells whether the recipient is erased, because the value
    /// may be unreadable.
    pub fn kept<'r>(&self, record: &Record<'r>) -> Kept<'r> {
        kept(&self.eraser, record.key(), record.value())
    }

    /// Sends a record to the dead letters without what it says about erased recipients.
    ///
    /// # Errors
    /// As [`Output::send`].
    pub fn dead_letter(
        &self,
        record: &Record<'_>,
        reason: Reason,
        detail: &str,
        out: &mut Output<'_>,
    ) -> Result<Outcome, kafka::Error> {
        let detail = self.eraser.erase_body(detail.as_bytes());
        let detail = String::from_utf8_lossy(&detail);
        out.dead_letter_with(record, &self.kept(record), reason, &detail)
    }
}

/// Returns a copied record as a dead letter may keep it.
pub fn erase_record(eraser: &Eraser, record: OwnedRecord) -> OwnedRecord {
    let Kept { key, value } = kept(eraser, &record.key, record.value.as_deref());
    let (key, value) = (key.into_owned(), value.map(Cow::into_owned));
    OwnedRecord { key, value, ..record }
}

fn key_of<'k>(eraser: &Eraser, key: &'k [u8]) -> Cow<'k, [u8]> {
    let address = std::str::from_utf8(key).unwrap_or_default();
    let pseudonym = eraser.pseudonym(address);
    pseudonym.map_or(Cow::Borrowed(key), |pseudonym| Cow::Owned(pseudonym.into_bytes()))
}

fn kept<'r>(eraser: &Eraser, key: &'r [u8], value: Option<&'r [u8]>) -> Kept<'r> {
    let key = key_of(eraser, key);
    let is_erased = matches!(key, Cow::Owned(_));
    let value = value.filter(|_| !is_erased).map(|value| eraser.erase_body(value));
    Kept { key, value }
}
