//! The binary on a real Kafka: delivers at least once if it crashes, and not again after a clean end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alerting::Change::{self, Opened, Resolved};
use harness::{Cluster, DEADLINE, Launch, Outgoing, Service, eventually, layout, seen};
use record::names;
use support::alertmanager::Alertmanager;
use support::{Hook, Posted, sample};

const SECRET: &str = "whsec_YW4gaW52ZW50ZWQga2V5IG9mIDMyIGJ5dGVzLi4uLi4=";

/// Starts a process that delivers to the log and to `hook`.
fn start(cluster: &Cluster, hook: &Hook) -> Service {
    let url = hook.url();
    Launch::new("notify", env!("CARGO_BIN_EXE_notify"), cluster)
        .config(&format!(
            "[notify]\nretry_min = \"20ms\"\nretry_max = \"100ms\"\n\
             [[notify.channel]]\nkind = \"log\"\nname = \"log\"\n\
             [[notify.channel]]\nkind = \"webhook\"\nname = \"hook\"\nurl = \"{url}\"\n\
             secret = \"{SECRET}\"\n\
             allow_private = true\n"
        ))
        .start()
}

fn cluster(name: &str) -> Cluster {
    Cluster::without_topics(name, layout(1, 1))
}

fn value(change: Change, seq: u32, source: &str) -> Vec<u8> {
    sample::incident(change, seq, source).to_string().into_bytes()
}

/// Publishes incidents as monitor does.
fn publish(cluster: &Cluster, values: &[Vec<u8>]) {
    let record = |value| Outgoing::new(&cluster.topics.incidents, "incident", value);
    cluster.produce(&values.iter().map(record).collect::<Vec<_>>());
}

#[test]
fn changes_survive_a_crash_and_are_not_repeated_after_a_clean_end() {
    let open = Arc::new(AtomicBool::new(false));
    let is_open = Arc::clone(&open);
    let hook = Hook::start(move |_| Some(if is_open.load(Ordering::SeqCst) { 200 } else { 503 }));
    let cluster = cluster("notify");

    // The receiver is unavailable, and the process is killed before it could deliver.
    let mut first = start(&cluster, &hook);
    let unreadable = b"not an incident".to_vec();
    publish(&cluster, &[value(Opened, 1, "acme"), unreadable.clone(), value(Resolved, 2, "acme")]);
    hook.wait_for(2);
    first.kill();

    // Once the receiver is available, the next process delivers both changes in order.
    let before = hook.posted().len();
    let mut second = start(&cluster, &hook);
    hook.wait_for(before + 1);
    open.store(true, Ordering::SeqCst);
    let posted = eventually("the resolution to be delivered", DEADLINE, || {
        let posted = hook.posted();
        seen(posted, |posted| posted.iter().any(|one| one.kind() == "incident.resolved"))
    });
    let mut kinds: Vec<_> = posted.iter().map(Posted::kind).collect();
    kinds.dedup();
    assert_eq!(kinds, ["incident.opened", "incident.resolved"]);
    // The receiver knows of the delivery before notify has its answer.
    second.await_metric("mailpulse_notify_pending_transitions", &[], |pending| pending == 0.0);
    second.stop();

    // Delivered changes are committed: a third process begins after them.
    let before = hook.posted().len();
    let mut third = start(&cluster, &hook);
    publish(&cluster, &[value(Opened, 1, "later")]);
    let posted = hook.wait_for(before + 1);
    assert_eq!(posted[before].source(), "later");
    third.stop();
    assert_eq!(hook.posted().len(), before + 1);

    assert_dead_letters(&cluster, &unreadable);
}

