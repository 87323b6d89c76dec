//! `mailpulse backup` and `restore`, and the drill: a Kafka that is lost, and a ClickHouse that is restored from before an
//! erasure.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stored;

use std::os::unix::fs::PermissionsExt;

use archive::tables::{Coordinates, Events, Table};
use harness::{Cluster, Database, Outgoing};
use record::{content_types, names};
use stored::Setup;

const ERASED: &str = "quentina@example.com";
const SETTINGS: &str = "[privacy]\nerasure_key = \"a key of the tests alone\"\n";

fn setup(name: &str) -> Setup {
    let setup = Setup::with(name, Database::new(name), SETTINGS);
    // `erase` waits until ClickHouse has removed old parts, which takes eight minutes by default.
    for table in ["events", "message_life", "recipients", "links"] {
        setup.database.execute(&format!(
            "ALTER TABLE {table} MODIFY SETTING old_parts_lifetime = 1, cleanup_delay_period = 1, \
             cleanup_delay_period_random_add = 0, max_cleanup_delay_period = 1"
        ));
    }
    setup
}

/// `erase` waits until archive has stored every suppression, and there is no archive here.
fn commit_suppressions(setup: &Setup) {
    let topic = &setup.cluster.topics.suppressions;
    for (partition, end) in setup.cluster.end_offsets(topic).into_iter().enumerate() {
        let (partition, end) = (format!("{topic}/{partition}"), end.to_string());
        let accepted = setup.run(&["positions", "accept", "archive", &partition, "--offset", &end]);
        assert_eq!(accepted.code, 0, "{accepted:?}");
    }
}

/// Rows of two recipients, of whom one is erased later.
fn insert_events(setup: &Setup) {
    let mut rows = Events::default();
    for (offset, recipient) in (0..10).zip([ERASED, "bob@example.com"].into_iter().cycle()) {
        let value = format!(
            r#"{{"event_id":"{offset:032x}","kind":"clicked","provider":"ses","source":"news","recipient":"{recipient}","occurred_at":1760000400000000,"received_at":1760000401000000,"provider_event":"x","request_id":"r","raw":1}}"#
        );
        rows.push(Coordinates { partition: 0, offset }, value.as_bytes(), |_| None).unwrap();
    }
    setup.insert(Table::Events, &rows.finish());
}

fn suppression(cluster: &Cluster, key: &str, value: &str, partition: i32) -> Outgoing {
    let content_type = content_types::SUPPRESSION.as_bytes();
    Outgoing::new(&cluster.topics.suppressions, key, value)
        .on(partition)
        .header(names::CONTENT_TYPE, content_type)
}

type Headers = Vec<(String, Vec<u8>)>;

/// What a topic says at its end: the latest record of each key, with its partition, value and headers.
fn state(cluster: &Cluster, topic: &str) -> Vec<(i32, Vec<u8>, Vec<u8>, Headers)> {
    let mut state = std::collections::BTreeMap::new();
    for record in cluster.read(topic) {
        let key = (record.partition, record.key.clone());
        match &record.value {
            Some(value) => drop(state.insert(key, (value.clone(), record.headers.clone()))),
            None => drop(state.remove(&key)),
        }
    }
    let flat = state
        .into_iter()
        .map(|((partition, key), (value, headers))| (partition, key, value, headers));
    flat.collect()
}

