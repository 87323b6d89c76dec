//! All services over TLS, with the settings that the documentation shows: ingress and enrich log in to
//! Kafka with SCRAM, dedupe and archive with a certificate, and ClickHouse is behind https. The services
//! are those of the default build.
//!
//! Like the test of upgrades, this one expects the services beside the program `tasks`:
//! `cargo build --workspace --bins`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use devstack::clickhouse::{PASSWORD, USER};
use devstack::kafka::{SCRAM_PASSWORD, SCRAM_USER};
use devstack::{Authority, Dirs, Kafka, TlsFront, fetch};
use event::Provider;
use harness::{Cluster, Database, Launch, Service, free_port, http, layout};
use testkit::Credentials;
use testkit::load::Load;

const SERVICES: [&str; 6] = ["ingress", "enrich", "dedupe", "monitor", "archive", "notify"];

fn read(path: &str) -> String {
    std::fs::read_to_string(fetch::workspace().join(path)).unwrap()
}

/// Returns the blocks of TOML in the section of the documentation about TLS to the servers: the one
/// with SCRAM and ClickHouse, and the one with a certificate.
fn documented() -> (String, String) {
    let text = read("docs/operations.md");
    let (_, section) = text.split_once("\n## TLS to Kafka and ClickHouse\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks: Vec<&str> = section
        .split("```toml\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap())
        .collect();
    let [scram, certificate] = blocks[..] else { panic!("two blocks of TOML in {section}") };
    (scram.to_owned(), certificate.to_owned())
}

fn binary(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_tasks")).with_file_name(name);
    assert!(path.is_file(), "{name} is missing; run `cargo build --workspace --bins`");
    path
}

/// Secured servers, and the documented settings with their addresses and files.
struct Stack {
    cluster: Cluster,
    database: Database,
    credentials: Credentials,
    listen: String,
    scram: String,
    certificate: String,
    // Dropped last: the services use them.
    kafka: Kafka,
    _front: TlsFront,
    dirs: Dirs,
}

impl Stack {
    fn new() -> Self {
        let dirs = Dirs::new().unwrap();
        let authority = Authority::new(&dirs).unwrap();
        let kafka = Kafka::start_secured(&dirs, &authority).unwrap();
        let database = Database::new("secured");
        let upstream = database.url.strip_prefix("http://").unwrap().to_owned();
        // It wants a certificate of the client, which only the second block has.
        let front = TlsFront::start_mutual(&upstream, &authority.server().unwrap(), &authority);
        let front = front.unwrap();
        let cluster = Cluster::on(kafka.bootstrap(), "secured", layout(2, 1));
        let listen = format!("127.0.0.1:{}", free_port());
        let credentials = Credentials::new(&format!("http://{listen}"));

        let client = authority.client("mailpulse").unwrap();
        let file = |name: &str, text: &str| {
            let path = dirs.run.join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let ca = authority.ca_file().display().to_string();
        let replacements = [
            ("kafka-1.example.com:9093,kafka-2.example.com:9093", kafka.sasl_ssl().unwrap()),
            ("kafka-1.example.com:9094,kafka-2.example.com:9094", kafka.ssl().unwrap()),
            ("clickhouse.example.com:8443", front.address()),
            ("/etc/mailpulse/kafka-ca.pem", ca.clone()),
            ("/etc/mailpulse/clickhouse-ca.pem", ca),
            ("/run/secrets/kafka-password", file("kafka-password", SCRAM_PASSWORD)),
            ("/run/secrets/clickhouse-password", file("clickhouse-password", PASSWORD)),
            ("/etc/mailpulse/client.crt", client.certificate.display().to_string()),
            ("/run/secrets/client.key", client.key.display().to_string()),
        ];
        let actual = |documented: String| {
            let mut text = documented;
            for (example, address) in &replacements {
                text = text.replace(example, address);
            }
            assert!(!text.contains("example.com") && !text.contains("/etc/"), "{text}");
            text
        };
        let (scram, certificate) = documented();
        assert!(SCRAM_USER == USER && scram.matches(USER).count() >= 2, "{scram}");
        let (scram, certificate) = (actual(scram), actual(certificate));
        Self {
            cluster,
            database,
            credentials,
            listen,
            scram,
            certificate,
            kafka,
            _front: front,
            dirs,
        }
    }

    /// Returns a service whose file has the documented settings, and those of this test.
    fn launch(&self, service: &str, documented: &str) -> Launch {
        let Cluster { topics, layout, .. } = &self.cluster;
        // `Launch` begins the file with the settings of the plain listener; the environment has
        // precedence over it, and the documented tables are merged into it.
        let documented: toml::Table = documented.parse().unwrap();
        let kafka = documented["kafka"].as_table().unwrap();
        let text = |key: &str| kafka.get(key).and_then(|value| value.as_str());
        let properties = toml::to_string(&kafka["properties"]).unwrap();
        let mut launch = Launch::new(service, binary(service), &self.cluster)
            .config(&format!("[kafka.properties]\n{properties}"))
            .env("MAILPULSE__KAFKA__BOOTSTRAP", text("bootstrap").unwrap())
            .env("MAILPULSE__CLICKHOUSE__DATABASE", &self.database.name);
        if let Some(compression) = text("compression") {
            launch = launch.env("MAILPULSE__KAFKA__COMPRESSION", compression);
        }
        if let Some(clickhouse) = documented.get("clickhouse") {
            launch =
                launch.config(&format!("[clickhouse]\n{}", toml::to_string(clickhouse).unwrap()));
        }
        assert!(!topics.prefix.is_empty() && layout.replication == 1);
        launch
    }

    fn start(&self, service: &str, documented: &str) -> Service {
        let launch = self.launch(service, documented);
        if service != "ingress" {
            return launch.start();
        }
        let certificates = self.dirs.run.join("sns");
        std::fs::create_dir_all(&certificates).unwrap();
        self.credentials.write_certificates(&certificates).unwrap();
        launch
            .config(&format!(
                "[ingress]\ntime_every = \"0s\"\nlisten = {:?}\nack_timeout = \"20s\"\nread_timeout = \"20s\"\n\
                 drain_delay = \"100ms\"\nsns_certificates = {certificates:?}\n{}",
                self.listen,
                self.credentials.sources_toml()
            ))
            .start()
    }
}

#[allow(clippy::disallowed_methods, reason = "signatures are valid for a limited time")]
fn now_millis() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

#[test]
fn events_pass_all_services_with_the_documented_settings() {
    const EVENTS: usize = 40;
    let stack = Stack::new();
    // The ingress creates the topics over the secured listener.
    let ingress = stack.start("ingress", &stack.scram);
    let is_generic = |(provider, _): &(Provider, &str)| *provider == Provider::Generic;
    let (_, source) = testkit::SOURCES.into_iter().find(is_generic).unwrap();
    let mut load = Load::new(&stack.credentials, source, "secured", EVENTS, 0);
    let request = load.next_request(now_millis());
    for _ in 0..2 {
        let (path, headers) = (&request.path, &request.headers);
        let response = http::send(&stack.listen, "POST", path, headers, &request.body).unwrap();
        assert_eq!(response.status, 200, "{}", response.text);
    }
    let topics = &stack.cluster.topics;
    let raw: Vec<&str> = topics.all_raw().collect();
    // The second request is published too, unless its tokens are remembered; dedupe drops its events.
    let raw = stack.cluster.reader(&raw).records(2 * EVENTS).len();
    assert_eq!(raw, 2 * EVENTS);

    let _services = [
        stack.start("enrich", &stack.scram),
        stack.start("dedupe", &stack.certificate),
        stack.start("archive", &stack.certificate),
    ];
    stack.database.await_count("events", EVENTS as u64);
    assert_eq!(stack.cluster.read_settled(&topics.enriched).len(), raw);
    assert_eq!(stack.cluster.read_settled(&topics.events).len(), EVENTS);
    assert!(ingress.is_running() && stack.kafka.pid().is_some());
}

#[test]
fn every_service_checks_the_documented_settings_and_refuses_what_its_build_cannot_do() {
    let stack = Stack::new();
    for service in SERVICES {
        let check = |settings: &str| stack.launch(service, settings).argument("--check").run();
        for settings in [&stack.scram, &stack.certificate] {
            let (status, log) = check(settings);
            assert!(status.success() && log.contains("settings are good"), "{service}: {log}");
        }
        let mechanism = stack.scram.replace("SCRAM-SHA-512", "GSSAPI");
        let (status, log) = check(&mechanism);
        assert!(!status.success() && log.contains("kafka.properties"), "{service}: {log}");
        assert!(log.contains("GSSAPI") && !log.contains(SCRAM_PASSWORD), "{service}: {log}");
        let absent = stack.certificate.replacen("mailpulse.key", "absent.key", 1);
        let (status, log) = check(&absent);
        assert!(!status.success() && log.contains("ssl.key.location"), "{service}: {log}");
        let misspelt = stack.scram.replace("sasl.password", "sasl.pasword");
        let (status, log) = check(&misspelt);
        assert!(!status.success() && log.contains("sasl.pasword"), "{service}: {log}");
        assert!(!log.contains(SCRAM_PASSWORD), "{service}: {log}");
    }
}

/// The first test uses the settings of docs/operations.md, so it uses these too.
#[test]
fn the_reference_configuration_shows_properties_that_are_tested() {
    let names = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().map(|line| line.trim_start_matches("# "));
        let quoted = lines.filter_map(|line| line.strip_prefix('"')?.split_once("\" = "));
        quoted.map(|(name, _)| name.to_owned()).collect()
    };
    let (scram, certificate) = documented();
    let tested = names(&(scram + &certificate));
    let shown = names(&read("deploy/mailpulse.toml"));
    assert!(shown.len() >= 7, "{shown:?}");
    assert!(shown.is_subset(&tested), "{shown:?} {tested:?}");
}
