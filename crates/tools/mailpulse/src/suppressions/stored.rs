//! What `mail.suppressions` contains.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alerting::IncidentId;
use serde::Deserialize;
use suppression::EntryKey;
use suppression::entry::{EntryFacts, EntryValue};
use suppression::table::Table;

use crate::InputError;
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

/// An incident and those that are part of it now.
pub(super) struct Merged {
    pub(super) ids: BTreeSet<String>,
    /// The incident that it is part of itself.
    pub(super) part_of: Option<String>,
}

/// Returns the incident whose id begins with `prefix`, with those that are part of it now.
///
/// # Errors
/// If `mail.incidents` has no such incident, or several.
pub(super) fn with_merged(installation: &Installation, prefix: &str) -> anyhow::Result<Merged> {
    /// The part of a record of an incident that matters here.
    #[derive(Deserialize)]
    struct Line {
        id: IncidentId,
        merged_into: Option<IncidentId>,
    }
    let mut incidents: BTreeMap<String, Option<String>> = BTreeMap::new();
    let topic = &installation.topics.incidents;
    kafka::inspect::for_each_committed(&installation.connection, topic, KAFKA_TIMEOUT, |record| {
        let line: Option<Line> = record.value().and_then(|it| serde_json::from_slice(it).ok());
        let Some(Line { id, merged_into }) = line else { return };
        // A record that was redriven is older than it looks, and no merge is taken back.
        let merged = incidents.entry(id.to_string()).or_default();
        *merged = merged_into.map(String::from).or(merged.take());
    })?;
    let mut found = incidents.keys().filter(|id| id.starts_with(prefix));
    let wanted = match (found.next(), found.next()) {
        (Some(id), None) => id.clone(),
        (Some(_), Some(_)) => {
            let text =
                format!("more than one incident begins with `{prefix}`; give more of its id");
            return Err(InputError(text).into());
        }
        // Its entries may be older than its records, which Kafka keeps for 90 days.
        (None, _) if IncidentId::try_from(prefix.to_owned()).is_ok() => prefix.to_owned(),
        (None, _) => {
            let text = format!(
                "no incident of {topic} has an id that begins with `{prefix}`; `mailpulse alerts ls` lists them"
            );
            return Err(InputError(text).into());
        }
    };
    let leads_to = |id: &&String| path(&incidents, id).any(|id| *id == wanted);
    let mut ids: BTreeSet<String> = incidents.keys().filter(leads_to).cloned().collect();
    let part_of = path(&incidents, &wanted).last().filter(|id| **id != wanted).cloned();
    ids.insert(wanted);
    Ok(Merged { ids, part_of })
}

/// Returns an incident, the one that it is part of, the one that this is part of, and so on.
fn path<'i>(
    incidents: &'i BTreeMap<String, Option<String>>,
    id: &'i String,
) -> impl Iterator<Item = &'i String> {
    // Each incident is part of one that was open later, so more steps than there are incidents are nonsense.
    std::iter::successors(Some(id), |id| incidents.get(*id)?.as_ref()).take(incidents.len() + 1)
}
