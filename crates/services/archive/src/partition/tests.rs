use super::*;

const LIMITS: Limits = Limits { rows: 4, bytes: 1 << 20, bad_in_a_row: 3 };

fn partition(next: Option<i64>, pending: Option<(i64, i64)>) -> Partition {
    let partition = TopicPartition { topic: "mail.dead-letters".into(), partition: 3 };
    let pending = pending.map(range);
    Partition::new(
        Assignment { partition, next, pending, tally: Tally::default() },
        Table::DeadLetters,
        1,
    )
}

fn range((first, last): (i64, i64)) -> Range {
    Range { first, last }
}

fn arrived(offset: i64) -> Arrived {
    Arrived { offset, bytes: 10, again: false }
}

fn record(offset: i64) -> OwnedRecord {
    OwnedRecord {
        topic: "mail.dead-letters".into(),
        partition: 3,
        offset,
        key: Vec::new(),
        value: None,
        headers: Vec::new(),
    }
}

fn feed(partition: &mut Partition, offsets: impl IntoIterator<Item = i64>) {
    for offset in offsets {
        let push = |rows: &mut Rows| {
            let Rows::DeadLetters(rows) = rows else { unreachable!() };
            let at = crate::tables::Coordinates { partition: 3, offset: offset.cast_unsigned() };
            rows.push(at, b"", b"", &[]);
            Ok(())
        };
        assert!(partition.record(arrived(offset), LIMITS, push, || record(offset)));
    }
}

fn feed_bad(partition: &mut Partition, offset: i64) -> bool {
    let bad = BadRow { reason: record::Reason::NotJson, detail: String::new() };
    partition.record(arrived(offset), LIMITS, |_| Err(bad), || record(offset))
}

/// Sends the next batch off: its token's end, its rows, and whether its range is to be recorded.
fn fly(partition: &mut Partition) -> Option<(String, usize, bool)> {
    partition.next_batch()?;
    let batch = partition.take_off()?;
    let token = batch.token();
    let (_, range) = token.rsplit_once('/')?;
    Some((range.to_owned(), batch.block.rows, batch.pending.is_none()))
}

fn flown(range: &str, rows: usize, to_record: bool) -> Option<(String, usize, bool)> {
    Some((range.to_owned(), rows, to_record))
}

#[test]
fn ranges_follow_each_other_over_gaps() {
    let mut p = partition(Some(10), None);
    feed(&mut p, [12, 13, 15, 16, 18, 19]);
    assert_eq!(fly(&mut p), flown("10-16", 4, true));
    assert_eq!(fly(&mut p), None, "one at a time");
    p.landed();
    assert_eq!(p.unacknowledged(), Some(17));
    p.close_if_due(Duration::ZERO, Instant::now());
    assert_eq!(fly(&mut p), flown("17-19", 2, true));
    assert_eq!(p.unacknowledged(), None, "its mark says so");
}

#[test]
fn a_batch_waits_its_time_and_no_longer() {
    let mut p = partition(None, None);
    let wait = Duration::from_secs(1);
    assert_eq!(p.due(wait), None);
    feed(&mut p, [7]);
    p.close_if_due(wait, Instant::now());
    assert_eq!(fly(&mut p), None);
    p.close_if_due(wait, Instant::now() + wait);
    assert_eq!(fly(&mut p), flown("7-7", 1, true));
    feed(&mut p, [8]);
    assert_eq!(p.due(wait), None, "or the loop would spin until the first has landed");
    p.landed();
    assert!(p.due(wait).is_some());
}

#[test]
fn a_pending_range_ends_where_it_ended() {
    let mut p = partition(Some(10), Some((10, 18)));
    assert_eq!(p.to_look_at(), Some(range((10, 18))));
    feed(&mut p, [10]);
    p.looked(Found::default());
    assert_eq!(p.to_seek(), Some(10), "what came meanwhile comes again");
    feed(&mut p, [11]);
    p.sought();
    feed(&mut p, 10..=14);
    p.close_if_due(Duration::ZERO, Instant::now());
    assert_eq!(fly(&mut p), None, "neither rows nor time end it");
    feed(&mut p, 15..=20);
    assert_eq!(fly(&mut p), flown("10-18", 9, false));
    p.landed();
    p.close_if_due(Duration::ZERO, Instant::now());
    assert_eq!(fly(&mut p), flown("19-20", 2, true));
}

