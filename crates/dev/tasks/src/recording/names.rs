//! Compares what must not change between releases: consumer groups, transactional ids, the metadata of
//! offsets, record headers, and the keys and values of changelogs.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;

use super::expected::{Cluster, Committed, RecordNames};
use crate::chaos::{Balance, Errors};

const PART: &str = "names and formats";

/// Groups that releases after a recording have added, without their prefix. Their transactional ids begin with
/// the same name, and end with that of the instance.
const ADDED: &[&str] = &[
    "mailpulse-monitor-incidents",
    "mailpulse-suppress",
    "mailpulse-automate-match",
    "mailpulse-automate-limit",
    "mailpulse-automate-deliver",
];
/// Headers that releases after a recording have added.
const ADDED_HEADERS: &[&str] = &[
    "time-fault",
    "unjudged",
    "unauthentic",
    "received-at",
    "for-dedupe",
    "tally",
    "late",
    "corrections",
    "time",
    "time-id",
    "time-end",
    "content-type",
];
/// Forms of metadata that were added since the recordings, by the end of the group's name.
const ADDED_FORMS: &[(&str, &str)] = &[("monitor-fold", "# #@#,#,#,#,#")];

/// Fields and first bytes of values that were added since the recordings: the end of the topic's name,
/// the kind of key, and the field. Without a field, the kind of key is new.
const ADDED_VALUES: &[(&str, &str, Option<&str>)] = &[
    ("changelog.dedupe", "", Some("0x03")),
    ("changelog.monitor", "baseline", None),
    ("changelog.monitor", "campaign", None),
    ("changelog.monitor", "cohort", None),
    ("changelog.monitor", "day", None),
    ("changelog.monitor", "deliveries", None),
    ("changelog.monitor", "engagement", None),
    ("changelog.monitor", "history", None),
    ("changelog.monitor", "mark", Some("as_of")),
    ("changelog.monitor", "part", None),
    ("changelog.monitor", "waiting", None),
];

type Offsets = BTreeMap<String, Committed>;

/// Compares Kafka before the services were started with Kafka after everything is processed.
pub(crate) fn compare(
    balance: &mut Balance,
    before: &Cluster,
    after: &Cluster,
) -> anyhow::Result<()> {
    groups(balance, before, after);
    transactional_ids(balance, before, after);
    for (group, before) in &before.groups {
        let after = after.groups.get(group).cloned().unwrap_or_default();
        ledgers(balance, group, before, &after)?;
    }
    record_names(balance, before, after);
    Ok(())
}

/// Every group must have continued, and its metadata must have the recorded forms.
fn groups(balance: &mut Balance, before: &Cluster, after: &Cluster) {
    let sum = |offsets: &Offsets| offsets.values().map(|it| it.offset).sum::<i64>();
    let (mut continued, mut stopped, mut other_forms) = (0, Errors::default(), Errors::default());
    for (group, recorded) in &before.groups {
        let Some(committed) = after.groups.get(group).filter(|it| sum(it) > sum(recorded)) else {
            stopped.add(|| group.clone());
            continue;
        };
        continued += 1;
        let forms: BTreeSet<_> = recorded.values().map(|it| form(&it.metadata)).collect();
        let is_added = |form: &str| {
            ADDED_FORMS.iter().any(|&(stage, added)| group.ends_with(stage) && added == form)
        };
        let is_known = |metadata: &str| {
            let form = form(metadata);
            forms.contains(&form) || is_added(&form)
        };
        for (partition, it) in committed.iter().filter(|(_, it)| !is_known(&it.metadata)) {
            other_forms.add(|| format!("{group} {partition}: {:?}, not {forms:?}", it.metadata));
        }
    }
    balance.line(PART, "groups that have continued", continued, before.groups.len() as u64);
    balance.none(PART, "groups that have not continued", &stopped);
    balance.none(PART, "offsets with metadata of another form", &other_forms);
    let added = added(before.groups.keys(), after.groups.keys());
    balance.none(PART, "groups that the recording does not have", &added);
}