#[test]
fn a_lost_kafka_and_a_restored_clickhouse_are_brought_together() {
    let lost = setup("backup_lost");
    insert_events(&lost);
    let erased = lost.run(&["erase", "--recipient", ERASED]);
    assert_eq!(erased.code, 0, "{erased:?}");
    let cluster = &lost.cluster;
    let segment = Outgoing::new(&cluster.topics.segments, "s/ada", "in")
        .on(1)
        .header(names::RECEIVED_AT, b"1760000400000000");
    cluster.produce(&[
        suppression(cluster, "ada", "first", 0),
        suppression(cluster, "bob", "lifted later", 1),
        suppression(cluster, "ada", "second", 0),
        Outgoing::tombstone(&cluster.topics.suppressions, "bob").on(1),
        segment,
    ]);
    let file = lost.home.path().join("backup.jsonl");
    let file = file.to_str().unwrap();
    let backup = lost.run(&["backup", file]);
    assert_eq!(backup.code, 0, "{backup:?}");
    let mode = std::fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the file can contain addresses");
    let again = lost.run(&["backup", file]);
    assert!(again.code != 0 && again.err.contains("cannot create"), "{again:?}");

    // Other topics, and rows from before the erasure.
    let new = setup("backup_new");
    insert_events(&new);
    let topics = &new.cluster.topics;
    new.cluster.produce(&[suppression(&new.cluster, "ada", "newer than the backup", 0)]);
    let preview = new.run(&["restore", file, "--dry-run"]);
    assert_eq!(preview.code, 0, "{preview:?}");
    assert!(new.cluster.read(&topics.erased).is_empty(), "nothing was written");
    let restored = new.run(&["restore", file]);
    assert_eq!(restored.code, 0, "{restored:?}");
    assert!(restored.err.contains("mail.segments: 1 records are restored, 0 have"), "{restored:?}");
    let named = |text: &str| restored.err.contains(text);
    assert!(named("mail.suppressions: 1 records are restored, 1 have a newer one"), "{restored:?}");
    assert_eq!(state(&new.cluster, &topics.erased), state(cluster, &cluster.topics.erased));
    assert_eq!(state(&new.cluster, &topics.segments), state(cluster, &cluster.topics.segments));
    let suppressions = state(&new.cluster, &topics.suppressions);
    assert_eq!(suppressions.len(), 1);
    assert_eq!(suppressions[0].2, b"newer than the backup");

    let count = format!("SELECT count() FROM events WHERE recipient = '{ERASED}'");
    assert_eq!(new.database.one::<u64>(&count), 5);
    commit_suppressions(&new);
    let reapplied = new.run(&["erase", "--reapply"]);
    assert_eq!(reapplied.code, 0, "{reapplied:?}");
    assert_eq!(new.database.one::<u64>(&count), 0);

    let before = [&topics.erased, &topics.suppressions, &topics.segments]
        .map(|topic| new.cluster.read(topic).len());
    let repeated = new.run(&["restore", file]);
    assert_eq!(repeated.code, 0, "{repeated:?}");
    let after = [&topics.erased, &topics.suppressions, &topics.segments]
        .map(|topic| new.cluster.read(topic).len());
    assert_eq!(after, before, "a second restore adds nothing");
}

#[test]
fn a_file_that_is_damaged_or_of_other_topics_is_refused_as_a_whole() {
    let setup = setup("backup_refused");
    let cluster = &setup.cluster;
    cluster.produce(&[suppression(cluster, "ada", "x", 0), suppression(cluster, "bob", "y", 1)]);
    let file = setup.home.path().join("backup.jsonl");
    let path = file.to_str().unwrap();
    assert_eq!(setup.run(&["backup", path]).code, 0);
    let good = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let joined = |lines: &[&str]| format!("{}\n", lines.join("\n"));
    let damaged = [
        (String::new(), "no backup of mailpulse"),
        (good.replacen("mailpulse-backup-1", "mailpulse-backup-9", 1), "of another release"),
        (joined(&lines[..lines.len() - 1]), "its end is missing"),
        (joined(&[&lines[..1], &lines[2..]].concat()), "records are missing"),
        (good.replacen("\"partition\":1", "\"partition\":7", 1), "does not name this topic"),
        (good.replacen("\"key\":\"", "\"key\":\"?", 1), "base64 is invalid"),
        (good.replacen("\"mail.suppressions\":2", "\"mail.suppressions\":3", 1), "2 partitions"),
        (good.replacen("\"mail.segments\":2", "\"mail.events\":2", 1), "not restored: mail.events"),
    ];
    let target = self::setup("backup_target");
    for (text, problem) in damaged {
        assert_ne!(text, good, "{problem}");
        std::fs::write(&file, text).unwrap();
        let refused = target.run(&["restore", path]);
        assert_eq!(refused.code, 2, "{problem}: {refused:?}");
        assert!(refused.err.contains(problem), "{problem}: {refused:?}");
    }
    assert!(target.cluster.read(&target.cluster.topics.suppressions).is_empty());
}
