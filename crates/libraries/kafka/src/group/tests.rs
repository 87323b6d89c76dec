use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use record::TopicSpec;

use super::*;

const DEADLINE: Duration = Duration::from_secs(60);

fn connection() -> Connection {
    Connection {
        bootstrap: devstack::shared_kafka().to_owned(),
        instance: "watched".to_owned(),
        group_protocol: "consumer".to_owned(),
        compression: "lz4".to_owned(),
        properties: devstack::kafka_properties(devstack::shared_kafka()),
        ..Connection::default()
    }
}

fn produce(connection: &Connection, topic: &str, count: usize) {
    let producer: BaseProducer = connection.producer("test").create().unwrap();
    for _ in 0..count {
        producer.send(BaseRecord::to(topic).key("k").payload("v")).unwrap();
    }
    producer.flush(DEADLINE).unwrap();
}

fn create_topic(connection: &Connection) -> String {
    let name = format!("watched-{}", uuid::Uuid::new_v4().simple());
    let spec =
        TopicSpec { name: name.clone(), partitions: 1, replication: 1, settings: Vec::new() };
    let create = crate::topics::create_topics(connection, std::slice::from_ref(&spec), DEADLINE);
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(create).unwrap();
    name
}

#[test]
fn a_partition_that_the_client_no_longer_fetches_is_reported() {
    let connection = connection();
    let topic = create_topic(&connection);
    let context = GroupContext::default();
    let period = Duration::from_millis(300);
    let watch =
        LagWatch::start_with_period(period, &connection, "watched", &topic, &context.progress)
            .unwrap();
    let mut config = connection.consumer("watched", &topic, 1);
    Protocol::Consumer.set(&connection, &topic, &mut config);
    let consumer: BaseConsumer<GroupContext> =
        config.set("statistics.interval.ms", "100").create_with_context(context).unwrap();
    consumer.subscribe(&[&topic]).unwrap();
    let (consumer, queues) = (Arc::new(consumer), Vec::new());
    let group = Group { queues, consumer, name: topic.clone(), has_markers: true, _watch: watch };
    produce(&connection, &topic, 10);
    let deadline = Instant::now() + DEADLINE;
    let mut seen = 0;
    while seen < 10 {
        assert!(Instant::now() < deadline, "expected ten records, saw {seen}");
        if let Some(Ok(message)) = group.poll(Duration::from_millis(50)) {
            seen = message.offset() + 1;
        }
    }
    // A partition without unread records is not reported.
    let quiet_until = Instant::now() + period * 8;
    while Instant::now() < quiet_until {
        drop(group.poll(Duration::from_millis(50)));
        group.check_progress().unwrap();
    }
    // The watch does not know of this pause, so it sees a client that has stopped fetching.
    let partition = TopicPartition { topic: topic.clone(), partition: 0 };
    group.consumer.pause(&list_of([&partition])).unwrap();
    produce(&connection, &topic, 1);
    while group.check_progress().is_ok() {
        assert!(Instant::now() < deadline, "the stopped partition was never reported");
        drop(group.poll(Duration::from_millis(50)));
    }
    let error = group.check_progress().unwrap_err();
    assert_eq!(error.code(), "silent_partition");
    assert!(error.to_string().contains(&topic), "{error}");
}
