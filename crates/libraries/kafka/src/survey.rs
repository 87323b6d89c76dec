//! Examines the brokers and the topics of an installation, for the operator's tool. It changes nothing.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::metadata::{Metadata, MetadataTopic};
use record::TopicSpec;

use crate::obstacle::MetadataClient;
use crate::{Connection, Error};

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The state of a cluster.
#[derive(Debug)]
pub struct Survey {
    /// `host:port` of every broker, as the brokers advertise it. Clients connect to these addresses.
    pub brokers: Vec<String>,
    /// The number of topics that were examined.
    pub topics: usize,
    /// What differs from what the services need, topic by topic.
    pub findings: Vec<Finding>,
}

/// A difference between a topic and what the services need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The stable code.
    pub code: &'static str,
    /// What is wrong, and the fix.
    pub text: String,
}

/// Asks the cluster for its brokers, and for the partitions and settings of topics.
///
/// # Errors
/// [`Error::Settings`], and [`Error::Connection`] if the cluster does not answer within 10 s.
pub fn survey(connection: &Connection, specs: &[TopicSpec]) -> Result<Survey, Error> {
    let client = MetadataClient::open(connection)?;
    let metadata = client.fetch(TIMEOUT)?;
    let brokers =
        metadata.brokers().iter().map(|it| format!("{}:{}", it.host(), it.port())).collect();
    let mut findings = Vec::new();
    let existing: Vec<(&TopicSpec, i32)> = specs
        .iter()
        .filter_map(|spec| Some((spec, check_partitions(spec, &metadata, &mut findings)?)))
        .collect();
    match settings(connection, &existing) {
        Ok(settings) => {
            for (spec, copies) in existing {
                if let Some(settings) = settings.get(&spec.name) {
                    check_settings(spec, copies, settings, &mut findings);
                }
            }
        }
        Err(error) => findings.push(Finding {
            code: "topic_settings_unreadable",
            text: format!(
                "the settings of the topics cannot be read: {error}; with ACLs, the principal needs \
                 DescribeConfigs on them"
            ),
        }),
    }
    Ok(Survey { brokers, topics: specs.len(), findings })
}

/// Returns the number of copies of a topic; `None` if it does not exist.
fn check_partitions(
    spec: &TopicSpec,
    metadata: &Metadata,
    findings: &mut Vec<Finding>,
) -> Option<i32> {
    let TopicSpec { name, partitions, replication, .. } = spec;
    let mut add = |code, text| findings.push(Finding { code, text });
    let found = metadata.topics().iter().find(|topic| topic.name() == name);
    let Some(topic) = found.filter(|topic| topic.error().is_none()) else {
        let text = format!(
            "topic {name} is missing; create it with {partitions} partitions, or set topics.create"
        );
        add("topic_missing", text);
        return None;
    };
    let count = topic.partitions().len();
    if i32::try_from(count) != Ok(*partitions) {
        let text = format!(
            "topic {name} has {count} partitions, but the settings say {partitions}; change [topics], \
             or recreate the topic"
        );
        add("topic_partitions", text);
    }
    let leaderless = topic.partitions().iter().filter(|it| it.leader() < 0).count();
    if leaderless > 0 {
        let text =
            format!("{leaderless} partitions of topic {name} have no leader; start the brokers");
        add("topic_without_leader", text);
    }
    let copies = fewest_copies(topic);
    if copies < *replication {
        let text = format!(
            "topic {name} has {copies} copies, but topics.replication is {replication}; add copies with \
             kafka-reassign-partitions, or lower topics.replication"
        );
        add("topic_replication", text);
    }
    Some(copies)
}

fn fewest_copies(topic: &MetadataTopic) -> i32 {
    let copies = topic.partitions().iter().map(|it| it.replicas().len()).min().unwrap_or(0);
    i32::try_from(copies).unwrap_or(i32::MAX)
}

