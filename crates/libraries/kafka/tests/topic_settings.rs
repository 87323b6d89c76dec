//! A topic whose settings break a promise is refused, with the command that repairs it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::connection;
use harness::{Cluster, layout};
use kafka::{Error, TopicSettings};

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
        ("mail.changelog.dedupe", "retention.ms", "259199999", "259200000"),
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
