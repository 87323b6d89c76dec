//! The real binary on a real Kafka: whatever happens to its members, the output is the input without
//! duplicates.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Cluster, Event, PARTITIONS, delete_state, traffic};
use event::Kind;
use harness::{DEADLINE, Outgoing, Record, eventually, seen};
use record::{DEAD_LETTER_REASONS, Reason, TimeRecord, names};

/// Small transactions, so that a short test has many. Values are no JSON, so no event may be marked.
const SMALL: &str = "batch_records = 200\nbatch_wait = \"5ms\"\nimmediate_within = \"0s\"";

#[test]
fn duplicates_within_a_batch_and_across_batches_are_dropped_and_counted() {
    let cluster = Cluster::new();
    let events = traffic(6_000, 1);
    cluster.produce_events(&events[..3_000]);
    let mut member = cluster.member("", SMALL).start();
    cluster.produce_events(&events[3_000..]);
    cluster.await_all_processed();
    let passed = cluster.assert_output();
    assert!((4_500..5_500).contains(&passed), "{passed}: the traffic has duplicates");
    // Input is the sum of passed records and duplicates.
    let duplicates = (events.len() - passed) as f64;
    member.await_metric("mailpulse_dedupe_duplicates_total", &[], |counted| counted == duplicates);
    member.stop();
}

#[test]
fn a_member_killed_repeatedly_passes_each_event_once() {
    let cluster = Cluster::new();
    let events = traffic(24_000, 2);
    let mut member = cluster.member("one", SMALL).spawn();
    member.kill();
    let mut killed_at_work = 0;
    for (number, part) in events.chunks(8_000).enumerate() {
        cluster.produce_events(part);
        member.restart();
        cluster.await_processed(number as i64 * 8_000 + 500);
        let processed = cluster.processed() as usize;
        member.kill();
        // A member may finish before it is killed, but not every time.
        killed_at_work += usize::from(processed < (number + 1) * 8_000);
        if number == 1 {
            delete_state(&member);
        }
    }
    assert!(killed_at_work > 0, "the member was never killed in the middle of its work");
    member.restart();
    cluster.await_all_processed();
    cluster.assert_output();

    // A member that stops writes the files of all its partitions, and the next one starts from them.
    let restored_from_files = |log: &str| log.matches(" from=").count() as i32;
    let before = restored_from_files(&member.log());
    member.stop();
    member.restart();
    eventually("the partitions to be restored from local files", DEADLINE, || {
        let restored = restored_from_files(&member.log()) - before;
        seen(restored, |restored| *restored >= PARTITIONS)
    });
    let log = member.log();
    assert!(!log.contains("discarding"), "local files were discarded:\n{log}");
}

#[test]
fn members_that_join_and_leave_pass_each_event_once() {
    let cluster = Cluster::new();
    let events = traffic(12_000, 3);
    let mut parts = events.chunks(3_000);
    let mut produce = || cluster.produce_events(parts.next().unwrap());

    produce();
    let mut stays = cluster.member("stays", SMALL).start();
    produce();
    let mut leaves = cluster.member("leaves", SMALL).start();
    produce();
    cluster.await_processed(6_500); // into the third part
    leaves.stop();
    cluster.await_all_processed();
    cluster.assert_output();

    // It returns with files that are older than the changelog.
    leaves.restart();
    produce();
    cluster.await_all_processed();
    cluster.assert_output();
    leaves.stop();
    stays.stop();
}

#[test]
fn a_record_without_headers_becomes_a_dead_letter() {
    let cluster = Cluster::new();
    cluster.produce(&[Outgoing::new(&cluster.topics.enriched, "ada@example.com", "bare")]);
    let _member = cluster.member("", SMALL).spawn();
    cluster.await_all_processed();
    let dead_letters = cluster.read_settled(&cluster.topics.dead_letters);
    assert_eq!(dead_letters.len(), 1);
    let dead_letter = &dead_letters[0];
    let text = |name| std::str::from_utf8(dead_letter.header(name).unwrap()).unwrap();
    assert_eq!(text(names::REASON), Reason::BadHeaders.code());
    assert!(DEAD_LETTER_REASONS.contains(&Reason::BadHeaders));
    assert_eq!(text(names::STAGE), "dedupe");
    assert!(text(names::DETAIL).contains(names::OCCURRED_AT));
    assert!(text(names::ORIGIN).starts_with(&cluster.topics.enriched));
    assert_eq!(dead_letter.key, b"ada@example.com");
    assert_eq!(dead_letter.value(), b"bare");
    assert!(cluster.read_settled(&cluster.topics.events).is_empty());
}