/// Returns the settings of topics by their names.
fn settings(
    connection: &Connection,
    topics: &[(&TopicSpec, i32)],
) -> Result<HashMap<String, Settings>, Error> {
    if topics.is_empty() {
        return Ok(HashMap::new());
    }
    let admin: AdminClient<DefaultClientContext> =
        connection.client("admin").create().map_err(|error| Error::settings(&error))?;
    let names: Vec<_> =
        topics.iter().map(|(spec, _)| ResourceSpecifier::Topic(&spec.name)).collect();
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(Error::state)?;
    let answers = runtime.block_on(admin.describe_configs(&names, &options))?;
    let mut settings = HashMap::new();
    for answer in answers {
        let ConfigResource { specifier, entries } =
            answer.map_err(rdkafka::error::KafkaError::AdminOp)?;
        if let rdkafka::admin::OwnedResourceSpecifier::Topic(name) = specifier {
            let values = entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
            settings.insert(name, values.collect());
        }
    }
    Ok(settings)
}

type Settings = HashMap<String, String>;

/// Returns how long the topics keep records, by their names: `retention.ms`, if the broker tells it. A negative number
/// means for ever.
///
/// # Errors
/// [`Error::Settings`] and [`Error::Kafka`].
pub fn retentions(
    connection: &Connection,
    specs: &[TopicSpec],
) -> Result<HashMap<String, i64>, Error> {
    let topics: Vec<_> = specs.iter().map(|spec| (spec, spec.replication)).collect();
    let found = settings(connection, &topics)?;
    let retention = |(topic, settings): (String, Settings)| {
        Some((topic, settings.get("retention.ms")?.parse().ok()?))
    };
    Ok(found.into_iter().filter_map(retention).collect())
}

fn check_settings(spec: &TopicSpec, copies: i32, found: &Settings, findings: &mut Vec<Finding>) {
    let name = &spec.name;
    let number = |setting: &str| found.get(setting).and_then(|value| value.parse::<i64>().ok());
    for (setting, wanted) in &spec.settings {
        let is_good = match *setting {
            // More than the services need is the operator's choice; -1 means without limit.
            "retention.ms" | "max.message.bytes" => {
                match (number(setting), wanted.parse::<i64>()) {
                    (Some(found), Ok(wanted)) => found < 0 || found >= wanted,
                    _ => true,
                }
            }
            _ => found.get(*setting).is_none_or(|found| found == wanted),
        };
        if !is_good {
            let value = &found[*setting];
            let text = format!(
                "topic {name} has {setting}={value}, but the services need {wanted}; change it with \
                 kafka-configs"
            );
            findings.push(Finding { code: "topic_setting", text });
        }
    }
    let Some(min_insync) = number("min.insync.replicas") else { return };
    let wanted = i64::from((copies - 1).max(1));
    if min_insync > i64::from(copies) {
        let text = format!(
            "topic {name} has min.insync.replicas={min_insync} and only {copies} copies, so nothing can \
             be written to it; set it to {wanted}"
        );
        findings.push(Finding { code: "topic_min_insync", text });
    } else if min_insync < wanted {
        let text = format!(
            "topic {name} has {copies} copies and min.insync.replicas={min_insync}, so an acknowledged \
             record can be lost with one broker; set it to {wanted}"
        );
        findings.push(Finding { code: "topic_min_insync", text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(copies: i32, found: &[(&str, &str)]) -> Vec<String> {
        let settings = vec![
            ("retention.ms", "1000".to_owned()),
            ("cleanup.policy", "delete".to_owned()),
            ("max.message.bytes", "500".to_owned()),
        ];
        let spec = TopicSpec { name: "t".into(), partitions: 1, replication: 1, settings };
        let found = found.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let mut findings = Vec::new();
        check_settings(&spec, copies, &found.collect(), &mut findings);
        findings.into_iter().map(|it| format!("{} {}", it.code, it.text)).collect()
    }

    #[test]
    fn only_settings_below_what_the_services_need_are_reported() {
        let enough = [
            ("retention.ms", "-1"),
            ("cleanup.policy", "delete"),
            ("max.message.bytes", "501"),
            ("min.insync.replicas", "2"),
        ];
        assert_eq!(codes(3, &enough), [""; 0]);
        let less = [
            ("retention.ms", "999"),
            ("cleanup.policy", "compact"),
            ("max.message.bytes", "499"),
            ("min.insync.replicas", "1"),
        ];
        let found = codes(3, &less);
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found[0].starts_with("topic_setting topic t has retention.ms=999"), "{found:?}");
        assert!(found[3].starts_with("topic_min_insync"), "{found:?}");
        assert!(codes(1, &[("min.insync.replicas", "2")])[0].contains("nothing can be written"));
        assert_eq!(codes(1, &[("min.insync.replicas", "1")]), [""; 0]);
    }
}
