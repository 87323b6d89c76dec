use super::*;

const TOPICS: [&str; 2] = ["bounced", "delivered"];
const START: i64 = 1_795_255_200_000_000;

fn name(topic: &str) -> TopicPartition {
    TopicPartition { topic: topic.to_owned(), partition: 3 }
}

fn log_time() -> LogTime {
    let mut log_time = LogTime::new(TOPICS.len());
    TOPICS.iter().for_each(|topic| log_time.assign(&name(topic), ""));
    log_time
}

fn record(id: &str, seconds: i64) -> TimeRecord<'_> {
    TimeRecord { time: START + seconds * SECOND, id: Some(id), is_last: false }
}

/// Returns the published time in seconds since the start.
fn receive(log_time: &mut LogTime, topic: &str, id: &str, seconds: i64) -> Option<i64> {
    let publish = log_time.receive(topic, 3, &record(id, seconds)).publish;
    publish.map(|time| (time - START) / SECOND)
}

/// The ingress writes its time to all partitions. Returns the last time that was published.
fn round(log_time: &mut LogTime, id: &str, seconds: i64) -> Option<i64> {
    TOPICS.iter().filter_map(|topic| receive(log_time, topic, id, seconds)).last()
}

#[test]
fn the_merged_time_is_the_least_of_all_partitions_and_ingresses() {
    let mut log_time = log_time();
    assert_eq!(receive(&mut log_time, "bounced", "a", 5), None, "nothing of `delivered`");
    assert_eq!(receive(&mut log_time, "delivered", "a", 4), Some(4));
    assert_eq!(receive(&mut log_time, "delivered", "a", 7), Some(5), "`bounced` is at 5");
    assert_eq!(receive(&mut log_time, "delivered", "b", 3), None, "it never goes back");
    assert_eq!(receive(&mut log_time, "bounced", "b", 9), None);
    assert_eq!(receive(&mut log_time, "bounced", "a", 9), None, "b is at 3 in `delivered`");
    assert_eq!(receive(&mut log_time, "delivered", "b", 8), Some(7));
}

#[test]
fn a_step_below_a_second_is_not_published() {
    let mut log_time = log_time();
    assert_eq!(round(&mut log_time, "a", 0), Some(0));
    for topic in TOPICS {
        let record = TimeRecord { time: START + SECOND - 1, ..record("a", 0) };
        assert_eq!(log_time.receive(topic, 3, &record).publish, None);
    }
    assert_eq!(round(&mut log_time, "a", 1), Some(1));
}

#[test]
fn only_the_owner_of_all_partitions_of_a_number_publishes() {
    let mut log_time = log_time();
    log_time.release(&name("bounced"));
    assert_eq!(round(&mut log_time, "a", 1), None);
    log_time.assign(&name("bounced"), "");
    assert_eq!(round(&mut log_time, "a", 2), Some(2));
}

#[test]
fn a_dead_ingress_holds_the_time_for_a_minute() {
    let mut log_time = log_time();
    round(&mut log_time, "a", 0);
    round(&mut log_time, "b", 0);
    let published: Vec<_> =
        (1..=62).filter_map(|second| round(&mut log_time, "a", second)).collect();
    assert_eq!(published, [61, 62]);
    // It is back.
    round(&mut log_time, "b", 62);
    assert_eq!(round(&mut log_time, "a", 64), None);
    assert_eq!(round(&mut log_time, "b", 63), Some(63));
}

#[test]
fn an_ingress_that_stops_holds_nothing() {
    let mut log_time = log_time();
    round(&mut log_time, "a", 0);
    round(&mut log_time, "b", 0);
    for topic in TOPICS {
        log_time.receive(topic, 3, &TimeRecord { is_last: true, ..record("b", 1) });
    }
    assert_eq!(round(&mut log_time, "a", 2), Some(2));
}

#[test]
fn a_clock_that_is_ahead_is_ignored_until_it_is_right() {
    let mut log_time = log_time();
    for second in 0..5 {
        round(&mut log_time, "a", second);
        round(&mut log_time, "b", second);
    }
    // The clock of b jumps by an hour.
    for second in 5..200 {
        let merged = log_time.receive("bounced", 3, &record("b", second + 3600));
        assert_eq!(merged, Merged { publish: None, is_ignored: second > 5 }, "second {second}");
        log_time.receive("delivered", 3, &record("b", second + 3600));
        assert_eq!(round(&mut log_time, "a", second), Some(second));
    }
    assert!(log_time.ignored.contains("b"));
    // It is right again after an hour.
    assert_eq!(round(&mut log_time, "a", 3790), Some(3790));
    assert_eq!(round(&mut log_time, "b", 3800), None);
    assert_eq!(round(&mut log_time, "a", 3801), Some(3800));
    assert!(log_time.ignored.is_empty());
}