/// Every transactional id must have been registered again, and its transactions must have ended.
fn transactional_ids(balance: &mut Balance, before: &Cluster, after: &Cluster) {
    let mut used = 0;
    let mut unused = Errors::default();
    for id in before.transactions.keys() {
        let has_ended = after.transactions.get(id).is_some_and(|it| it.starts_with("Complete"));
        if has_ended && before.producers.get(id) != after.producers.get(id) {
            used += 1;
        } else {
            let state = after.transactions.get(id);
            unused.add(|| format!("{id}: {state:?}, {:?}", after.producers.get(id)));
        }
    }
    let all = before.transactions.len() as u64;
    balance.line(PART, "transactional ids that were used again", used, all);
    balance.none(PART, "transactional ids that were not used again", &unused);
    let added = added(before.transactions.keys(), after.transactions.keys());
    balance.none(PART, "transactional ids that the recording does not have", &added);
}

fn added<'n>(
    before: impl Iterator<Item = &'n String>,
    after: impl Iterator<Item = &'n String>,
) -> Errors {
    let before: BTreeSet<_> = before.collect();
    let mut errors = Errors::default();
    for name in after.filter(|name| !before.contains(name)) {
        if !ADDED.iter().any(|added| is_of_group(name, added)) {
            errors.add(|| name.clone());
        }
    }
    errors
}

/// Returns whether `name` is the group, or one of its transactional ids.
fn is_of_group(name: &str, group: &str) -> bool {
    let behind = name.split_once(group).map(|(_, behind)| behind);
    behind.is_some_and(|behind| behind.is_empty() || behind.starts_with('-'))
}

/// Returns a text with every number replaced by `#`.
fn form(text: &str) -> String {
    let mut form = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if form.ends_with('#') => {}
            '0'..='9' => form.push('#'),
            other => form.push(other),
        }
    }
    form
}

/// The ledgers of a group must continue at the recorded counts. They are `read`, `passed`, `dropped`,
/// dead letters and `redriven`. Releases before `counted` existed counted these records as dropped.
fn ledgers(
    balance: &mut Balance,
    group: &str,
    before: &Offsets,
    after: &Offsets,
) -> anyhow::Result<()> {
    let (before, after) = (total(before)?, total(after)?);
    let mut smaller = Errors::default();
    if before.iter().zip(after).any(|(before, after)| after < *before) {
        smaller.add(|| format!("{group}: {before:?}, then {after:?}"));
    }
    balance.none(PART, &format!("smaller counts of {group}"), &smaller);
    let [read, passed, dropped, dead_letters, _] =
        std::array::from_fn(|index| after[index].saturating_sub(before[index]));
    // Both stages of monitor count records. In a recording all events are in time.
    let counted = if group.contains("monitor") { read } else { 0 };
    let found = read.saturating_sub(passed + dropped + dead_letters);
    balance.line(PART, &format!("records counted by {group}"), found, counted);
    Ok(())
}

