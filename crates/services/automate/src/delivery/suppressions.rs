//! Who must not be mailed: `mail.suppressions`, which `suppress` writes, in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use automation::Facts;
use jiff::Timestamp;
use kafka::changes::{Changes, Polled};
use kafka::{Cluster, Record};
use privacy::{ErasureKey, Pseudonymizer};
use serde::Deserialize;
use service::{Service, Settings, SettingsError};
use suppression::entry::EntryFacts;
use suppression::list::ListBasis;
use suppression::standing::{Question, stopping};
use suppression::table::Table;
use suppression::{EntryKey, Purpose, RecipientKey};

const POLL_TIMEOUT: Duration = Duration::from_millis(50);

/// The only key of `[suppress]` that matters here.
#[derive(Deserialize)]
struct Lists {
    lists: ListBasis,
}

/// Knows who must not be mailed.
pub(crate) struct Suppressions {
    table: Table,
    key: RecipientKey,
    basis: ListBasis,
    /// Whether everything that was written is in the table.
    is_current: AtomicBool,
}

impl Suppressions {
    /// Reads the keys.
    ///
    /// # Errors
    /// If `privacy.erasure_key` is not set: entries name recipients by it.
    pub(crate) fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let key = ErasureKey::from_settings(settings)?.ok_or_else(|| {
            let problem = "must be set, because a rule sends mail, and mail.suppressions names those who must not be \
                           mailed by this key; use the same one for all services";
            settings.invalid("privacy.erasure_key", problem)
        })?;
        let Lists { lists } = settings.section("suppress")?;
        let pseudonymizer = Pseudonymizer::from_settings(settings)?;
        if pseudonymizer.is_some() {
            let problem = "events have no addresses, so no rule can send mail; remove the key or the actions `email`";
            return Err(settings.invalid("privacy.pseudonym_key", problem));
        }
        Ok(Self {
            table: Table::default(),
            key: RecipientKey::new(key, None),
            basis: lists,
            is_current: AtomicBool::new(false),
        })
    }

    /// Reads the whole topic, and goes on in the background until the service shuts down.
    ///
    /// # Errors
    /// If the topic is missing or Kafka rejects the client.
    pub(crate) fn follow(
        self: &Arc<Self>,
        cluster: &Cluster,
        service: &Service,
    ) -> anyhow::Result<()> {
        let topic = &cluster.topics.suppressions;
        let mut changes = Changes::open(&cluster.connection, "automate-suppressions", topic)?;
        while !changes.has_caught_up() && !service.shutdown.requested() {
            service.health.mark_alive();
            if let Polled::Away(error) = self.poll(&mut changes)? {
                tracing::warn!(error, "mail.suppressions cannot be read yet; retrying");
            }
        }
        self.is_current.store(true, Ordering::Relaxed);
        tracing::info!(entries = self.table.len(), "mail.suppressions is in memory");
        let (own, shutdown) = (Arc::clone(self), service.shutdown.clone());
        let follow = move || {
            while !shutdown.requested() {
                match own.poll(&mut changes) {
                    Ok(Polled::Record | Polled::Nothing) => {
                        own.is_current.store(changes.has_caught_up(), Ordering::Relaxed);
                    }
                    Ok(Polled::Away(error)) => {
                        tracing::warn!(error, "mail.suppressions cannot be read; mails wait");
                        own.is_current.store(false, Ordering::Relaxed);
                        while !changes.answers(Duration::from_secs(1)) && !shutdown.requested() {}
                        // Mails wait until what was written meanwhile is known.
                        if let Err(error) = changes.catch_up_again() {
                            tracing::error!(%error, "mail.suppressions cannot be read; the service ends");
                            shutdown.request();
                        }
                    }
                    Err(error) => {
                        tracing::error!(%error, "mail.suppressions is no longer followed; the service ends");
                        shutdown.request();
                    }
                }
            }
        };
        std::thread::Builder::new().name("suppressions".to_owned()).spawn(follow)?;
        Ok(())
    }

    fn poll(&self, changes: &mut Changes) -> Result<Polled, kafka::Error> {
        changes.poll(POLL_TIMEOUT, &mut |record| self.apply(record))
    }

    fn apply(&self, record: &Record<'_>) {
        let key = std::str::from_utf8(record.key()).ok().and_then(|key| EntryKey::parse(key).ok());
        let facts = record.value().map(serde_json::from_slice::<EntryFacts>).transpose();
        match (key, facts) {
            (Some(key), Ok(facts)) => drop(self.table.apply(&key, facts)),
            _ => tracing::warn!(
                origin = %record.origin(),
                "a record of mail.suppressions cannot be read and is ignored"
            ),
        }
    }

    /// Returns whether the recipient may get a mail because of the event. `None` if that is not known for now.
    pub(crate) fn allow(&self, event: &Facts, now: Timestamp) -> Option<bool> {
        if !self.is_current.load(Ordering::Relaxed) {
            return None;
        }
        let Some(digest) = self.key.of_address(&event.recipient) else { return Some(false) };
        let list = self.basis.list(event.provider, &event.source, event.tenant.as_deref());
        let question = Question {
            list: Some(&list),
            purpose: Purpose::Marketing,
            scope: None,
            now: now.as_second(),
        };
        Some(stopping(&self.table.of(digest), &question).is_empty())
    }
}