/// Delivers three incidents and stops. Returns how many requests the hook has got.
fn deliver_three(cluster: &Cluster, hook: &Hook) -> usize {
    let mut notify = start(cluster, hook);
    publish(cluster, &[value(Opened, 1, "a"), value(Opened, 1, "b"), value(Opened, 1, "c")]);
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
fn lost_offsets_hold_the_partition_instead_of_repeating_every_incident() {
    let hook = Hook::start(|_| Some(200));
    let cluster = cluster("notify-lost");
    let posted = deliver_three(&cluster, &hook);
    cluster.delete_group(&cluster.topics.group("notify"));
    publish(&cluster, &[value(Opened, 1, "later")]);
    let notify = start(&cluster, &hook);
    notify.await_unready("offset_lost");
    let labels = [("component", "notify"), ("reason", "offset_lost")];
    notify.await_metric("mailpulse_position_mismatch", &labels, |held| held == 1.0);
    assert_eq!(hook.posted().len(), posted, "nothing is delivered again");
}

#[test]
fn a_topic_that_was_created_again_holds_the_partition() {
    let hook = Hook::start(|_| Some(200));
    let cluster = cluster("notify-again");
    let posted = deliver_three(&cluster, &hook);
    cluster.delete_topic(&cluster.topics.incidents);
    let notify = start(&cluster, &hook);
    notify.await_unready("topic_recreated");
    publish(&cluster, &[value(Opened, 1, "later")]);
    notify.await_unready("topic_recreated");
    assert_eq!(hook.posted().len(), posted);
}

/// The unreadable record is a dead letter; a crash may have repeated it.
fn assert_dead_letters(cluster: &Cluster, value: &[u8]) {
    let dead_letters = cluster.read_settled(&cluster.topics.dead_letters);
    assert!(!dead_letters.is_empty());
    let origin = format!("{}/0/1", cluster.topics.incidents);
    for dead_letter in dead_letters {
        assert_eq!(dead_letter.value(), value);
        assert_eq!(dead_letter.header(names::STAGE), Some(&b"notify"[..]));
        assert_eq!(dead_letter.header(names::ORIGIN), Some(origin.as_bytes()));
    }
}

#[test]
fn what_a_channel_rejects_is_a_dead_letter_and_only_that_channel_gets_it_again() {
    let is_open = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&is_open);
    let hook = Hook::start(move |_| Some(if open.load(Ordering::SeqCst) { 200 } else { 410 }));
    let cluster = cluster("notify-rejected");
    let mut notify = start(&cluster, &hook);
    publish(&cluster, &[value(Opened, 1, "acme")]);
    let dead_letter = eventually("the dead letter", DEADLINE, || {
        cluster.read_settled(&cluster.topics.dead_letters).pop()
    });
    assert_eq!(dead_letter.value(), value(Opened, 1, "acme"));
    assert_eq!(dead_letter.header("channel"), Some(&b"hook"[..]));
    let detail = String::from_utf8_lossy(dead_letter.header(names::DETAIL).unwrap()).into_owned();
    assert!(detail.contains("410 Gone"), "{detail}");
    notify.await_metric("mailpulse_notify_pending_transitions", &[], |pending| pending == 0.0);

    is_open.store(true, Ordering::SeqCst);
    let logged = || notify.log().matches("incident opened").count();
    assert_eq!(logged(), 1);
    let again = Outgoing::new(&cluster.topics.incidents, "incident", value(Opened, 1, "acme"))
        .header("channel", "hook")
        .header(names::REDRIVEN, "notify");
    cluster.produce(&[again]);
    hook.wait_for(2);
    notify.await_metric("mailpulse_notify_pending_transitions", &[], |pending| pending == 0.0);
    assert_eq!(logged(), 1, "the log has it already");
    notify.stop();
}

#[test]
fn a_killed_process_and_a_killed_alertmanager_forget_no_open_incident() {
    let pager = Hook::start(|_| Some(200));
    let mut alertmanager = Alertmanager::start(&pager);
    let cluster = cluster("notify-resend");
    let channel = format!(
        "[[notify.channel]]\nkind = \"alertmanager\"\nname = \"am\"\nurl = \"http://{}\"\nresend = \
         \"1s\"\nexpires_after = \"30s\"\n",
        alertmanager.address
    );
    let mut notify =
        Launch::new("notify", env!("CARGO_BIN_EXE_notify"), &cluster).config(&channel).start();
    publish(&cluster, &[value(Opened, 1, "acme"), value(Opened, 1, "b"), value(Resolved, 2, "b")]);
    alertmanager.await_active(&["warning"]);
    cluster.await_all_read(&cluster.topics.group("notify"), &cluster.topics.incidents);

    notify.kill();
    alertmanager.kill_and_forget();
    alertmanager.await_active(&[]);
    notify.restart();
    let alert = alertmanager.await_active(&["warning"]).remove(0);
    assert_eq!(alert["labels"]["source"], "acme");
    notify.await_metric("mailpulse_notify_open_incidents", &[("channel", "am")], |n| n == 1.0);
    notify.await_metric("mailpulse_notify_resend_age_seconds", &[("channel", "am")], |n| n < 5.0);

    publish(&cluster, &[value(Resolved, 2, "acme")]);
    alertmanager.await_active(&[]);
    notify.await_metric("mailpulse_notify_open_incidents", &[("channel", "am")], |n| n == 0.0);
    notify.stop();
}

/// The partition of an incident moves to the second process when the first one ends, and with it the duty
/// to send the incident again.
#[test]
fn only_the_owner_of_a_partition_sends_its_incidents_again() {
    let pager = Hook::start(|_| Some(200));
    let alertmanager = Alertmanager::start(&pager);
    let cluster = cluster("notify-owners");
    let channel = format!(
        "[[notify.channel]]\nkind = \"alertmanager\"\nname = \"am\"\nurl = \"http://{}\"\nresend = \
         \"1s\"\nexpires_after = \"4s\"\n",
        alertmanager.address
    );
    let launch =
        || Launch::new("notify", env!("CARGO_BIN_EXE_notify"), &cluster).config(&channel).start();
    let open =
        |service: &Service| service.metric("mailpulse_notify_open_incidents", &[("channel", "am")]);
    let first = launch();
    publish(&cluster, &[value(Opened, 1, "acme")]);
    alertmanager.await_active(&["warning"]);
    let second = launch();
    // The group gives the only partition to one of them.
    eventually("one owner", DEADLINE, || seen((open(&first), open(&second)), |n| n.0 + n.1 == 1.0));
    let (mut owner, mut other) =
        if open(&first) == 1.0 { (first, second) } else { (second, first) };
    owner.stop();
    other.await_metric("mailpulse_notify_open_incidents", &[("channel", "am")], |n| n == 1.0);
    publish(&cluster, &[value(Resolved, 2, "acme")]);
    alertmanager.await_active(&[]);
    other.stop();
}
