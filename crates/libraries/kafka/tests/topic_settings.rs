//! A topic whose settings break a promise is refused, with the command that repairs it, or repaired.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;

use common::connection;
use harness::{Cluster, DEADLINE, eventually, layout};
use kafka::{Error, TopicSettings};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigSource, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use record::Layout;

const SETTINGS: TopicSettings =
    TopicSettings { recipient_partitions: 1, scope_partitions: 1, replication: 1, create: false };

/// Creates all topics, one of them with another value of a setting, and returns what `prepare` says.
fn prepare_with(topic: &str, setting: &'static str, value: &str) -> Result<(), Error> {
    let cluster = Cluster::without_topics("settings", layout(1, 1));
    let mut specs = cluster.topics.specs(cluster.layout);
    let spec = specs.iter_mut().find(|spec| spec.name == cluster.name(topic)).unwrap();
    spec.settings.retain(|(name, _)| *name != setting);
    spec.settings.push((setting, value.to_owned()));
    cluster.create(&specs);
    SETTINGS.prepare(&connection(&cluster), &cluster.topics, 72)
}

#[test]
fn topics_as_they_are_created_are_accepted() {
    let cluster = Cluster::without_topics("settings", layout(1, 1));
    let create = TopicSettings { create: true, ..SETTINGS };
    create.prepare(&connection(&cluster), &cluster.topics, 72).unwrap();
    create.prepare(&connection(&cluster), &cluster.topics, 72).unwrap();
}

#[test]
fn a_setting_that_breaks_a_promise_is_refused() {
    for (topic, setting, value, wanted) in [
        ("mail.changelog.dedupe", "retention.bytes", "1000000", "-1"),
        ("mail.changelog.monitor", "cleanup.policy", "delete", "compact"),
        ("mail.events", "cleanup.policy", "compact", "delete"),
        ("mail.enriched", "max.message.bytes", "1048588", "20971520"),
    ] {
        let error = prepare_with(topic, setting, value).unwrap_err();
        assert_eq!(error.code(), "topic_setting");
        assert!(error.is_transient(), "the ingress waits");
        let text = error.to_string();
        for part in
            [topic, &format!("{setting}={value}"), &format!("--add-config {setting}={wanted}")]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[test]
fn a_longer_retention_is_accepted() {
    prepare_with("mail.changelog.dedupe", "retention.ms", "-1").unwrap();
    prepare_with("mail.events", "retention.ms", "1000").unwrap();
}

/// Returns the settings of a topic that somebody has set.
fn settings_of(cluster: &Cluster, topic: &str) -> BTreeMap<String, String> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &cluster.bootstrap);
    for (name, value) in cluster.properties() {
        config.set(name, value);
    }
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let topic = [ResourceSpecifier::Topic(topic)];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut described =
        runtime.block_on(admin.describe_configs(&topic, &AdminOptions::new())).unwrap();
    let entries = described.remove(0).unwrap().entries.into_iter();
    let own = entries.filter(|entry| entry.source == ConfigSource::DynamicTopic);
    own.map(|entry| (entry.name, entry.value.unwrap())).collect()
}

#[test]
fn the_retention_of_dedupes_changelog_is_raised_and_nothing_else_changes() {
    let layout = Layout { dedupe_horizon_hours: 72, ..layout(1, 1) };
    let cluster = Cluster::new("settings", layout);
    let connection = connection(&cluster);
    let topic = cluster.name("mail.changelog.dedupe");
    let mut before = settings_of(&cluster, &topic);
    assert_eq!(before["retention.ms"], (96 * 3_600_000).to_string());
    assert!(before.len() > 2, "{before:?}");
    SETTINGS.prepare(&connection, &cluster.topics, 96).unwrap();
    assert_eq!(settings_of(&cluster, &topic), before, "long enough");
    before.insert("retention.ms".to_owned(), (10 * 24 * 3_600_000).to_string());
    for _ in 0..2 {
        SETTINGS.prepare(&connection, &cluster.topics, 9 * 24).unwrap();
        // A broker learns of the change from the controller.
        eventually("the retention to be raised", DEADLINE, || {
            let now = settings_of(&cluster, &topic);
            if now == before { Ok(()) } else { Err(format!("{now:?}")) }
        });
    }
}
