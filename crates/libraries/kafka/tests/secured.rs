//! Connections to a broker whose listeners require TLS: with SCRAM, and with a certificate of the
//! client. Every mistake has a code, a fix, and no secret in its text.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use devstack::kafka::{SCRAM_PASSWORD, SCRAM_USER};
use devstack::{Authority, Dirs, Kafka};
use kafka::{ClusterSettings, Connection, Error, inspect, topics};
use record::TopicSpec;

const DEADLINE: Duration = Duration::from_secs(60);

/// The broker that all tests of this program share.
struct Broker {
    authority: Authority,
    kafka: Kafka,
    dirs: Dirs,
}

fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| {
        let dirs = Dirs::new().unwrap();
        let authority = Authority::new(&dirs).unwrap();
        let kafka = Kafka::start_secured(&dirs, &authority).unwrap();
        Broker { authority, kafka, dirs }
    })
}

fn connection(bootstrap: &str, compression: &str, properties: &str) -> Connection {
    let text = format!(
        "bootstrap = {bootstrap:?}\nprefix = \"\"\ngroup_protocol = \"consumer\"\n\
         compression = {compression:?}\nmax_message_bytes = 20971520\n[properties]\n{properties}"
    );
    toml::from_str::<ClusterSettings>(&text).unwrap().connection("one", false)
}

fn scram(ca_file: &Path, password: &str) -> String {
    format!(
        "\"security.protocol\" = \"sasl_ssl\"\n\"ssl.ca.location\" = {ca_file:?}\n\
         \"sasl.mechanisms\" = \"SCRAM-SHA-512\"\n\"sasl.username\" = {SCRAM_USER:?}\n\
         \"sasl.password\" = {password:?}\n"
    )
}

fn mutual(broker: &Broker) -> String {
    let client = broker.authority.client("client").unwrap();
    format!(
        "\"security.protocol\" = \"ssl\"\n\"ssl.ca.location\" = {:?}\n\
         \"ssl.certificate.location\" = {:?}\n\"ssl.key.location\" = {:?}\n",
        broker.authority.ca_file(),
        client.certificate,
        client.key
    )
}

/// Creates a topic, writes a record to it and reads it back.
fn write_and_read(connection: &Connection) {
    let name = format!("secured-{}", uuid::Uuid::new_v4().simple());
    let spec =
        TopicSpec { name: name.clone(), partitions: 1, replication: 1, settings: Vec::new() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(topics::create_topics(connection, &[spec], DEADLINE)).unwrap();
    let record: (&[u8], &[u8]) = (b"key", &[b'x'; 4096]);
    kafka::baseline::produce(connection, &name, std::iter::once(record)).unwrap();
    let records = inspect::committed_records(connection, &name, DEADLINE).unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].value.as_deref(), Some(&[b'x'; 4096][..]));
}

#[test]
fn records_are_written_and_read_over_scram_with_every_compression() {
    let broker = broker();
    let properties = scram(broker.authority.ca_file(), SCRAM_PASSWORD);
    for compression in ["zstd", "lz4", "gzip", "snappy", "none"] {
        write_and_read(&connection(&broker.kafka.sasl_ssl().unwrap(), compression, &properties));
    }
}

#[test]
fn records_are_written_and_read_with_a_certificate_of_the_client() {
    let broker = broker();
    write_and_read(&connection(&broker.kafka.ssl().unwrap(), "zstd", &mutual(broker)));
}

/// Returns the code and the text of the error of a connection.
fn mistake(bootstrap: &str, properties: &str) -> (&'static str, String) {
    let connection = connection(bootstrap, "lz4", properties);
    connection.check().unwrap();
    let error = topics::partition_counts(&connection).unwrap_err();
    assert!(matches!(error, Error::Connection { .. }), "{error:?}");
    (error.code(), error.to_string())
}

#[test]
fn every_mistake_has_a_code_and_a_fix_and_hides_the_password() {
    const WRONG: &str = "wrong-Password-1";
    let broker = broker();
    let (secured, ca_file) = (broker.kafka.sasl_ssl().unwrap(), broker.authority.ca_file());
    let stranger = Authority::new(&broker.dirs).unwrap();

    let good = scram(ca_file, SCRAM_PASSWORD);
    let mutual_without_certificate =
        format!("\"security.protocol\" = \"ssl\"\n\"ssl.ca.location\" = {ca_file:?}\n");
    let cases = [
        (secured.clone(), scram(ca_file, WRONG), "kafka_login", "sasl.password"),
        (
            secured.clone(),
            scram(stranger.ca_file(), SCRAM_PASSWORD),
            "kafka_certificate",
            "set ssl.ca.location",
        ),
        (broker.kafka.bootstrap().to_owned(), good, "kafka_plain_listener", "TLS listener"),
        (secured, String::new(), "kafka_tls_listener", "security.protocol"),
        (
            broker.kafka.ssl().unwrap(),
            mutual_without_certificate,
            "kafka_client_certificate",
            "ssl.certificate.location",
        ),
    ];
    std::thread::scope(|scope| {
        for (bootstrap, properties, code, fix) in &cases {
            scope.spawn(move || {
                let (found, text) = mistake(bootstrap, properties);
                assert_eq!(found, *code, "{text}");
                assert!(text.contains(fix) && text.contains(bootstrap.as_str()), "{text}");
                for secret in [WRONG, SCRAM_PASSWORD] {
                    assert!(!text.contains(secret), "{text}");
                }
            });
        }
    });
}

#[test]
fn what_the_build_or_a_file_cannot_do_is_refused_without_a_connection() {
    let refused = |properties: &str| {
        let connection = connection("127.0.0.1:1", "lz4", properties);
        let error = connection.check().unwrap_err();
        assert_eq!(error.code(), "kafka_settings");
        error.to_string()
    };
    let text = refused(
        "\"security.protocol\" = \"sasl_ssl\"\n\"sasl.mechanisms\" = \"GSSAPI\"\n\
         \"sasl.username\" = \"u\"\n\"sasl.password\" = \"tulip-marsh\"\n",
    );
    assert!(text.contains("GSSAPI") && !text.contains("tulip-marsh"), "{text}");
    let text = refused("\"security.protocol\" = \"ssl\"\n\"ssl.ca.location\" = \"/no/such.pem\"\n");
    assert!(text.contains("ssl.ca.location"), "{text}");
}
