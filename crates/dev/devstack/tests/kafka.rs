//! Tests a broker that is a child process: it keeps its data when it is killed, and ends with its
//! parent.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use devstack::{Dirs, Kafka, ServerKind, process, shared_kafka};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

/// For operations that take milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn a_killed_broker_restarts_with_its_data_on_the_same_port() {
    let dirs = Dirs::new().unwrap();
    let mut kafka = Kafka::start_own(&dirs).unwrap();
    assert_eq!(kafka.kind(), ServerKind::Child);
    let bootstrap = kafka.bootstrap().to_owned();
    create_topic(&bootstrap, "kept");
    produce_in_a_transaction(&bootstrap, "kept", &["one", "two"]);
    assert_eq!(consume(&bootstrap, "kept", 2), ["one", "two"]);

    let first = kafka.pid().unwrap();
    kafka.kill().unwrap();
    assert!(!is_alive(first));
    assert!(TcpStream::connect(&bootstrap).is_err(), "the port is closed");
    kafka.kill().expect("killing a dead broker does nothing");

    kafka.restart().unwrap();
    assert_eq!(kafka.bootstrap(), bootstrap);
    assert_ne!(kafka.pid().unwrap(), first);
    produce_in_a_transaction(&bootstrap, "kept", &["three"]);
    assert_eq!(consume(&bootstrap, "kept", 3), ["one", "two", "three"]);

    let (last, run) = (kafka.pid().unwrap(), dirs.run.clone());
    drop(dirs);
    assert!(run.is_dir(), "the data lives as long as the broker");
    drop(kafka);
    assert!(!is_alive(last), "stopped on drop");
    assert!(!run.exists(), "the data is removed with the broker");
}

#[test]
fn the_broker_of_a_killed_parent_ends() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report");
    // If this test fails, dropping the parent stops it.
    let mut parent = process::spawn(helper("park", &report), &dir.path().join("log")).unwrap();
    wait_until("the report of the parent", || report.exists());
    let text = std::fs::read_to_string(&report).unwrap();
    let (pid, bootstrap) = text.split_once(' ').unwrap();
    let pid = pid.parse().unwrap();
    assert!(is_alive(pid));
    assert!(TcpStream::connect(bootstrap).is_ok());

    parent.kill().unwrap(); // SIGKILL: no destructor runs.
    // The last thread of a dead process closes the sockets a moment later.
    let gone = || !is_alive(pid) && TcpStream::connect(bootstrap).is_err();
    wait_until("the end of the broker and of its listening socket", gone);
}

#[test]
fn an_external_cluster_is_used_and_never_stopped() {
    let dirs = Dirs::new().unwrap();
    let kafka = Kafka::start_own(&dirs).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report");
    let mut other = helper("use", &report);
    let status = other.env("MAILPULSE_KAFKA", kafka.bootstrap()).status().unwrap();
    assert!(status.success());
    let text = std::fs::read_to_string(&report).unwrap();
    assert_eq!(text, format!("External not_ours {0} {0}", kafka.bootstrap()));
    assert!(is_alive(kafka.pid().unwrap()), "the cluster still runs when its user has ended");

    let report = dir.path().join("bad-setting");
    let status = helper("use", &report).env("MAILPULSE_KAFKA", "nonsense").status().unwrap();
    assert!(status.success());
    assert_eq!(std::fs::read_to_string(&report).unwrap(), "bad_setting");
}

#[test]
fn the_error_of_a_broker_that_cannot_start_contains_the_reason() {
    let dirs = Dirs::new().unwrap();
    let mut kafka = Kafka::start_own(&dirs).unwrap();
    kafka.kill().unwrap();
    let occupied = TcpListener::bind(kafka.bootstrap()).unwrap();
    let error = kafka.restart().unwrap_err();
    assert_eq!(error.code(), "exited");
    assert!(error.to_string().contains("Address already in use"), "{error}");
    drop(occupied);
    kafka.restart().unwrap();
}

/// Not a test: the other process of the tests above, which start this binary again.
#[test]
#[ignore = "a process of the tests above"]
fn other_process() {
    let (Ok(role), Ok(report)) = (std::env::var("DEVSTACK_ROLE"), std::env::var("DEVSTACK_REPORT"))
    else {
        return;
    };
    let report = Path::new(&report);
    let dirs = Dirs::new().unwrap();
    if role == "park" {
        // From a thread that ends at once: the broker must end with the process, not with the thread.
        let start = move || Kafka::start_own(&dirs).unwrap();
        let kafka = thread::spawn(start).join().unwrap();
        write_report(report, &format!("{} {}", kafka.pid().unwrap(), kafka.bootstrap()));
        loop {
            thread::park();
        }
    }
    match Kafka::start(&dirs) {
        Ok(mut kafka) => {
            let code = kafka.kill().unwrap_err().code();
            let (kind, shared) = (kafka.kind(), shared_kafka());
            write_report(report, &format!("{kind:?} {code} {} {shared}", kafka.bootstrap()));
        }
        Err(error) => write_report(report, error.code()),
    }
}

/// Writes the report atomically, because the reader waits only until the file exists.
fn write_report(report: &Path, text: &str) {
    let draft = report.with_extension("draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(&draft, report).unwrap();
}

fn helper(role: &str, report: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "other_process", "--include-ignored", "--quiet"]);
    command.env("DEVSTACK_ROLE", role).env("DEVSTACK_REPORT", report).stdout(Stdio::null());
    command
}

/// Whether a process exists and is not a zombie (proc(5), `stat`: the state follows the name in
/// parentheses).
fn is_alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

fn create_topic(bootstrap: &str, name: &str) {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create().unwrap();
    let topic = NewTopic::new(name, 1, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let created = runtime.block_on(admin.create_topics(&[topic], &options)).unwrap();
    assert_eq!(created, [Ok(name.to_owned())]);
}

fn produce_in_a_transaction(bootstrap: &str, topic: &str, values: &[&str]) {
    let mut config = client(bootstrap);
    let producer: BaseProducer = config.set("transactional.id", "devstack-test").create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    for value in values {
        producer.send(BaseRecord::<str, str>::to(topic).payload(value)).unwrap();
    }
    producer.commit_transaction(PATIENCE).unwrap();
}

/// Reads the first `count` committed values of a topic with a new group of the KIP-848 protocol.
fn consume(bootstrap: &str, topic: &str, count: usize) -> Vec<String> {
    let mut config = client(bootstrap);
    config.set("group.id", format!("devstack-test-{count}")).set("group.protocol", "consumer");
    config.set("auto.offset.reset", "earliest").set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let mut values = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while values.len() < count {
        assert!(Instant::now() < deadline, "got only {values:?}");
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            values.push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into());
        }
    }
    values
}
