//! Creates topics with explicit partitions and settings, and checks and repairs existing ones.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigEntry, ConfigSource, NewTopic,
    OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::metadata::{MetadataPartition, MetadataTopic};
use rdkafka::types::RDKafkaErrorCode;
use record::{RequiredSetting, TopicSpec};

use crate::obstacle::MetadataClient;
use crate::{Connection, Error, WrongTopicSetting};

/// How long one metadata or watermark request may take. This is shorter than for other requests,
/// because callers repeat these until their own deadline.
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause between two questions about the leaders of a topic.
const LEADER_POLL: Duration = Duration::from_millis(200);

/// Creates the missing topics and waits until every partition of all topics has a leader.
///
/// # Errors
/// [`Error::Partitions`] if a topic exists with another number of partitions, because a recipient
/// would have different partition numbers in different topics.
pub async fn create_topics(
    connection: &Connection,
    specs: &[TopicSpec],
    deadline: Duration,
) -> Result<(), Error> {
    // An answer to this request says more than that of the next one, if there is an obstacle.
    MetadataClient::open(connection)?.fetch(METADATA_TIMEOUT)?;
    let admin: AdminClient<DefaultClientContext> =
        connection.client("admin").create().map_err(|error| Error::settings(&error))?;
    let topics: Vec<NewTopic<'_>> = specs
        .iter()
        .map(|spec| {
            let replication = TopicReplication::Fixed(spec.replication);
            let topic = NewTopic::new(&spec.name, spec.partitions, replication);
            spec.settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
        })
        .collect();
    let options = AdminOptions::new()
        .operation_timeout(Some(METADATA_TIMEOUT))
        .request_timeout(Some(METADATA_TIMEOUT));
    for result in admin.create_topics(&topics, &options).await? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                return Err(Error::Topic {
                    topic,
                    problem: format!("could not be created: {code}"),
                });
            }
        }
    }
    await_topics(connection, specs, deadline)
}

/// Compares the settings of existing topics with those that they must have, and raises those that a
/// service may raise. A setting that the broker does not tell, because of its rights or its version, is
/// not checked.
///
/// # Errors
/// [`Error::TopicSetting`] for the first setting that breaks a promise.
pub async fn check_settings(
    connection: &Connection,
    required: &[RequiredSetting],
) -> Result<(), Error> {
    let admin: AdminClient<DefaultClientContext> =
        connection.client("admin").create().map_err(|error| Error::settings(&error))?;
    let found = topic_settings(&admin, required).await?;
    for setting in required {
        let RequiredSetting { topic, name, wanted, otherwise, .. } = setting;
        let entries = found.get(topic).map_or(&[][..], |entries| entries);
        let entry = entries.iter().find(|entry| entry.name == *name);
        let Some(value) = entry.and_then(|entry| entry.value.as_deref()) else {
            tracing::warn!(topic, setting = name, "setting of a topic is not known");
            continue;
        };
        if wanted.allows(value) || raise(&admin, setting, value, entries).await {
            continue;
        }
        return Err(Error::TopicSetting(Box::new(WrongTopicSetting {
            topic: topic.clone(),
            setting: name,
            found: value.to_owned(),
            wanted: setting.raise_to.clone().unwrap_or_else(|| wanted.value()),
            otherwise,
            bootstrap: connection.bootstrap.clone(),
        })));
    }
    Ok(())
}

/// Returns the settings of the topics by the topics' names.
async fn topic_settings(
    admin: &AdminClient<DefaultClientContext>,
    required: &[RequiredSetting],
) -> Result<HashMap<String, Vec<ConfigEntry>>, Error> {
    let topics: BTreeSet<&str> = required.iter().map(|setting| &*setting.topic).collect();
    let resources: Vec<_> = topics.into_iter().map(ResourceSpecifier::Topic).collect();
    let options = AdminOptions::new().request_timeout(Some(METADATA_TIMEOUT));
    let mut found = HashMap::new();
    for result in admin.describe_configs(&resources, &options).await? {
        match result {
            Ok(resource) => {
                if let OwnedResourceSpecifier::Topic(topic) = resource.specifier {
                    found.insert(topic, resource.entries);
                }
            }
            Err(code) => tracing::warn!(%code, "settings of a topic could not be read"),
        }
    }
    Ok(found)
}

