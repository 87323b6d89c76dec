//! Three brokers with TLS, SCRAM and access control: what a principal is not granted is refused, and two brokers must
//! have a record.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use devstack::kafka::{ADMIN, SCRAM_PASSWORD};
use devstack::{Authority, Dirs, Kafka};
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use record::rights::{Operation, Resource, Right};

const PATIENCE: Duration = Duration::from_secs(120);
/// A record without an acknowledgement for this time is one that is refused.
const SHORTLY: Duration = Duration::from_secs(6);
const TOPIC: &str = "three.mail.events";

#[test]
fn acknowledged_records_survive_any_one_broker_and_rights_are_needed() {
    let dirs = Dirs::new().unwrap();
    let authority = Authority::new(&dirs).unwrap();
    let mut kafka = Kafka::start_three(&dirs, &authority, &["dedupe", "enrich"]).unwrap();
    kafka.grant(&[right("dedupe", Operation::Write), right("dedupe", Operation::Read)]).unwrap();
    let bootstrap = kafka.bootstrap().to_owned();
    let client = |user| client(&bootstrap, authority.ca_file(), user);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let admin: AdminClient<DefaultClientContext> = client(ADMIN).create().unwrap();
    let topic = NewTopic::new(TOPIC, 3, TopicReplication::Fixed(3));
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let created = runtime.block_on(admin.create_topics(&[topic], &options)).unwrap();
    assert_eq!(created, [Ok(TOPIC.to_owned())]);

    let dedupe = Sender::new(&client("dedupe"));
    let send = Sender::send;
    send(&dedupe, "all run", PATIENCE).unwrap();

    let stranger = Sender::new(&client("enrich"));
    let refused = send(&stranger, "a stranger's", PATIENCE).unwrap_err();
    assert_eq!(refused.rdkafka_error_code(), Some(RDKafkaErrorCode::TopicAuthorizationFailed));

    for broker in 0..3 {
        kafka.kill_broker(broker).unwrap();
        send(&dedupe, &format!("without {broker}"), PATIENCE).unwrap();
        kafka.restart_broker(broker).unwrap();
    }
    kafka.move_leaders("three.").unwrap();
    send(&dedupe, "leaders moved", PATIENCE).unwrap();

    kafka.kill_broker(0).unwrap();
    kafka.kill_broker(2).unwrap();
    send(&dedupe, "one broker alone", SHORTLY).unwrap_err();
    kafka.restart().unwrap();
    send(&dedupe, "all run again", PATIENCE).unwrap();

    let wanted =
        ["all run", "all run again", "leaders moved", "without 0", "without 1", "without 2"];
    await_values(&client("dedupe"), wanted.map(str::to_owned).into());
}

/// A producer that waits for the acknowledgement of each record.
struct Sender {
    producer: BaseProducer<Reports>,
    reports: Receiver<Result<(), KafkaError>>,
}

struct Reports(mpsc::Sender<Result<(), KafkaError>>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let result = result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        let _ = self.0.send(result);
    }
}

impl Sender {
    fn new(client: &ClientConfig) -> Self {
        let (sender, reports) = mpsc::channel();
        Self { producer: client.create_with_context(Reports(sender)).unwrap(), reports }
    }

    /// Sends again what times out, because a producer that connects may need longer than one record has.
    fn send(&self, value: &str, patience: Duration) -> Result<(), KafkaError> {
        let deadline = Instant::now() + patience;
        loop {
            let record = BaseRecord::<str, str>::to(TOPIC).key(value).payload(value);
            self.producer.send(record).unwrap();
            self.producer.flush(PATIENCE).unwrap();
            match self.reports.recv_timeout(PATIENCE).unwrap() {
                Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut))
                    if Instant::now() < deadline => {}
                result => return result,
            }
        }
    }
}

fn right(principal: &'static str, operation: Operation) -> Right {
    let name = "three.mail.".to_owned();
    Right { principal, resource: Resource::Topic, name, is_prefix: true, operation }
}

fn client(bootstrap: &str, ca_file: &Path, user: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("security.protocol", "sasl_ssl")
        .set("ssl.ca.location", ca_file.to_string_lossy())
        .set("sasl.mechanisms", "SCRAM-SHA-512")
        .set("sasl.username", user)
        .set("sasl.password", SCRAM_PASSWORD)
        .set("message.timeout.ms", "5000");
    config
}

/// Reads the topic from its beginning, without a group, until every value was found. Others may be there: a record without
/// an acknowledgement may be stored or not, and one that is sent again may be there twice.
fn await_values(client: &ClientConfig, mut missing: BTreeSet<String>) {
    let mut config = client.clone();
    config.set("group.id", "unused").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut all = rdkafka::TopicPartitionList::new();
    for partition in 0..3 {
        all.add_partition_offset(TOPIC, partition, rdkafka::Offset::Beginning).unwrap();
    }
    consumer.assign(&all).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !missing.is_empty() {
        assert!(Instant::now() < deadline, "{missing:?} are lost");
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            let value = message.payload().unwrap_or_default();
            missing.remove(&*String::from_utf8_lossy(value));
        }
    }
}