#[test]
fn time_records_pass_in_their_order_and_are_not_counted() {
    let cluster = Cluster::new();
    let event = |id: u64| Event {
        key: "ada@example.com".to_owned(),
        id,
        kind: Kind::Delivered,
        engagement: id,
        occurred_at: 1_780_000_000_000_000,
    };
    cluster.produce_events(&[event(1)]);
    let partition = cluster.read(&cluster.topics.enriched)[0].partition;
    let time = |time: i64| {
        let record = TimeRecord { time, id: None, is_last: false };
        let outgoing = Outgoing::new(&cluster.topics.enriched, "", "").on(partition);
        record.headers().fold(outgoing, |outgoing, (name, value)| outgoing.header(name, value))
    };
    cluster.produce(&[time(5), time(6)]);
    cluster.produce_events(&[event(2), event(1)]);
    cluster.produce(&[time(7)]);
    let member = cluster.member("", SMALL).spawn();
    cluster.await_all_processed();

    let passed = cluster.read_settled(&cluster.topics.events);
    let of = |record: &Record| match TimeRecord::read(&|name| record.header(name)) {
        Some(TimeRecord { time, id: None, is_last: false }) => format!("time {time}"),
        Some(other) => panic!("{other:?}"),
        None => record.text().to_owned(),
    };
    let found: Vec<_> = passed.iter().map(of).collect();
    assert_eq!(found, ["value of 1", "time 5", "time 6", "value of 2", "time 7"]);
    let sent: Vec<_> = cluster.read(&cluster.topics.enriched);
    let same = |record: &&Record| record.value() == b"";
    let (before, after) = (sent.iter().filter(same), passed.iter().filter(same));
    assert!(
        before
            .map(|it| (it.partition, &it.headers))
            .eq(after.map(|it| (it.partition, &it.headers)))
    );
    assert!(cluster.read_settled(&cluster.topics.dead_letters).is_empty());
    let committed = cluster.committed(&cluster.topics.group("dedupe"), &cluster.topics.enriched);
    let metadata = &committed[usize::try_from(partition).unwrap()].as_ref().unwrap().metadata;
    assert_eq!(metadata, "@3,2,1,0,0", "read, passed, dropped, dead letters, redriven");
    let processed = [("component", "dedupe")];
    member.await_metric("mailpulse_processed_records_total", &processed, |count| count == 3.0);
}

#[test]
fn duplicates_beyond_the_horizon_pass_and_are_the_first_of_nothing() {
    const HOUR: i64 = 3_600_000_000;
    let cluster = Cluster::new();
    let event = |id, hour: i64| Event {
        key: "ada@example.com".to_owned(),
        id,
        kind: Kind::Clicked,
        engagement: id,
        occurred_at: 1_780_000_000_000_000 + hour * HOUR,
    };
    let member = cluster.member("", &format!("{SMALL}\nhorizon = \"2h\"")).spawn();
    cluster.produce_events(&[event(1, 0), event(1, 0)]);
    let later: Vec<_> = (0..2_000).map(|number| event(100 + number, 5)).collect();
    cluster.produce_events(&later);
    cluster.await_all_processed();
    cluster.produce_events(&[event(1, 0), event(2, 3), event(2, 3)]);
    cluster.await_all_processed();
    let passed = cluster.read_settled(&cluster.topics.events);
    let first_of = |seed| {
        let id = common::id(seed);
        let same = passed.iter().filter(move |r| r.header(names::EVENT_ID) == Some(&id.0[..]));
        same.map(|record| record.header(names::FIRST).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(first_of(1), [&b"kind,engagement"[..], b""]);
    assert_eq!(first_of(2), [b"kind,engagement"]);
    let unjudged = passed.iter().filter(|record| record.header(names::UNJUDGED).is_some());
    let unjudged: Vec<_> = unjudged.map(|record| record.header(names::EVENT_ID).unwrap()).collect();
    assert_eq!(unjudged, [&common::id(1).0[..]], "archive looks for it in its table");
    member.await_metric("mailpulse_dedupe_beyond_horizon_total", &[], |counted| counted == 1.0);
    member.await_metric("mailpulse_dedupe_duplicates_total", &[], |counted| counted == 2.0);
}

#[test]
fn an_undated_event_that_is_posted_again_hours_later_passes_once() {
    const HOUR: i64 = 3_600_000_000;
    let cluster = Cluster::new();
    let event = |id, hour: i64| Event {
        key: "ada@example.com".to_owned(),
        id,
        kind: Kind::Bounced,
        engagement: id,
        occurred_at: 1_780_000_000_000_000 + hour * HOUR,
    };
    let member = cluster.member("", SMALL).spawn();
    for (id, hour) in [(1, 0), (1, 3), (2, 3), (1, 70)] {
        cluster.produce_undated(&event(id, hour));
    }
    cluster.await_all_processed();
    let passed = cluster.read_settled(&cluster.topics.events);
    let ids: Vec<_> = passed.iter().map(|record| record.header(names::EVENT_ID)).collect();
    let (one, two) = (common::id(1), common::id(2));
    assert_eq!(ids, [Some(&one.0[..]), Some(&two.0[..])]);
    member.await_metric("mailpulse_dedupe_duplicates_total", &[], |counted| counted == 2.0);
}