/// Raises a setting of an existing topic. Returns whether it now has a value that keeps the promise.
///
/// The request replaces all settings of the topic, so it repeats those that somebody has set.
async fn raise(
    admin: &AdminClient<DefaultClientContext>,
    setting: &RequiredSetting,
    found: &str,
    entries: &[ConfigEntry],
) -> bool {
    let RequiredSetting { topic, name, raise_to, .. } = setting;
    let Some(raise_to) = raise_to else { return false };
    let own = entries.iter().filter(|entry| entry.source == ConfigSource::DynamicTopic);
    let own = own.filter_map(|entry| Some((&*entry.name, entry.value.as_deref()?)));
    let own = own.filter(|(other, _)| other != name);
    let config = own
        .fold(AlterConfig::new(ResourceSpecifier::Topic(topic)), |config, (name, value)| {
            config.set(name, value)
        });
    let options = AdminOptions::new().request_timeout(Some(METADATA_TIMEOUT));
    let altered = admin.alter_configs([&config.set(name, raise_to)], &options).await;
    let problem = match altered.as_deref() {
        Ok([Ok(_)]) => {
            tracing::warn!(topic, setting = name, found, raised_to = %raise_to,
                "setting of a topic was too low and has been raised");
            return true;
        }
        Ok([Err((_, code)), ..]) => code.to_string(),
        Ok(_) => "the broker did not answer for the topic".to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(topic, setting = name, found, %problem, "setting of a topic could not be raised");
    false
}

/// Waits until every partition of all topics has a leader, and checks the numbers of partitions.
pub fn await_topics(
    connection: &Connection,
    specs: &[TopicSpec],
    deadline: Duration,
) -> Result<(), Error> {
    let until = Instant::now() + deadline;
    loop {
        let problem = match partition_counts(connection) {
            Ok(counts) => match first_problem(specs, &counts) {
                None => return Ok(()),
                Some(problem) => problem,
            },
            Err(error) => error,
        };
        if !problem.is_transient() || Instant::now() >= until {
            return Err(problem);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn first_problem(specs: &[TopicSpec], counts: &HashMap<String, i32>) -> Option<Error> {
    specs.iter().find_map(|spec| {
        let (topic, expected) = (spec.name.clone(), spec.partitions);
        match counts.get(&topic) {
            Some(&found) if found == expected => None,
            Some(&found) => Some(Error::Partitions { topic, found, expected }),
            None => {
                let problem = "is missing or has no leader; create it, or set topics.create";
                Some(Error::Topic { topic, problem: problem.to_owned() })
            }
        }
    })
}

/// Returns the number of partitions of a topic. Waits some seconds for their leaders: a partition has none for a
/// moment if its broker was slow.
///
/// # Errors
/// [`Error::Topic`] if the topic is missing or has no leader, [`Error::Settings`] or [`Error::Kafka`].
pub fn partitions_of(connection: &Connection, topic: &str) -> Result<i32, Error> {
    let client = MetadataClient::open(connection)?;
    let until = Instant::now() + METADATA_TIMEOUT;
    loop {
        let metadata = client.fetch(METADATA_TIMEOUT)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        match found {
            Some(found) if has_leaders(found) => return Ok(found.partitions().len() as i32),
            Some(_) if Instant::now() < until => std::thread::sleep(LEADER_POLL),
            _ => {
                let problem = "is missing or has no leader; check kafka.bootstrap and kafka.prefix";
                return Err(Error::Topic { topic: topic.to_owned(), problem: problem.to_owned() });
            }
        }
    }
}

fn has_leaders(topic: &MetadataTopic) -> bool {
    let has_leader =
        |partition: &MetadataPartition| partition.leader() >= 0 && partition.error().is_none();
    topic.error().is_none() && topic.partitions().iter().all(has_leader)
}

/// Returns the number of partitions of every topic whose partitions all have a leader.
pub fn partition_counts(connection: &Connection) -> Result<HashMap<String, i32>, Error> {
    let metadata = MetadataClient::open(connection)?.fetch(METADATA_TIMEOUT)?;
    Ok(metadata
        .topics()
        .iter()
        .filter(|topic| has_leaders(topic))
        .map(|topic| (topic.name().to_owned(), topic.partitions().len() as i32))
        .collect())
}

/// Returns the first and the next offset of every partition of a topic.
pub fn watermarks(
    connection: &Connection,
    topic: &str,
    partitions: i32,
) -> Result<Vec<(i64, i64)>, Error> {
    let consumer: BaseConsumer =
        connection.client("admin").create().map_err(|error| Error::settings(&error))?;
    let until = Instant::now() + METADATA_TIMEOUT;
    (0..partitions).map(|n| first_and_next(&consumer, topic, n, until)).collect()
}

/// Returns the first and the next offset of a partition. Retries until the deadline: the leader of a
/// new topic may not be known everywhere yet, and a busy broker may not answer in time.
pub(crate) fn first_and_next<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
    until: Instant,
) -> Result<(i64, i64), Error> {
    loop {
        match consumer.fetch_watermarks(topic, partition, METADATA_TIMEOUT) {
            Ok(offsets) => return Ok(offsets),
            Err(error) if Instant::now() > until => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
