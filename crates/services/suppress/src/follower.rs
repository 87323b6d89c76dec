//! Reads `mail.suppressions` into the store, on a thread of its own.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kafka::changes::{Changes, Polled};
use kafka::{Cluster, Record};
use service::Service;
use suppression::EntryKey;

use crate::store::{Store, Written};

const POLL_TIMEOUT: Duration = Duration::from_millis(50);
/// How often Kafka is asked whether it is there, and how long the answer may take.
const CHECK_PERIOD: Duration = Duration::from_secs(5);
const QUESTION_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the number of entries is exported.
const EXPORT_PERIOD: Duration = Duration::from_secs(5);

/// Reads the whole topic, and goes on in the background until the service shuts down. Returns when everything that was
/// written before is in the store.
///
/// # Errors
/// If the topic is missing or Kafka rejects the client. If that happens later, the service ends.
pub fn start(
    store: &Arc<Store>,
    cluster: &Cluster,
    service: &Service,
) -> anyhow::Result<JoinHandle<()>> {
    let topic = &cluster.topics.suppressions;
    let mut changes = Changes::open(&cluster.connection, "suppress-follower", topic)?;
    let started = Instant::now();
    while !changes.has_caught_up() && !service.shutdown.requested() {
        service.health.mark_alive();
        if let Polled::Away(error) = poll(&mut changes, store)? {
            tracing::warn!(error, "mail.suppressions cannot be read yet; retrying");
        }
    }
    let (entries, seconds) = (store.table.len(), started.elapsed().as_secs_f64());
    tracing::info!(entries, seconds, "all entries are in memory");
    let (store, shutdown) = (Arc::clone(store), service.shutdown.clone());
    let follow = move || {
        let now = Instant::now();
        let mut following =
            Following { changes, is_away: false, current: now, checked: now, exported: None };
        while !shutdown.requested() {
            if let Err(error) = following.step(&store) {
                tracing::error!(%error, "mail.suppressions is no longer followed; the service ends");
                shutdown.request();
            }
        }
    };
    Ok(std::thread::Builder::new().name("follower".to_owned()).spawn(follow)?)
}

struct Following {
    changes: Changes,
    is_away: bool,
    /// When Kafka answered last.
    current: Instant,
    /// When it was last asked. That no record comes does not mean that there is none.
    checked: Instant,
    exported: Option<Instant>,
}

impl Following {
    fn step(&mut self, store: &Store) -> Result<(), kafka::Error> {
        if let Some(offsets) = store.rewind(self.changes.next_offsets()) {
            self.changes.seek(&offsets)?;
        }
        match poll(&mut self.changes, store)? {
            Polled::Record => self.answered(),
            Polled::Nothing => {}
            Polled::Away(error) if self.is_away => tracing::debug!(error, "Kafka is still away"),
            Polled::Away(error) => {
                self.is_away = true;
                tracing::warn!(
                    error,
                    "mail.suppressions cannot be read; lookups answer by what is known"
                );
            }
        }
        if self.checked.elapsed() >= CHECK_PERIOD {
            self.checked = Instant::now();
            if self.changes.answers(QUESTION_TIMEOUT) {
                self.answered();
            }
        }
        self.export(store);
        Ok(())
    }

    fn answered(&mut self) {
        self.is_away = false;
        self.current = Instant::now();
    }

    fn export(&mut self, store: &Store) {
        if self.exported.is_some_and(|at| at.elapsed() < EXPORT_PERIOD) {
            return;
        }
        self.exported = Some(Instant::now());
        let age = self.current.elapsed().as_secs_f64();
        metrics::gauge!("mailpulse_suppress_follow_age_seconds").set(age);
        metrics::gauge!("mailpulse_suppress_entries").set(store.table.len() as f64);
        metrics::gauge!("mailpulse_suppress_provisional_entries").set(store.waiting() as f64);
    }
}

fn poll(changes: &mut Changes, store: &Store) -> Result<Polled, kafka::Error> {
    changes.poll(POLL_TIMEOUT, &mut |record| apply(record, store))
}

fn apply(record: &Record<'_>, store: &Store) {
    let (partition, offset) = (record.partition(), record.offset().0);
    match read(record.key(), record.value()) {
        Some((key, written)) => store.follow(partition, offset, &key, written),
        None => {
            tracing::warn!(
                partition,
                offset,
                "a record of mail.suppressions cannot be read and is ignored"
            );
            store.skip(partition, offset);
        }
    }
}

/// Reads a record of `mail.suppressions`.
pub fn read<'r>(key: &'r [u8], value: Option<&[u8]>) -> Option<(EntryKey<'r>, Option<Written>)> {
    let key = EntryKey::parse(std::str::from_utf8(key).ok()?).ok()?;
    match value {
        None => Some((key, None)),
        Some(value) => Some((key, Some(Written::read(value)?))),
    }
}
