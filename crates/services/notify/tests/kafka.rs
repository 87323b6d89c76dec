//! The binary on a real Kafka: delivers at least once if it crashes, and not again after a clean end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::{Cluster, DEADLINE, Launch, Outgoing, Service, eventually, layout, seen};
use record::names;
use support::{FIRED, Hook, Posted, RESOLVED, alert};

const SECRET: &str = "whsec_YW4gaW52ZW50ZWQga2V5IG9mIDMyIGJ5dGVzLi4uLi4=";

/// Starts a process that delivers to the log and to `hook`.
fn start(cluster: &Cluster, hook: &Hook) -> Service {
    let url = hook.url();
    Launch::new("notify", env!("CARGO_BIN_EXE_notify"), cluster)
        .config(&format!(
            "[notify]\nretry_min = \"20ms\"\nretry_max = \"100ms\"\n\
             [[notify.channel]]\nkind = \"log\"\nname = \"log\"\n\
             [[notify.channel]]\nkind = \"webhook\"\nname = \"hook\"\nurl = \"{url}\"\n\
             secret = \"{SECRET}\"\n"
        ))
        .start()
}

/// Publishes alerts as monitor does.
fn publish(cluster: &Cluster, values: &[Vec<u8>]) {
    let record = |value| Outgoing::new(&cluster.topics.alerts, "scope", value);
    cluster.produce(&values.iter().map(record).collect::<Vec<_>>());
}

#[test]
fn transitions_survive_a_crash_and_are_not_repeated_after_a_clean_end() {
    let open = Arc::new(AtomicBool::new(false));
    let is_open = Arc::clone(&open);
    let hook = Hook::start(move |_| Some(if is_open.load(Ordering::SeqCst) { 200 } else { 503 }));
    let cluster = Cluster::without_topics("notify", layout(1, 1));

    // The receiver is unavailable, and the process is killed before it could deliver.
    let mut first = start(&cluster, &hook);
    let unreadable = b"not an alert".to_vec();
    publish(&cluster, &[alert(FIRED, "acme"), unreadable.clone(), alert(RESOLVED, "acme")]);
    hook.wait_for(2);
    first.kill();

    // Once the receiver is available, the next process delivers both transitions in order.
    let before = hook.posted().len();
    let mut second = start(&cluster, &hook);
    hook.wait_for(before + 1);
    open.store(true, Ordering::SeqCst);
    let posted = eventually("the resolution to be delivered", DEADLINE, || {
        let posted = hook.posted();
        seen(posted, |posted| posted.iter().any(|one| one.kind() == "alert.resolved"))
    });
    let mut kinds: Vec<_> = posted.iter().map(Posted::kind).collect();
    kinds.dedup();
    assert_eq!(kinds, ["alert.fired", "alert.resolved"]);
    // The receiver knows of the delivery before notify has its answer.
    second.await_metric("mailpulse_notify_pending_transitions", &[], |pending| pending == 0.0);
    second.stop();

    // Delivered transitions are committed: a third process begins after them.
    let before = hook.posted().len();
    let mut third = start(&cluster, &hook);
    publish(&cluster, &[alert(FIRED, "later")]);
    let posted = hook.wait_for(before + 1);
    assert_eq!(posted[before].source(), "later");
    third.stop();
    assert_eq!(hook.posted().len(), before + 1);

    assert_dead_letters(&cluster, &unreadable);
}

/// Delivers three alerts and stops. Returns how many requests the hook has got.
fn deliver_three(cluster: &Cluster, hook: &Hook) -> usize {
    let mut notify = start(cluster, hook);
    publish(cluster, &[alert(FIRED, "a"), alert(FIRED, "b"), alert(FIRED, "c")]);
    let posted = hook.wait_for(3).len();
    let group = cluster.topics.group("notify");
    eventually("the position to be written", DEADLINE, || {
        let records = cluster.read_settled(&cluster.topics.positions);
        let is_ours = |key: &[u8]| key.starts_with(group.as_bytes());
        let last = records.iter().rfind(|record| is_ours(&record.key));
        let value = last.map(|record| record.text().to_owned()).unwrap_or_default();
        seen(value, |value| value.starts_with("2 3 "))
    });
    notify.stop();
    posted
}

#[test]
fn lost_offsets_hold_the_partition_instead_of_repeating_every_alert() {
    let hook = Hook::start(|_| Some(200));
    let cluster = Cluster::without_topics("notify-lost", layout(1, 1));
    let posted = deliver_three(&cluster, &hook);
    cluster.delete_group(&cluster.topics.group("notify"));
    publish(&cluster, &[alert(FIRED, "later")]);
    let notify = start(&cluster, &hook);
    notify.await_unready("offset_lost");
    let labels = [("component", "notify"), ("reason", "offset_lost")];
    notify.await_metric("mailpulse_position_mismatch", &labels, |held| held == 1.0);
    assert_eq!(hook.posted().len(), posted, "nothing is delivered again");
}

#[test]
fn a_topic_that_was_created_again_holds_the_partition() {
    let hook = Hook::start(|_| Some(200));
    let cluster = Cluster::without_topics("notify-again", layout(1, 1));
    let posted = deliver_three(&cluster, &hook);
    cluster.delete_topic(&cluster.topics.alerts);
    let notify = start(&cluster, &hook);
    notify.await_unready("topic_recreated");
    publish(&cluster, &[alert(FIRED, "later")]);
    notify.await_unready("topic_recreated");
    assert_eq!(hook.posted().len(), posted);
}

/// The unreadable alert is a dead letter; a crash may have repeated it.
fn assert_dead_letters(cluster: &Cluster, value: &[u8]) {
    let dead_letters = cluster.read_settled(&cluster.topics.dead_letters);
    assert!(!dead_letters.is_empty());
    let origin = format!("{}/0/1", cluster.topics.alerts);
    for dead_letter in dead_letters {
        assert_eq!(dead_letter.value(), value);
        assert_eq!(dead_letter.header(names::STAGE), Some(&b"notify"[..]));
        assert_eq!(dead_letter.header(names::ORIGIN), Some(origin.as_bytes()));
    }
}
