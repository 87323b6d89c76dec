//! `mailpulse doctor` on a secured Kafka and a ClickHouse behind TLS, and with every mistake in their
//! settings.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

use devstack::clickhouse::{PASSWORD, USER};
use devstack::kafka::{SCRAM_PASSWORD, SCRAM_USER};
use devstack::{Authority, Dirs, Kafka, TlsFront};
use harness::{Cluster, Database, layout};
use serde_json::Value;

const WRONG: &str = "wrong-Password-1";

struct Stack {
    cluster: Cluster,
    database: Database,
    kafka: Kafka,
    front: TlsFront,
    authority: Authority,
    dirs: Dirs,
}

impl Stack {
    fn new() -> Self {
        let dirs = Dirs::new().unwrap();
        let authority = Authority::new(&dirs).unwrap();
        let kafka = Kafka::start_secured(&dirs, &authority).unwrap();
        let database = Database::new("doctor");
        let upstream = database.url.strip_prefix("http://").unwrap();
        let front = TlsFront::start(upstream, &authority.server().unwrap()).unwrap();
        let cluster = Cluster::on(kafka.bootstrap(), "doctor", layout(2, 1));
        Self { cluster, database, kafka, front, authority, dirs }
    }

    /// Returns settings that are right.
    fn settings(&self) -> String {
        let ca_file = self.authority.ca_file();
        let plain = format!("bootstrap = {:?}", self.kafka.bootstrap());
        let secured = format!("bootstrap = {:?}", self.kafka.sasl_ssl().unwrap());
        let kafka = self.cluster.toml().replace(&plain, &secured);
        assert!(kafka.contains(&secured), "{kafka}");
        format!(
            "{kafka}[kafka.properties]\n\"security.protocol\" = \"sasl_ssl\"\n\
             \"ssl.ca.location\" = {ca_file:?}\n\"sasl.mechanisms\" = \"SCRAM-SHA-512\"\n\
             \"sasl.username\" = {SCRAM_USER:?}\n\"sasl.password\" = {SCRAM_PASSWORD:?}\n\
             [clickhouse]\nurl = \"https://{}\"\nca_file = {ca_file:?}\ndatabase = {:?}\n\
             user = {USER:?}\npassword = {PASSWORD:?}\n",
            self.front.address(),
            self.database.name
        )
    }

    /// Runs `mailpulse doctor --json`. Returns its exit status, and status and code of each line.
    fn doctor(&self, settings: &str) -> (i32, Vec<String>, String) {
        let config = self.dirs.run.join("doctor.toml");
        std::fs::write(&config, settings).unwrap();
        let (status, text) = run(&config, &["--json"]);
        for secret in [WRONG, SCRAM_PASSWORD, PASSWORD] {
            assert!(!text.contains(secret), "{text}");
        }
        let lines = text.lines().filter(|line| line.starts_with('{'));
        let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
        let text_of = |value: &Value| value.as_str().unwrap().to_owned();
        let codes = lines
            .map(|line| format!("{} {}", text_of(&line["status"]), text_of(&line["code"])))
            .collect();
        (status, codes, text)
    }
}

