//! Connections to a broker whose listeners require TLS: with SCRAM, PLAIN or a token (OAUTHBEARER), and
//! with a certificate of the client. Every mistake has a code, a fix, and no secret in its text.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use devstack::kafka::{CLIENT_ID, CLIENT_SECRET, SCRAM_PASSWORD, SCRAM_USER, TokenIssuer};
use devstack::{Authority, Dirs, Kafka, TlsFront};
use kafka::{ClusterSettings, Connection, Error, inspect, topics};
use record::TopicSpec;

const DEADLINE: Duration = Duration::from_secs(60);

/// The broker that all tests of this program share.
struct Broker {
    authority: Authority,
    issuer: TokenIssuer,
    kafka: Kafka,
    dirs: Dirs,
}

fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| {
        let dirs = Dirs::new().unwrap();
        let authority = Authority::new(&dirs).unwrap();
        let issuer = TokenIssuer::start(&dirs).unwrap();
        let kafka = Kafka::start_with_tokens(&dirs, &authority, &issuer).unwrap();
        Broker { authority, issuer, kafka, dirs }
    })
}

fn connection(bootstrap: &str, compression: &str, properties: &str) -> Connection {
    let text = format!(
        "bootstrap = {bootstrap:?}\nprefix = \"\"\ngroup_protocol = \"consumer\"\n\
         session_timeout = \"10s\"\ncompression = {compression:?}\nmax_message_bytes = 20971520\n[properties]\n{properties}"
    );
    toml::from_str::<ClusterSettings>(&text).unwrap().connection("one", false)
}

fn scram(ca_file: &Path, password: &str) -> String {
    with_password("SCRAM-SHA-512", ca_file, password)
}

fn with_password(mechanism: &str, ca_file: &Path, password: &str) -> String {
    format!(
        "\"security.protocol\" = \"sasl_ssl\"\n\"ssl.ca.location\" = {ca_file:?}\n\
         \"sasl.mechanisms\" = {mechanism:?}\n\"sasl.username\" = {SCRAM_USER:?}\n\
         \"sasl.password\" = {password:?}\n"
    )
}

/// `endpoint` is the URL for tokens.
fn with_token(ca_file: &Path, endpoint: &str, secret: &str) -> String {
    format!(
        "\"security.protocol\" = \"sasl_ssl\"\n\"ssl.ca.location\" = {ca_file:?}\n\
         \"sasl.mechanisms\" = \"OAUTHBEARER\"\n\"sasl.oauthbearer.method\" = \"oidc\"\n\
         \"sasl.oauthbearer.token.endpoint.url\" = {endpoint:?}\n\
         \"sasl.oauthbearer.client.id\" = {CLIENT_ID:?}\n\
         \"sasl.oauthbearer.client.secret\" = {secret:?}\n"
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

#[test]
fn records_are_written_and_read_with_every_mechanism_that_has_a_password() {
    let broker = broker();
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"] {
        let properties = with_password(mechanism, broker.authority.ca_file(), SCRAM_PASSWORD);
        write_and_read(&connection(&broker.kafka.sasl_ssl().unwrap(), "lz4", &properties));
    }
}

#[test]
fn records_are_written_and_read_with_a_token() {
    let broker = broker();
    let ca_file = broker.authority.ca_file();
    let front = TlsFront::start(&broker.issuer.address(), &broker.authority.server().unwrap());
    let front = front.unwrap();
    let plain = with_token(ca_file, &format!("http://{}/", broker.issuer.address()), CLIENT_SECRET);
    let secured = with_token(ca_file, &format!("https://{}/token", front.address()), CLIENT_SECRET);
    let secured = format!("{secured}\"https.ca.location\" = {ca_file:?}\n");
    for properties in [plain, secured] {
        write_and_read(&connection(&broker.kafka.sasl_ssl().unwrap(), "lz4", &properties));
    }
}

/// OpenSSL reads `SSL_CERT_FILE` instead of the system's file, so a second process does.
#[test]
fn without_a_file_of_authorities_those_of_the_system_are_trusted() {
    const NAME: &str = "without_a_file_of_authorities_those_of_the_system_are_trusted";
    const BOOTSTRAP: &str = "MAILPULSE_TEST_BOOTSTRAP";
    let properties = scram(Path::new("/"), SCRAM_PASSWORD);
    let properties = properties.replace("\"ssl.ca.location\" = \"/\"\n", "");
    assert!(!properties.contains("ssl.ca.location"));
    if let Ok(bootstrap) = std::env::var(BOOTSTRAP) {
        write_and_read(&connection(&bootstrap, "lz4", &properties));
        return;
    }
    let broker = broker();
    let secured = broker.kafka.sasl_ssl().unwrap();
    let (code, text) = mistake(&secured, &properties);
    assert_eq!(code, "kafka_certificate", "{text}");
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME])
        .env(BOOTSTRAP, secured)
        .env("SSL_CERT_FILE", broker.authority.ca_file())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
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
    let other_issuer = TokenIssuer::start(&broker.dirs).unwrap();
    let token = |issuer: &TokenIssuer, secret| {
        with_token(ca_file, &format!("http://{}/", issuer.address()), secret)
    };

    let good = scram(ca_file, SCRAM_PASSWORD);
    let mutual_without_certificate =
        format!("\"security.protocol\" = \"ssl\"\n\"ssl.ca.location\" = {ca_file:?}\n");
    let cases = [
        (secured.clone(), scram(ca_file, WRONG), "kafka_login", "sasl.password"),
        (
            secured.clone(),
            with_password("SCRAM-SHA-256", ca_file, WRONG),
            "kafka_login",
            "sasl.password",
        ),
        (secured.clone(), with_password("PLAIN", ca_file, WRONG), "kafka_login", "sasl.password"),
        (secured.clone(), token(&broker.issuer, WRONG), "kafka_login", "sasl.oauthbearer"),
        // The broker does not know the key of this issuer.
        (secured.clone(), token(&other_issuer, CLIENT_SECRET), "kafka_login", "sasl.oauthbearer"),
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
                // Without a token, no broker is asked.
                let has_broker = text.contains(bootstrap.as_str()) || text.contains("token");
                assert!(text.contains(fix) && has_broker, "{text}");
                for secret in [WRONG, SCRAM_PASSWORD, CLIENT_SECRET] {
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
