//! The real binary on a real Kafka: whatever becomes of its members, the output is the input
//! without its repeats.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Cluster, Event, Member, PARTITIONS, traffic, wipe};
use event::Kind;
use record::{DEAD_LETTER_REASONS, Reason, names};

/// Small transactions, so that a short test has many.
const SMALL: &str = "batch_records = 200\nbatch_wait = \"5ms\"";

#[test]
fn repeats_within_a_batch_and_across_batches_are_dropped_and_counted() {
    let cluster = Cluster::new();
    let events = traffic(6_000, 1);
    cluster.produce(&events[..3_000]);
    let mut member = Member::start(&cluster, "", SMALL);
    member.await_ready();
    cluster.produce(&events[3_000..]);
    cluster.await_all_read();
    let passed = cluster.judge();
    assert!((4_500..5_500).contains(&passed), "{passed}: the traffic has repeats");
    let duplicates = member.counter("mailpulse_duplicates_total");
    assert_eq!(duplicates as usize, events.len() - passed, "accepted = passed + duplicates");
    member.stop();
}

#[test]
fn a_member_killed_again_and_again_passes_each_event_once() {
    let cluster = Cluster::new();
    let events = traffic(24_000, 2);
    let mut home = tempfile::tempdir().unwrap();
    let mut killed_at_work = 0;
    for (round, part) in events.chunks(8_000).enumerate() {
        cluster.produce(part);
        let mut member = Member::resume(home, &cluster, "one", SMALL);
        member.await_ready();
        cluster.await_committed(round as i64 * 8_000 + 500);
        let committed = cluster.committed() as usize;
        home = member.kill();
        // A busy machine may let it finish before it is killed; not every time.
        killed_at_work += usize::from(committed < (round + 1) * 8_000);
        if round == 1 {
            wipe(home.path());
        }
    }
    assert!(killed_at_work > 0, "it was never killed in the middle of its work");
    let mut member = Member::resume(home, &cluster, "one", SMALL);
    member.await_ready();
    cluster.await_all_read();
    cluster.judge();
    let restored = |from| member.log().matches(from).count() as i32;
    assert!(restored(" from=") >= PARTITIONS, "files that were kept were used");
    assert!(!member.log().contains("starting anew"), "and believed");
}

#[test]
fn members_that_come_and_go_pass_each_event_once() {
    let cluster = Cluster::new();
    let events = traffic(12_000, 3);
    let mut parts = events.chunks(3_000);
    let mut produce = || cluster.produce(parts.next().unwrap());

    produce();
    let mut stays = Member::start(&cluster, "stays", SMALL);
    stays.await_ready();
    produce();
    let mut leaves = Member::start(&cluster, "leaves", SMALL);
    leaves.await_ready();
    produce();
    cluster.await_committed(6_500); // into the third part
    let home = leaves.stop();
    cluster.await_all_read();
    cluster.judge();

    // It comes back with files that are behind by now.
    let mut leaves = Member::resume(home, &cluster, "leaves", SMALL);
    leaves.await_ready();
    produce();
    cluster.await_all_read();
    cluster.judge();
    leaves.stop();
    stays.stop();
}

#[test]
fn what_has_no_headers_goes_to_dead_letters_whole() {
    let cluster = Cluster::new();
    cluster.produce_bare("ada@example.com");
    let _member = Member::start(&cluster, "", SMALL);
    cluster.await_all_read();
    let dead = cluster.read(&cluster.topics.dead_letters);
    assert_eq!(dead.len(), 1);
    let text = |name| std::str::from_utf8(dead[0].header(name).unwrap()).unwrap();
    assert_eq!(text(names::REASON), Reason::BadHeaders.code());
    assert!(DEAD_LETTER_REASONS.contains(&Reason::BadHeaders));
    assert_eq!(text(names::STAGE), "dedupe");
    assert!(text(names::DETAIL).contains(names::EVENT_ID));
    assert!(text(names::ORIGIN).starts_with(&cluster.topics.enriched));
    assert_eq!(dead[0].key, b"ada@example.com");
    assert_eq!(dead[0].value.as_deref(), Some(&b"bare"[..]));
    assert!(cluster.read(&cluster.topics.events).is_empty());
}

#[test]
fn beyond_the_horizon_repeats_pass_and_are_the_first_of_nothing() {
    const HOUR: i64 = 3_600_000_000;
    let cluster = Cluster::new();
    let event = |id, hour: i64| Event {
        key: "ada@example.com".to_owned(),
        id,
        kind: Kind::Clicked,
        engagement: id,
        occurred_at: 1_780_000_000_000_000 + hour * HOUR,
    };
    let member = Member::start(&cluster, "", &format!("{SMALL}\nhorizon = \"2h\""));
    cluster.produce(&[event(1, 0), event(1, 0)]);
    let later: Vec<_> = (0..2_000).map(|number| event(100 + number, 5)).collect();
    cluster.produce(&later);
    cluster.await_all_read();
    cluster.produce(&[event(1, 0), event(2, 3), event(2, 3)]);
    cluster.await_all_read();
    let passed = cluster.read(&cluster.topics.events);
    let first_of = |seed| {
        let id = common::id(seed);
        let same = passed.iter().filter(move |r| r.header(names::EVENT_ID) == Some(&id.0[..]));
        same.map(|record| record.header(names::FIRST).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(first_of(1), [&b"kind,engagement"[..], b""]);
    assert_eq!(first_of(2), [b"kind,engagement"]);
    assert_eq!(member.counter("mailpulse_beyond_horizon_total"), 1.0);
    assert_eq!(member.counter("mailpulse_duplicates_total"), 2.0);
}