/// Returns the sums of the ledgers in the metadata of offsets; zeros if there are none.
fn total(offsets: &Offsets) -> anyhow::Result<[u64; 5]> {
    let mut sums = [0; 5];
    for Committed { metadata, .. } in offsets.values() {
        let Some((_, ledger)) = metadata.rsplit_once('@') else { continue };
        let counts = ledger.split(',').map(str::parse).collect::<Result<Vec<u64>, _>>();
        let counts = counts.with_context(|| format!("{metadata:?} has no ledger"))?;
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    Ok(sums)
}

/// Records written after the upgrade must have the names of those before it.
fn record_names(balance: &mut Balance, before: &Cluster, after: &Cluster) {
    let mut errors = Errors::default();
    for (topic, before) in &before.records {
        let mut after = after.records.get(topic).cloned().unwrap_or_default();
        let is_expected = |name: &String| {
            before.headers.contains(name) || !ADDED_HEADERS.contains(&name.as_str())
        };
        after.headers.retain(is_expected);
        after.values.retain(|key, _| !is_added_value(topic, key, None));
        for (key, fields) in &mut after.values {
            let recorded = before.values.get(key);
            fields.retain(|field| {
                recorded.is_some_and(|recorded| recorded.contains(field))
                    || !is_added_value(topic, key, Some(field))
            });
        }
        let has_records = !before.headers.is_empty() || !before.values.is_empty();
        if has_records && *before != after {
            errors.add(|| difference(topic, before, &after));
        }
    }
    let topics = before.records.values().filter(|it| **it != RecordNames::default()).count() as u64;
    let same = topics.saturating_sub(errors.count);
    balance.line(PART, "topics with the recorded headers and keys", same, topics);
    balance.none(PART, "topics with other headers, keys or fields", &errors);
}

fn is_added_value(topic: &str, key: &str, field: Option<&str>) -> bool {
    let mut added = ADDED_VALUES.iter();
    added.any(|&(end, kind, name)| topic.ends_with(end) && kind == key && name == field)
}

fn difference(topic: &str, before: &RecordNames, after: &RecordNames) -> String {
    let headers: Vec<_> = before.headers.symmetric_difference(&after.headers).collect();
    let keys = before.values.keys().chain(after.values.keys());
    let values: BTreeSet<_> = keys
        .filter(|key| before.values.get(*key) != after.values.get(*key))
        .map(|key| format!("{key}: {:?}, then {:?}", before.values.get(key), after.values.get(key)))
        .collect();
    format!("{topic}: headers {headers:?}, values {values:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(metadata: &str) -> Offsets {
        [("t/0".to_owned(), Committed { offset: 1, metadata: metadata.to_owned() })].into()
    }

    #[test]
    fn another_name_is_detected() {
        let before = ["eu1.mailpulse-enrich".to_owned()];
        let added = |name: &str| added(before.iter(), [name.to_owned()].iter()).count;
        for known in [
            "eu1.mailpulse-enrich",
            "eu1.mailpulse-monitor-incidents",
            "eu1.mailpulse-monitor-incidents-monitor-1",
        ] {
            assert_eq!(added(known), 0, "{known}");
        }
        assert_eq!(added("eu1.mailpulse-monitor-incidents2"), 1);
        assert_eq!(added("eu1.mailpulse-enrich-2"), 1);
    }

    #[test]
    fn forms_replace_numbers() {
        assert_eq!(form("13-17@12,12,0,0,0"), "#-#@#,#,#,#,#");
        assert_eq!(form(""), "");
    }

    #[test]
    fn a_ledger_that_starts_again_is_detected() {
        let compare = |before: &str, after: &str| {
            let mut balance = Balance::default();
            ledgers(&mut balance, "eu1.mailpulse-monitor-fold", &offsets(before), &offsets(after))
                .unwrap();
            balance.is_balanced()
        };
        assert!(compare("5@9,0,9,0,0", "6@12,0,9,0,0"));
        assert!(!compare("5@9,0,9,0,0", "6@3,0,0,0,0"), "the counts start again");
        assert!(!compare("5@9,0,9,0,0", "6@12,0,12,0,0"), "dropped instead of counted");
    }

    #[test]
    fn another_header_is_detected() {
        let names = |header: &str| Cluster {
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            transactions: BTreeMap::new(),
            producers: BTreeMap::new(),
            records: [(
                "t".to_owned(),
                RecordNames { headers: [header.to_owned()].into(), ..RecordNames::default() },
            )]
            .into(),
        };
        let compare = |before, after| {
            let mut balance = Balance::default();
            record_names(&mut balance, &names(before), &names(after));
            balance.is_balanced()
        };
        assert!(compare("first", "first"));
        assert!(!compare("first", "first-seen"));
        assert!(compare("received-at", "received-at"), "some topics had it before");
    }
}
