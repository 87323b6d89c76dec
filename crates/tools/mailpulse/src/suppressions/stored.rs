//! What `mail.suppressions` contains.

use std::collections::BTreeMap;
use std::time::Duration;

use suppression::EntryKey;
use suppression::entry::{EntryFacts, EntryValue};
use suppression::table::Table;

use crate::installation::Installation;

/// How long Kafka has for the whole topic.
const KAFKA_TIMEOUT: Duration = Duration::from_secs(600);

/// The records by key.
pub(super) type Records = BTreeMap<EntryKey<'static>, EntryValue>;

/// Reads the topic into a table, and returns it with the records that `is_wanted`. Only these take much memory.
pub(super) fn read(
    installation: &Installation,
    is_wanted: impl Fn(&EntryKey<'_>, &EntryValue) -> bool,
) -> anyhow::Result<(Table, Records)> {
    let (table, mut records) = (Table::default(), Records::new());
    let topic = &installation.topics.suppressions;
    kafka::inspect::for_each_committed(&installation.connection, topic, KAFKA_TIMEOUT, |record| {
        let key = std::str::from_utf8(record.key()).ok().and_then(|key| EntryKey::parse(key).ok());
        let Some(key) = key else { return };
        let value: Option<EntryValue> =
            record.value().and_then(|value| serde_json::from_slice(value).ok());
        // An older record counts only if the newer one is gone.
        let has_changed = table.apply(&key, value.as_ref().map(EntryFacts::from));
        if !has_changed && value.is_some() {
            return;
        }
        let key = key.into_owned();
        match value.filter(|value| is_wanted(&key, value)) {
            Some(value) => drop(records.insert(key, value)),
            None => drop(records.remove(&key)),
        }
    })?;
    Ok((table, records))
}