#[test]
fn a_pending_range_whose_last_record_is_gone_ends_before_the_next() {
    let mut p = partition(Some(10), Some((10, 18)));
    p.looked(Found::default());
    p.sought();
    feed(&mut p, [16, 25]);
    assert_eq!(fly(&mut p), flown("10-18", 1, false));
}

#[test]
fn what_is_there_is_not_sent_again_once_it_is_forgotten() {
    let found = |recognised| Found { offsets: vec![10, 11, 13], recognised };
    for (recognised, token, rows) in [(true, "10-13", 4), (false, "10-13-without-3", 1)] {
        let mut p = partition(Some(10), Some((10, 13)));
        p.looked(found(recognised));
        p.sought();
        feed(&mut p, 10..=13);
        assert_eq!(fly(&mut p), flown(token, rows, false));
    }
    let mut p = partition(Some(10), Some((10, 11)));
    p.looked(found(false));
    p.sought();
    feed(&mut p, 10..=12);
    assert_eq!(fly(&mut p), None, "nothing to do");
    assert_eq!(p.unacknowledged(), Some(12));
    assert_eq!(p.tally().passed, 2, "they are in the table all the same");
}

#[test]
fn an_insert_that_was_forgotten_is_built_anew_without_what_is_there() {
    let mut p = partition(Some(10), None);
    feed(&mut p, 10..=15);
    assert_eq!(fly(&mut p), flown("10-13", 4, true));
    p.looked(Found { offsets: vec![10, 11], recognised: false });
    assert_eq!(p.to_seek(), Some(10));
    p.sought();
    feed(&mut p, 10..=15);
    assert_eq!(fly(&mut p), flown("10-13-without-2", 2, false));
    p.landed();
    assert_eq!(p.unacknowledged(), Some(14));
    assert_eq!(p.tally(), Tally { read: 4, passed: 4, ..Tally::default() });
}

#[test]
fn a_refused_batch_is_halved_down_to_the_row() {
    let mut p = partition(Some(0), None);
    feed(&mut p, 0..=7);
    let mut refused = Vec::new();
    let mut inserted = Vec::new();
    // Row 2 is poison.
    while let Some((range, rows, to_record)) = fly(&mut p) {
        let (first, last) = range.split_once('-').unwrap();
        let poisoned = (first.parse().unwrap()..=last.parse().unwrap()).contains(&2);
        assert_eq!(to_record, ["0-3", "4-7"].contains(&&*range), "{range}");
        if !poisoned {
            inserted.push(range);
            p.landed();
            continue;
        }
        match p.refused().unwrap() {
            AfterRefusal::Halved => {
                let from = p.to_seek().unwrap();
                p.sought();
                feed(&mut p, from..=7);
            }
            AfterRefusal::OneRow(batch) => {
                assert_eq!((rows, batch.refusal("no").unwrap().record.offset), (1, 2));
                p.given_up();
            }
        }
        refused.push(range);
        assert_eq!(p.unacknowledged().is_some(), p.plan.is_empty() && p.pending.is_none());
    }
    assert_eq!(refused, ["0-3", "2-3", "2-2"]);
    assert_eq!(inserted, ["0-1", "3-3", "4-7"]);
    assert_eq!(p.unacknowledged(), Some(8));
    assert_eq!(p.tally(), Tally { read: 8, passed: 7, dead: 1, ..Tally::default() });
}

#[test]
fn bad_records_are_letters_and_too_many_stop_it() {
    let mut p = partition(Some(0), None);
    assert!(feed_bad(&mut p, 0) && feed_bad(&mut p, 1));
    feed(&mut p, [2]);
    assert!(feed_bad(&mut p, 3));
    p.close_if_due(Duration::ZERO, Instant::now());
    assert_eq!(fly(&mut p), flown("0-3", 1, true));
    p.landed();
    assert!(feed_bad(&mut p, 4));
    assert!(!feed_bad(&mut p, 5), "three in a row");
    assert!(p.is_stopped());
    assert_eq!(fly(&mut p), None);
    assert_eq!(p.unacknowledged(), Some(4), "what was done before is");
    assert_eq!(p.tally(), Tally { read: 4, passed: 1, dead: 3, ..Tally::default() });
}

#[test]
fn memory_is_counted_until_it_lands() {
    let mut p = partition(Some(0), None);
    feed(&mut p, 0..=5);
    let all = 6 * (10 + ROW_OVERHEAD);
    assert_eq!(p.bytes(), all);
    assert!(p.is_full());
    fly(&mut p);
    assert_eq!(p.bytes(), all);
    p.landed();
    assert_eq!(p.bytes(), 2 * (10 + ROW_OVERHEAD));
}
