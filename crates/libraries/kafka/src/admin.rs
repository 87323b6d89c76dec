//! Topics: created with explicit partitions and retention, checked against what is there.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::types::RDKafkaErrorCode;
use record::TopicSpec;

use crate::{Connection, StreamError};

const CALL: Duration = Duration::from_secs(10);

/// Creates those of the topics that are missing and waits until the cluster knows them all.
/// A topic that is there with another number of partitions is an error: a recipient would lie on
/// different partitions of different topics.
pub async fn create_topics(
    connection: &Connection,
    specs: &[TopicSpec],
    deadline: Duration,
) -> Result<(), StreamError> {
    let admin: AdminClient<DefaultClientContext> = connection
        .client("admin")
        .create()
        .map_err(|error| StreamError::Settings(error.to_string()))?;
    let topics: Vec<NewTopic<'_>> = specs
        .iter()
        .map(|spec| {
            let replication = TopicReplication::Fixed(spec.replication);
            let topic = NewTopic::new(&spec.name, spec.partitions, replication);
            spec.settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
        })
        .collect();
    let options = AdminOptions::new().operation_timeout(Some(CALL)).request_timeout(Some(CALL));
    for result in admin.create_topics(&topics, &options).await? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                return Err(StreamError::Topic { topic, problem: format!("not created: {code}") });
            }
        }
    }
    await_topics(connection, specs, deadline)
}

/// Waits until every topic is known with a leader for each partition, and checks the counts.
pub fn await_topics(
    connection: &Connection,
    specs: &[TopicSpec],
    deadline: Duration,
) -> Result<(), StreamError> {
    let until = Instant::now() + deadline;
    loop {
        let problem = match partition_counts(connection) {
            Ok(counts) => match first_problem(specs, &counts) {
                None => return Ok(()),
                Some(problem) => problem,
            },
            Err(error) => error,
        };
        if !problem.is_passing() || Instant::now() >= until {
            return Err(problem);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn first_problem(specs: &[TopicSpec], counts: &HashMap<String, i32>) -> Option<StreamError> {
    specs.iter().find_map(|spec| {
        let (topic, wanted) = (spec.name.clone(), spec.partitions);
        match counts.get(&topic) {
            Some(&there) if there == wanted => None,
            Some(&there) => Some(StreamError::Partitions { topic, there, wanted }),
            None => {
                let problem = "is missing or has no leader yet; create it or set topics.create";
                Some(StreamError::Topic { topic, problem: problem.to_owned() })
            }
        }
    })
}

/// The number of partitions of every topic whose partitions all have a leader.
pub fn partition_counts(connection: &Connection) -> Result<HashMap<String, i32>, StreamError> {
    let consumer: BaseConsumer = connection
        .client("admin")
        .create()
        .map_err(|error| StreamError::Settings(error.to_string()))?;
    let metadata = consumer.fetch_metadata(None, CALL)?;
    Ok(metadata
        .topics()
        .iter()
        .filter(|topic| topic.error().is_none())
        .filter(|topic| topic.partitions().iter().all(|p| p.leader() >= 0 && p.error().is_none()))
        .map(|topic| (topic.name().to_owned(), topic.partitions().len() as i32))
        .collect())
}

/// First and next offset of every partition of a topic.
pub fn watermarks(
    connection: &Connection,
    topic: &str,
    partitions: i32,
) -> Result<Vec<(i64, i64)>, StreamError> {
    let consumer: BaseConsumer = connection
        .client("admin")
        .create()
        .map_err(|error| StreamError::Settings(error.to_string()))?;
    let until = Instant::now() + CALL;
    (0..partitions).map(|n| first_and_next(&consumer, topic, n, until)).collect()
}

/// First and next offset of a partition. Tried again until the deadline: a topic that was just
/// created may not have told everyone its leader yet, and a busy broker may not answer in time.
pub(crate) fn first_and_next<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
    until: Instant,
) -> Result<(i64, i64), StreamError> {
    loop {
        match consumer.fetch_watermarks(topic, partition, CALL) {
            Ok(offsets) => return Ok(offsets),
            Err(error) if Instant::now() > until => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
