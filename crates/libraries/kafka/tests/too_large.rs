//! A record whose output Kafka does not accept becomes a dead letter, and all others pass.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{
    Behaviour, Running, await_output, cluster, incompressible, ledger, numbers, put, settled_values,
};
use harness::{Cluster, Outgoing};
use kafka::Error;
use record::TopicSpec;

/// Creates topics of which `limited` accepts batches of at most `bytes`.
fn cluster_with_limit(limited: &str, bytes: usize) -> Cluster {
    let names = ["in", "out", "log", "dead"];
    let plain: Vec<_> = names.into_iter().filter(|name| *name != limited).map(|n| (n, 1)).collect();
    let cluster = cluster(&plain);
    cluster.create(&[TopicSpec {
        name: cluster.name(limited),
        partitions: 1,
        replication: 1,
        settings: vec![("max.message.bytes", bytes.to_string())],
    }]);
    cluster
}

fn headers_of(record: &harness::Record) -> Vec<(&str, &str)> {
    let text = |value| std::str::from_utf8(value).unwrap();
    record.headers.iter().map(|(name, value)| (name.as_str(), text(value))).collect()
}

/// Numbers 150 and 250 grow; batches have 100 records.
fn grow_two(number: usize) -> Option<usize> {
    [150, 250].contains(&number).then_some(100 << 10)
}

fn assert_two_dead_letters(cluster: &Cluster) {
    let dead = cluster.read_settled(&cluster.name("dead"));
    assert_eq!(dead.iter().map(harness::Record::text).collect::<Vec<_>>(), ["150", "250"]);
    for letter in &dead {
        let headers = headers_of(letter);
        let origin = format!("{}/0/{}", cluster.name("in"), letter.text());
        assert!(headers.contains(&("reason", "too_large")), "{headers:?}");
        assert!(headers.contains(&("origin", &origin)), "{headers:?}");
    }
    let all: Vec<_> =
        numbers(0..300).into_iter().filter(|n| !["150", "250"].contains(&&**n)).collect();
    assert_eq!(settled_values(cluster, "out"), all, "the others pass, each once");
    assert_eq!(ledger(cluster), "300,298,0,2,0");
}

#[test]
fn an_output_above_the_setting_makes_its_record_a_dead_letter() {
    let cluster = cluster(&[("in", 1), ("out", 1), ("log", 1), ("dead", 1)]);
    put(&cluster, &cluster.producer(), "in", 0..300);
    let behaviour =
        Behaviour { grows_to: grow_two, max_message_bytes: 64 << 10, ..Behaviour::default() };
    let running = Running::start_with(&cluster, behaviour);
    await_output(&cluster, 298);
    running.stop().unwrap();
    assert_two_dead_letters(&cluster);
}

#[test]
fn the_dead_letter_of_a_record_keeps_what_the_stage_allows() {
    let cluster = cluster(&[("in", 1), ("out", 1), ("log", 1), ("dead", 1)]);
    put(&cluster, &cluster.producer(), "in", 0..300);
    let behaviour = Behaviour {
        grows_to: grow_two,
        keeps_nothing: true,
        max_message_bytes: 64 << 10,
        ..Behaviour::default()
    };
    let running = Running::start_with(&cluster, behaviour);
    await_output(&cluster, 298);
    running.stop().unwrap();
    let dead = cluster.read_settled(&cluster.name("dead"));
    let kept: Vec<_> = dead.iter().map(|it| (&*it.key, it.value.as_deref())).collect();
    assert_eq!(kept, [(&b"nobody"[..], None); 2]);
}

#[test]
fn an_output_above_the_limit_of_the_topic_makes_its_record_a_dead_letter() {
    // The producer does not know of this limit; the broker rejects the whole batch of outputs.
    let cluster = cluster_with_limit("out", 20_000);
    put(&cluster, &cluster.producer(), "in", 0..300);
    let running =
        Running::start_with(&cluster, Behaviour { grows_to: grow_two, ..Behaviour::default() });
    await_output(&cluster, 298);
    running.stop().unwrap();
    assert_two_dead_letters(&cluster);
}

#[test]
fn a_dead_letter_above_the_limit_of_its_topic_is_cut() {
    let cluster = cluster_with_limit("dead", 20_000);
    let value = incompressible(100 << 10);
    let large = Outgoing::new(&cluster.name("in"), "k", &value).on(0).header("source", "acme");
    cluster.produce(&[large]);
    put(&cluster, &cluster.producer(), "in", 1..10);
    let running = Running::start_with(&cluster, Behaviour::default());
    await_output(&cluster, 9);
    running.stop().unwrap();
    let dead = cluster.read_settled(&cluster.name("dead"));
    let [letter] = &dead[..] else { panic!("{} dead letters", dead.len()) };
    let headers = headers_of(letter);
    let origin = format!("{}/0/0", cluster.name("in"));
    for expected in [
        ("source", "acme"),
        ("reason", "too_large"),
        ("origin", origin.as_str()),
        ("truncated", "102400"),
    ] {
        assert!(headers.contains(&expected), "{headers:?}");
    }
    let kept = letter.value.as_deref().unwrap();
    assert!(!kept.is_empty() && value.starts_with(kept), "the value is cut");
}

#[test]
fn a_changelog_record_above_the_limit_ends_the_stage_with_its_topic() {
    let cluster = cluster_with_limit("log", 200);
    put(&cluster, &cluster.producer(), "in", 0..300);
    let error = Running::start(&cluster, Vec::new()).result().unwrap_err();
    assert!(matches!(error, Error::OutputRejected { .. }), "{error}");
    assert!(error.to_string().contains(&cluster.name("log")), "{error}");
}