/// Returns the exit status, and everything that was printed.
fn run(config: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailpulse"));
    command.arg("doctor").arg("--config").arg(config).args(arguments);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn the_doctor_says_what_works_and_what_does_not() {
    let stack = Stack::new();
    let good = stack.settings();

    // Before the first start of the services, which create topics and tables.
    let (status, codes, text) = stack.doctor(&good);
    assert_eq!(status, 0, "{text}");
    assert_eq!(codes.first().unwrap(), "ok kafka_reachable");
    assert!(codes.contains(&"note topic_missing".to_owned()), "{codes:?}");
    assert_eq!(codes[codes.len() - 2..], ["ok clickhouse_reachable", "note table_missing"]);

    // Services that may not create them need somebody else to do it.
    let forbidden = good.replace("[topics]\n", "[topics]\ncreate = false\n");
    let (status, codes, text) = stack.doctor(&format!("{forbidden}[archive]\nmigrate = false\n"));
    assert_eq!(status, 1, "{text}");
    assert!(codes.contains(&"problem topic_missing".to_owned()), "{codes:?}");
    assert!(codes.contains(&"problem table_missing".to_owned()), "{codes:?}");

    stack.cluster.create_topics();
    let (status, codes, text) = stack.doctor(&good);
    assert_eq!(status, 0, "{text}");
    let ready = ["ok kafka_reachable", "ok topics_ready", "ok clickhouse_reachable"];
    assert_eq!(codes[..3], ready, "{text}");

    // Other partitions than those of the topics.
    let other = good.replace("recipient_partitions = 2", "recipient_partitions = 3");
    let (status, codes, _) = stack.doctor(&other);
    assert_eq!(status, 1);
    assert!(codes.contains(&"problem topic_partitions".to_owned()), "{codes:?}");

    mistakes(&stack, &good);
    several_servers(&stack, &good);
}

/// A mistake in one server's settings does not hide the state of the other server.
fn mistakes(stack: &Stack, good: &str) {
    let stranger = Authority::new(&stack.dirs).unwrap();
    let (ca_file, other) = (stack.authority.ca_file(), stranger.ca_file());
    let with_ca = |key: &str, file: &Path| format!("{key} = {file:?}");
    let replace = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} in {good}");
        good.replace(from, to)
    };
    let in_kafka = [
        (replace(SCRAM_PASSWORD, WRONG), "kafka_login"),
        (
            replace(
                &with_ca("\"ssl.ca.location\"", ca_file),
                &with_ca("\"ssl.ca.location\"", other),
            ),
            "kafka_certificate",
        ),
        (
            replace(&stack.kafka.sasl_ssl().unwrap(), stack.kafka.bootstrap()),
            "kafka_plain_listener",
        ),
        (replace("sasl_ssl", "sasl_plaintext"), "kafka_tls_listener"),
        (replace("SCRAM-SHA-512", "GSSAPI"), "kafka_settings"),
        (replace(&stack.kafka.sasl_ssl().unwrap(), "127.0.0.1:1"), "kafka_unreachable"),
    ];
    for (settings, code) in in_kafka {
        let (status, codes, text) = stack.doctor(&settings);
        assert_eq!(status, 1, "{text}");
        assert_eq!(codes[..2], [format!("problem {code}"), "ok clickhouse_reachable".into()]);
    }
    let in_clickhouse = [
        (
            replace(&with_ca("\nca_file", ca_file), &with_ca("\nca_file", other)),
            "clickhouse_certificate",
        ),
        (
            replace(&stack.front.address(), stack.database.url.strip_prefix("http://").unwrap()),
            "clickhouse_protocol",
        ),
        (replace(PASSWORD, WRONG), "clickhouse_login"),
        (replace(&stack.front.address(), "127.0.0.1:1"), "clickhouse_away"),
        (replace("url = \"https://", "url = \"http://"), "settings_invalid_value"),
    ];
    for (settings, code) in in_clickhouse {
        let (status, codes, text) = stack.doctor(&settings);
        assert_eq!(status, 1, "{text}");
        let last = format!("problem {code}");
        assert_eq!(codes[..2], ["ok kafka_reachable", "ok topics_ready"], "{text}");
        assert_eq!(codes.last(), Some(&last), "{text}");
    }
}

/// Several servers need replicated tables, and each of them is named.
fn several_servers(stack: &Stack, good: &str) {
    let away = "https://127.0.0.1:1";
    let one = format!("url = \"https://{}", stack.front.address());
    assert!(good.contains(&one), "{good}");
    let several = good.replace(&one, &format!("url = \"{away}, https://{}", stack.front.address()));
    let database = stack.database.name.as_str();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let settings = service::Settings::load(None, std::iter::empty()).unwrap();
    let mut clickhouse: service::ClickHouseSettings = settings.section("clickhouse").unwrap();
    clickhouse.url.clone_from(&stack.database.url);
    database.clone_into(&mut clickhouse.database);
    let server = archive::server::Server::new(&clickhouse).unwrap();
    runtime.block_on(archive::schema::migrate(&server)).unwrap();
    let (status, codes, text) = stack.doctor(&several);
    assert_eq!(status, 1, "{text}");
    let expected = ["problem clickhouse_away", "ok clickhouse_reachable", "problem not_replicated"];
    assert_eq!(codes[codes.len() - 3..], expected, "{text}");
    assert!(text.contains("127.0.0.1:1: ClickHouse cannot be reached"), "{text}");
    let (_, codes, text) = stack.doctor(good);
    assert_eq!(codes.last().unwrap(), "ok tables_ready", "{text}");
}

#[test]
fn sentences_are_printed_and_invalid_settings_have_status_2() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("mailpulse.toml");
    let closed =
        "[kafka]\nbootstrap = \"127.0.0.1:1\"\n[clickhouse]\nurl = \"http://127.0.0.1:1\"\n";
    std::fs::write(&config, closed).unwrap();
    let (status, text) = run(&config, &[]);
    assert_eq!(status, 1, "{text}");
    let line = text.lines().find(|line| line.starts_with("problem  kafka_unreachable")).unwrap();
    assert!(line.contains("127.0.0.1:1") && line.contains("check kafka.bootstrap"), "{line}");
    assert!(text.contains("problem  clickhouse_away"), "{text}");

    std::fs::write(&config, "[kafka]\nbootsrap = \"127.0.0.1:1\"\n").unwrap();
    let (status, text) = run(&config, &[]);
    assert_eq!(status, 2, "{text}");
    assert!(text.contains("settings_unknown_key") && text.contains("kafka.bootstrap"), "{text}");
}
