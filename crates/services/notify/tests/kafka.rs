//! The binary on a real Kafka: at least once over a crash, and not again after a clean end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use record::Topics;
use kafka::{Connection, PreparedHeaders, Publisher, PublisherSettings};
use support::{FIRED, Hook, Posted, RESOLVED, alert, wait_until};

const SECRET: &str = "whsec_YW4gaW52ZW50ZWQga2V5IG9mIDMyIGJ5dGVzLi4uLi4=";

/// The binary's environment: this test's own topics and its own channels.
struct Notify {
    prefix: String,
    channels: String,
}

impl Notify {
    fn new(hook: &Hook) -> Self {
        let url = hook.url();
        let channels = format!(
            r#"[{{ kind = "log", name = "log" }},
               {{ kind = "webhook", name = "hook", url = "{url}", secret = "{SECRET}" }}]"#
        );
        Self { prefix: format!("t{}.", uuid::Uuid::new_v4().simple()), channels }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_notify"));
        command
            .env("MAILPULSE__KAFKA__BOOTSTRAP", devstack::shared_kafka())
            .env("MAILPULSE__KAFKA__PREFIX", &self.prefix)
            .env("MAILPULSE__TOPICS__REPLICATION", "1")
            .env("MAILPULSE__TOPICS__SCOPE_PARTITIONS", "1")
            .env("MAILPULSE__TOPICS__RECIPIENT_PARTITIONS", "1")
            .env("MAILPULSE__NOTIFY__ADMIN", "127.0.0.1:0")
            .env("MAILPULSE__NOTIFY__RETRY_MIN", "20ms")
            .env("MAILPULSE__NOTIFY__RETRY_MAX", "100ms")
            .env("MAILPULSE__NOTIFY__CHANNEL", &self.channels)
            .current_dir(std::env::temp_dir());
        command
    }

    fn start(&self) -> Running {
        Running(self.command().spawn().unwrap())
    }

    fn connection(&self) -> Connection {
        Connection {
            bootstrap: devstack::shared_kafka().to_owned(),
            instance: "test".to_owned(),
            compression: "none".to_owned(),
            ..Connection::default()
        }
    }

    /// Publishes as `monitor` would.
    fn publish(&self, values: &[Vec<u8>]) {
        let settings = PublisherSettings {
            linger: Duration::from_millis(1),
            queue_bytes: 1 << 20,
            ack_timeout: Some(Duration::from_secs(20)),
        };
        let topics = Topics::new(&self.prefix);
        let publisher = Publisher::open(&self.connection(), settings).unwrap();
        let batch = publisher.batch();
        for value in values {
            batch.send(&topics.alerts, b"scope", value, &PreparedHeaders::new(&[])).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(batch.acknowledged()).unwrap();
    }

    fn await_topics(&self) {
        let topics = Topics::new(&self.prefix);
        wait_until("the topic", || {
            let counts = kafka::admin::partition_counts(&self.connection()).ok()?;
            counts.get(&topics.alerts).copied()
        });
    }
}

struct Running(Child);

impl Running {
    /// As `kill -9` does.
    fn crash(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// As an orchestrator does; returns whether it ended well.
    fn stop(mut self) -> bool {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        wait_until("the process to end", || self.0.try_wait().unwrap()).success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn transitions_survive_a_crash_and_are_not_repeated_after_a_clean_end() {
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let hook = Hook::start(move |_| Some(if gate.load(Ordering::SeqCst) { 200 } else { 503 }));
    let notify = Notify::new(&hook);

    // The receiver is away; the process dies with the page undelivered.
    let first = notify.start();
    notify.await_topics();
    notify.publish(&[alert(FIRED, "acme"), b"not an alert".to_vec(), alert(RESOLVED, "acme")]);
    hook.wait_for(2);
    first.crash();

    // The next one delivers it once the receiver is back, in order, past what is no alert.
    let before = hook.posted().len();
    let second = notify.start();
    hook.wait_for(before + 1);
    open.store(true, Ordering::SeqCst);
    let posted = wait_until("the resolution", || {
        let posted = hook.posted();
        posted.iter().any(|one| one.kind() == "alert.resolved").then_some(posted)
    });
    let mut kinds: Vec<_> = posted.iter().map(Posted::kind).collect();
    kinds.dedup();
    assert_eq!(kinds, ["alert.fired", "alert.resolved"]);
    assert!(second.stop(), "SIGTERM is a clean end");

    // What was delivered is committed: a third start begins behind it.
    let before = hook.posted().len();
    let third = notify.start();
    notify.publish(&[alert(FIRED, "later")]);
    let posted = hook.wait_for(before + 1);
    assert_eq!(posted[before].source(), "later");
    assert!(third.stop());
    assert_eq!(hook.posted().len(), before + 1);
}
