//! ClickHouse behind TLS, with a certificate of a private authority.

use devstack::{Authority, Dirs, TlsFront};
use harness::{Database, Launch};

use crate::stack::{Stack, record};

/// A TLS front before the ClickHouse of the tests, and its authority.
struct Secured {
    front: TlsFront,
    authority: Authority,
    dirs: Dirs,
}

impl Secured {
    fn new() -> Self {
        let dirs = Dirs::new().unwrap();
        let authority = Authority::new(&dirs).unwrap();
        let upstream = harness::shared_clickhouse();
        let upstream = upstream.strip_prefix("http://").unwrap();
        let front = TlsFront::start(upstream, &authority.server().unwrap()).unwrap();
        Self { front, authority, dirs }
    }

    /// Returns archive with its tables behind the front.
    fn launch(&self, stack: &Stack, url: &str, ca_file: &str) -> Launch {
        let Database { name, .. } = &stack.database;
        Launch::new("archive", env!("CARGO_BIN_EXE_archive"), &stack.cluster).config(&format!(
            "[clickhouse]\nurl = {url:?}\nca_file = {ca_file:?}\ndatabase = {name:?}\n\
             [archive]\nbatch_wait = \"50ms\"\n"
        ))
    }

    fn url(&self) -> String {
        format!("https://{}", self.front.address())
    }

    fn ca_file(&self) -> String {
        self.authority.ca_file().display().to_string()
    }
}

#[test]
fn rows_are_archived_over_https_with_a_private_authority() {
    let secured = Secured::new();
    let stack = Stack::new();
    let archive = secured.launch(&stack, &secured.url(), &secured.ca_file()).start();
    // It is not a dead letter that a service writes, but archive stores any record of this topic.
    let topic = &stack.cluster.topics.dead_letters;
    let headers: [(&str, &[u8]); 2] = [("reason", b"not_json"), ("stage", b"enrich")];
    stack.produce(&[record(topic, 0, b"{", &headers), record(topic, 1, b"[", &headers)], 2);
    stack.database.await_count("dead_letters", 2);
    drop(archive);
}

#[test]
fn clickhouse_may_require_a_certificate_of_the_client() {
    let secured = Secured::new();
    let stack = Stack::new();
    let upstream = harness::shared_clickhouse().strip_prefix("http://").unwrap();
    let identity = secured.authority.server().unwrap();
    let front = TlsFront::start_mutual(upstream, &identity, &secured.authority).unwrap();
    let url = format!("https://{}", front.address());
    let client = secured.authority.client("archive").unwrap();
    let stranger = Authority::new(&secured.dirs).unwrap().client("archive").unwrap();
    let launch = |identity: &devstack::Identity| {
        secured
            .launch(&stack, &url, &secured.ca_file())
            .env("MAILPULSE__CLICKHOUSE__CERTIFICATE_FILE", identity.certificate.to_str().unwrap())
            .env("MAILPULSE__CLICKHOUSE__KEY_FILE", identity.key.to_str().unwrap())
    };
    for refused in [secured.launch(&stack, &url, &secured.ca_file()), launch(&stranger)] {
        let (status, log) = refused.run();
        assert!(!status.success() && log.contains("clickhouse_client_certificate"), "{log}");
        assert!(log.contains("clickhouse.certificate_file"), "{log}");
    }
    let archive = launch(&client).start();
    let topic = &stack.cluster.topics.dead_letters;
    let headers: [(&str, &[u8]); 2] = [("reason", b"not_json"), ("stage", b"enrich")];
    stack.produce(&[record(topic, 0, b"{", &headers)], 1);
    stack.database.await_count("dead_letters", 1);
    drop(archive);
}

#[test]
fn a_certificate_that_is_not_trusted_ends_archive_with_the_setting() {
    let secured = Secured::new();
    let stack = Stack::new();
    let stranger = Authority::new(&secured.dirs).unwrap();
    for ca_file in [String::new(), stranger.ca_file().display().to_string()] {
        let (status, log) = secured.launch(&stack, &secured.url(), &ca_file).run();
        assert!(!status.success(), "{log}");
        assert!(log.contains("clickhouse_certificate"), "{log}");
        assert!(log.contains("set clickhouse.ca_file"), "{log}");
    }
}

#[test]
fn the_name_in_the_url_must_be_in_the_certificate() {
    let secured = Secured::new();
    let stack = Stack::new();
    let upstream = harness::shared_clickhouse().strip_prefix("http://").unwrap();
    let other = secured.authority.server_named(&["clickhouse.example.com"]).unwrap();
    let front = TlsFront::start(upstream, &other).unwrap();
    let url = format!("https://{}", front.address());
    let (status, log) = secured.launch(&stack, &url, &secured.ca_file()).run();
    assert!(!status.success() && log.contains("clickhouse_certificate"), "{log}");
    assert!(log.contains("clickhouse.example.com"), "{log}");
}

#[test]
fn the_scheme_must_be_that_of_the_port() {
    let secured = Secured::new();
    let stack = Stack::new();
    let plain = harness::shared_clickhouse().replace("http://", "https://");
    let encrypted = secured.url().replace("https://", "http://");
    for (url, ca_file) in [(plain, secured.ca_file()), (encrypted, String::new())] {
        let (status, log) = secured.launch(&stack, &url, &ca_file).run();
        assert!(!status.success() && log.contains("clickhouse_protocol"), "{log}");
        assert!(log.contains("https_port"), "{log}");
    }
}

#[test]
fn check_constructs_the_client() {
    let stack = Stack::without_topics();
    let check = |url: &str, ca_file: &str| {
        let config = format!("[clickhouse]\nurl = {url:?}\nca_file = {ca_file:?}\n");
        let launch = Launch::new("archive", env!("CARGO_BIN_EXE_archive"), &stack.cluster);
        launch.config(&config).argument("--check").run()
    };
    let (status, log) = check("https://clickhouse.example.com:8443", "/no/such.pem");
    assert!(!status.success() && log.contains("`clickhouse.ca_file`"), "{log}");
    let (status, log) = check("https://clickhouse.example.com:8443", "");
    assert!(status.success() && log.contains("settings are good"), "{log}");
}
