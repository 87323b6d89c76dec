//! The recipients that were erased: the tombstones of `mail.erased`, as services follow them and the operator's
//! tool writes them.
//!
//! The key of a tombstone is the [`Digest`] of the address in hexadecimal, and its value a [`Tombstone`]. The topic
//! has one partition and is compacted, so it contains every recipient that was ever erased.

mod stage;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kafka::follow::Follower;
use kafka::{Cluster, Connection};
use privacy::{Digest, ErasedSet, Eraser, ErasureKey};
use record::Topics;
use serde::{Deserialize, Serialize};
use service::Settings;

pub use stage::{StageErasure, erase_record};

/// Why a service is not ready while its knowledge of the tombstones is older than [`MAX_AGE`].
pub const NOT_CURRENT: &str = "mail.erased cannot be read, so it is not known who was erased";

/// How old the knowledge of tombstones may be when a row is made; see [`Erased::is_current`]. `mailpulse erase` waits
/// longer than this. Records that come afterwards are stored without the recipient.
pub const MAX_AGE: Duration = Duration::from_secs(10);

/// The value of a tombstone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// [`ErasureKey::id`] of the key that made the digest.
    pub key_id: String,
    /// When the recipient was erased, UTC microseconds.
    pub at: i64,
}

/// Why the tombstones cannot be honoured.
#[derive(Debug, thiserror::Error)]
pub enum TombstoneError {
    /// There are tombstones, and no key.
    #[error(
        "{topic} has recipients that were erased, and privacy.erasure_key is not set; set it to the key with which they \
         were erased"
    )]
    KeyMissing { topic: String },
    /// The tombstones were made with another key.
    #[error(
        "{topic} has recipients that were erased with another key ({found}, not {configured}); set privacy.erasure_key \
         to that key"
    )]
    OtherKey { topic: String, found: String, configured: String },
}

/// The recipients that were erased, as a thread of their own learns of them.
#[derive(Debug)]
pub struct Erased {
    follower: Follower,
    key: Option<ErasureKey>,
    known: Arc<Mutex<Arc<ErasedSet>>>,
}

impl Erased {
    /// Reads all tombstones, and follows the topic from then on.
    ///
    /// # Errors
    /// [`kafka::Error::State`] with a [`TombstoneError`] if there are tombstones that the configured key did not make,
    /// and the errors of [`Follower::start`].
    pub fn follow(
        cluster: &Cluster,
        component: &'static str,
        key: Option<ErasureKey>,
    ) -> Result<Self, kafka::Error> {
        let known = Arc::new(Mutex::new(Arc::default()));
        let apply = {
            let (known, key_id) = (Arc::clone(&known), key.as_ref().map(ErasureKey::id));
            let topic = cluster.topics.erased.clone();
            move |key: &[u8], value: Option<&[u8]>| {
                apply(&known, &topic, key_id.as_deref(), key, value)
            }
        };
        let topic = &cluster.topics.erased;
        let follower = Follower::start(&cluster.connection, component, topic, apply)?;
        Ok(Self { follower, key, known })
    }

    /// Returns whether every tombstone that is older than [`MAX_AGE`] is known.
    pub fn is_current(&self) -> bool {
        let age = self.follower.age();
        metrics::gauge!("mailpulse_erasure_age_seconds").set(age.as_secs_f64());
        age < MAX_AGE
    }

    /// Returns what removes the recipients that are known now. It stays the same while the caller uses it.
    pub fn eraser(&self) -> Eraser {
        let known = Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner));
        match &self.key {
            Some(key) => Eraser::new(key.clone(), known),
            None => Eraser::default(),
        }
    }
}

/// Adds one tombstone.
fn apply(
    known: &Mutex<Arc<ErasedSet>>,
    topic: &str,
    key_id: Option<&str>,
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<(), kafka::Error> {
    let Some((digest, tombstone)) = tombstone(key, value) else {
        tracing::warn!(topic, "a record is no tombstone of a recipient and is ignored");
        return Ok(());
    };
    let Some(configured) = key_id else {
        return Err(kafka::Error::state(TombstoneError::KeyMissing { topic: topic.to_owned() }));
    };
    if tombstone.key_id != configured {
        return Err(other_key(topic, tombstone.key_id, configured));
    }
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::make_mut(&mut known).insert(digest);
    metrics::gauge!("mailpulse_erasure_recipients").set(known.len() as f64);
    Ok(())
}

fn tombstone(key: &[u8], value: Option<&[u8]>) -> Option<(Digest, Tombstone)> {
    let digest = std::str::from_utf8(key).ok()?.parse().ok()?;
    Some((digest, serde_json::from_slice(value?).ok()?))
}

fn other_key(topic: &str, found: String, configured: &str) -> kafka::Error {
    let (topic, configured) = (topic.to_owned(), configured.to_owned());
    kafka::Error::state(TombstoneError::OtherKey { topic, found, configured })
}

/// Returns the digests of all tombstones, for the operator's tool.
///
/// # Errors
/// [`kafka::Error::State`] with a [`TombstoneError`] if a tombstone was made with another key than this one: services
/// would refuse to start if both were in the topic. Otherwise as [`kafka::inspect::for_each_committed`].
pub fn all(
    connection: &Connection,
    topics: &Topics,
    key: &ErasureKey,
    deadline: Duration,
) -> Result<HashSet<Digest>, kafka::Error> {
    let (key_id, mut digests, mut other) = (key.id(), HashSet::new(), None);
    kafka::inspect::for_each_committed(connection, &topics.erased, deadline, |record| {
        match tombstone(record.key(), record.value()) {
            Some((_, found)) if found.key_id != key_id => other = Some(found.key_id),
            found => digests.extend(found.map(|(digest, _)| digest)),
        }
    })?;
    match other {
        None => Ok(digests),
        Some(found) => Err(other_key(&topics.erased, found, &key_id)),
    }
}

/// Reads the key with which recipients are erased.
///
/// # Errors
/// If the section `[privacy]` is invalid or the key is too short.
pub fn key(settings: &Settings) -> Result<Option<ErasureKey>, service::SettingsError> {
    ErasureKey::from_settings(settings)
}