#[test]
fn of_three_clocks_the_one_that_is_ahead_is_ignored_although_it_was_first() {
    let mut log_time = log_time();
    assert_eq!(round(&mut log_time, "wrong", 3600), Some(3600), "there are no others yet");
    for second in 0..100 {
        for id in ["wrong", "a", "b"] {
            let offset = if id == "wrong" { 3600 } else { 0 };
            let published = round(&mut log_time, id, second + offset);
            assert_eq!(published.filter(|time| *time < 3600), None, "it never goes back");
        }
    }
}

#[test]
fn the_only_ingress_is_accepted_after_a_pause_of_hours() {
    let mut log_time = log_time();
    round(&mut log_time, "old", 0);
    let first = (0..100).find_map(|second| round(&mut log_time, "new", 7200 + second));
    assert_eq!(first, Some(7261), "the old one is taken for dead after a minute");
}

#[test]
fn an_ingress_that_publishes_its_spool_holds_nothing_and_makes_no_other_look_wrong() {
    let mut log_time = log_time();
    for second in 0..5 {
        round(&mut log_time, "a", second);
        round(&mut log_time, "b", second);
    }
    for second in 5..1200 {
        // The time of b is held, then it advances slowly.
        round(&mut log_time, "b", if second < 900 { 4 } else { 4 + (second - 900) / 2 });
        let published = round(&mut log_time, "a", second);
        assert_eq!(published, (second > 64).then_some(second), "second {second}");
    }
    assert_eq!(round(&mut log_time, "b", 1201), None);
    assert_eq!(round(&mut log_time, "a", 1201), Some(1201));
}

#[test]
fn a_new_process_continues_from_the_metadata_of_the_offsets() {
    let mut log_time = log_time();
    for second in 0..30 {
        round(&mut log_time, "a", second);
        round(&mut log_time, "b", 0);
    }
    let metadata = TOPICS.map(|topic| log_time.metadata(&name(topic)));
    assert_eq!(metadata[0], format!("{START};a,{},0;b,{START},29000", START + 29 * SECOND));
    let mut restored = LogTime::new(TOPICS.len());
    for (topic, metadata) in TOPICS.iter().zip(&metadata) {
        restored.assign(&name(topic), metadata);
    }
    for second in 30..100 {
        let expected = round(&mut log_time, "a", second);
        assert_eq!(round(&mut restored, "a", second), expected, "second {second}");
        assert_eq!(expected, (second > 60).then_some(second));
    }
    let metadata = TOPICS.map(|topic| log_time.metadata(&name(topic)));
    assert_eq!(TOPICS.map(|topic| restored.metadata(&name(topic))), metadata);
}

#[test]
fn a_rolled_back_batch_has_no_effect() {
    let mut log_time = log_time();
    round(&mut log_time, "a", 0);
    log_time.committed();
    let before = log_time.numbers.clone();
    assert_eq!(round(&mut log_time, "a", 5), Some(5));
    log_time.rolled_back();
    assert_eq!(log_time.numbers, before);
    assert_eq!(round(&mut log_time, "a", 5), Some(5), "the batch is read again");
}

#[test]
fn the_metadata_is_bounded_and_other_text_is_ignored() {
    let mut log_time = log_time();
    let id = |number: usize| format!("{number:0>width$}", width = TimeRecord::MAX_ID_BYTES);
    for number in 0..2 * MAX_IDS {
        round(&mut log_time, &id(number), i64::try_from(number).unwrap());
    }
    let metadata = log_time.metadata(&name("bounced"));
    assert!(metadata.len() < 3_900, "{} bytes and a ledger", metadata.len());
    let (_, partition) = Partition::from_metadata(&metadata).unwrap();
    assert_eq!(partition.ingresses.len(), MAX_IDS);
    for wrong in ["x", "5;a", "5;a,b,c", "5;a b,1,2", ";", "5;a,1"] {
        assert_eq!(Partition::from_metadata(wrong), None, "{wrong}");
    }
    assert_eq!(Partition::from_metadata(""), Some((None, Partition::default())));
}
