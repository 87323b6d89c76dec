use super::builder::ROW_OVERHEAD;
use super::*;

const LIMITS: Limits = Limits { rows: 4, bytes: 1 << 20, refusals: 3 };

fn partition(next: Option<i64>, pending: Option<(i64, i64)>) -> Partition {
    let partition = TopicPartition { topic: "mail.dead-letters".into(), partition: 3 };
    let (next, pending) = (next.map(NextOffset), pending.map(range));
    Partition::new(
        Assignment { partition, next, pending, ledger: Ledger::default(), mismatch: None },
        Table::DeadLetters,
        1,
    )
}

fn range((first, last): (i64, i64)) -> Range {
    Range { first: Offset(first), last: Offset(last) }
}

fn info(offset: i64) -> RecordInfo {
    RecordInfo {
        offset: Offset(offset),
        bytes: 10,
        redriven: false,
        is_row: true,
        is_time: false,
        unjudged: None,
    }
}

fn record(offset: i64) -> OwnedRecord {
    OwnedRecord {
        topic: "mail.dead-letters".into(),
        partition: 3,
        offset: Offset(offset),
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
        assert_eq!(partition.add_record(info(offset), LIMITS, push, || record(offset)), None);
    }
}

fn feed_bad(partition: &mut Partition, offset: i64) -> bool {
    let bad = RowError { reason: record::Reason::NotJson, detail: String::new() };
    partition.add_record(info(offset), LIMITS, |_| Err(bad), || record(offset)).is_none()
}

/// Starts the next batch. Returns the end of its token, its number of rows, and whether its range
/// must be recorded first.
fn start(partition: &mut Partition) -> Option<(String, usize, bool)> {
    partition.next_batch()?;
    let batch = partition.start_batch()?;
    let token = batch.token();
    let (_, range) = token.rsplit_once('/')?;
    Some((range.to_owned(), batch.block.rows, batch.pending.is_none()))
}

fn started(range: &str, rows: usize, to_record: bool) -> Option<(String, usize, bool)> {
    Some((range.to_owned(), rows, to_record))
}

#[test]
fn consecutive_ranges_include_gaps_in_the_offsets() {
    let mut p = partition(Some(10), None);
    feed(&mut p, [12, 13, 15, 16, 18, 19]);
    assert_eq!(start(&mut p), started("10-16", 4, true));
    assert_eq!(start(&mut p), None, "one batch is in flight at a time");
    p.inserted();
    assert_eq!(p.uncommitted(), Some(NextOffset(17)));
    p.close_if_due(Duration::ZERO, Instant::now());
    assert_eq!(start(&mut p), started("17-19", 2, true));
    assert_eq!(p.uncommitted(), None, "committed when the range was recorded");
}

fn feed_time(partition: &mut Partition, offset: i64) {
    let info = RecordInfo { is_row: false, is_time: true, ..info(offset) };
    let push = |_: &mut Rows| unreachable!("a time record becomes no row");
    assert_eq!(partition.add_record(info, LIMITS, push, || record(offset)), None);
}

#[test]
fn time_records_become_no_rows_and_are_not_counted() {
    let mut p = partition(Some(10), None);
    feed_time(&mut p, 10);
    feed(&mut p, [11, 12]);
    feed_time(&mut p, 13);
    p.close_if_due(Duration::ZERO, Instant::now());
    assert_eq!(start(&mut p), started("10-13", 2, true));
    p.inserted();
    assert_eq!(p.uncommitted(), Some(NextOffset(14)));
    assert_eq!((p.ledger.read, p.ledger.passed), (2, 2));
}

#[test]
fn records_that_become_no_rows_are_counted_as_dropped() {
    let mut p = partition(Some(10), None);
    let ignored = RecordInfo { is_row: false, ..info(10) };
    let push = |_: &mut Rows| unreachable!("it becomes no row");
    assert_eq!(p.add_record(ignored, LIMITS, push, || record(10)), None);
    feed(&mut p, [11]);
    p.close_if_due(Duration::ZERO, Instant::now());
    assert_eq!(start(&mut p), started("10-11", 1, true));
    p.inserted();
    assert_eq!((p.ledger.read, p.ledger.passed, p.ledger.dropped), (2, 1, 1));
}

#[test]
fn a_partition_that_has_only_time_records_is_committed() {
    let mut p = partition(Some(10), None);
    feed_time(&mut p, 10);
    assert!(p.due(Duration::ZERO).is_some());
    p.close_if_due(Duration::ZERO, Instant::now());
    assert_eq!(start(&mut p), None, "there is nothing to insert");
    assert_eq!(p.uncommitted(), Some(NextOffset(11)));
    assert_eq!(p.ledger, Ledger::default());
}

#[test]
fn a_pending_range_ends_at_a_time_record_too() {
    let mut p = partition(Some(10), Some((10, 12)));
    p.set_stored_rows(StoredRows::default());
    p.seek_done();
    feed(&mut p, [10, 11]);
    feed_time(&mut p, 12);
    feed(&mut p, [13]);
    assert_eq!(start(&mut p), started("10-12", 2, false));
}

#[test]
fn a_batch_is_closed_when_it_has_waited_long_enough() {
    let mut p = partition(None, None);
    let wait = Duration::from_secs(1);
    assert_eq!(p.due(wait), None);
    feed(&mut p, [7]);
    p.close_if_due(wait, Instant::now());
    assert_eq!(start(&mut p), None);
    p.close_if_due(wait, Instant::now() + wait);
    assert_eq!(start(&mut p), started("7-7", 1, true));
    feed(&mut p, [8]);
    assert_eq!(
        p.due(wait),
        None,
        "otherwise the loop would spin until the first batch is inserted"
    );
    p.inserted();
    assert!(p.due(wait).is_some());
}

#[test]
fn a_pending_range_ends_at_the_recorded_offset() {
    let mut p = partition(Some(10), Some((10, 18)));
    assert_eq!(p.range_to_check(), Some(range((10, 18))));
    feed(&mut p, [10]);
    p.set_stored_rows(StoredRows::default());
    assert_eq!(p.seek_target(), Some(Offset(10)), "earlier records are read again");
    feed(&mut p, [11]);
    p.seek_done();
    feed(&mut p, 10..=14);
    p.close_if_due(Duration::ZERO, Instant::now());
    assert_eq!(start(&mut p), None, "neither the row limit nor the wait ends it");
    feed(&mut p, 15..=20);
    assert_eq!(start(&mut p), started("10-18", 9, false));
    p.inserted();
    p.close_if_due(Duration::ZERO, Instant::now());
    assert_eq!(start(&mut p), started("19-20", 2, true));
}

#[test]
fn a_pending_range_whose_last_record_is_gone_ends_before_the_next_record() {
    let mut p = partition(Some(10), Some((10, 18)));
    p.set_stored_rows(StoredRows::default());
    p.seek_done();
    feed(&mut p, [16, 25]);
    assert_eq!(start(&mut p), started("10-18", 1, false));
}

#[test]
fn stored_rows_are_skipped_if_they_would_not_be_deduplicated() {
    let found = |still_deduplicated| StoredRows {
        offsets: [10, 11, 13].map(Offset).into(),
        still_deduplicated,
    };
    for (still_deduplicated, token, rows) in [(true, "10-13", 4), (false, "10-13-without-3", 1)] {
        let mut p = partition(Some(10), Some((10, 13)));
        p.set_stored_rows(found(still_deduplicated));
        p.seek_done();
        feed(&mut p, 10..=13);
        assert_eq!(start(&mut p), started(token, rows, false));
    }
    let mut p = partition(Some(10), Some((10, 11)));
    p.set_stored_rows(found(false));
    p.seek_done();
    feed(&mut p, 10..=12);
    assert_eq!(start(&mut p), None, "all rows are stored");
    assert_eq!(p.uncommitted(), Some(NextOffset(12)));
    assert_eq!(p.ledger().passed, 2, "skipped rows count as passed");
}

#[test]
fn an_insert_whose_token_was_forgotten_is_built_again_without_the_stored_rows() {
    let mut p = partition(Some(10), None);
    feed(&mut p, 10..=15);
    assert_eq!(start(&mut p), started("10-13", 4, true));
    p.set_stored_rows(StoredRows {
        offsets: [10, 11].map(Offset).into(),
        still_deduplicated: false,
    });
    assert_eq!(p.seek_target(), Some(Offset(10)));
    p.seek_done();
    feed(&mut p, 10..=15);
    assert_eq!(start(&mut p), started("10-13-without-2", 2, false));
    p.inserted();
    assert_eq!(p.uncommitted(), Some(NextOffset(14)));
    assert_eq!(p.ledger(), Ledger { read: 4, passed: 4, ..Ledger::default() });
}

#[test]
fn a_batch_with_a_rejected_row_is_halved_down_to_the_row() {
    let mut p = partition(Some(0), None);
    feed(&mut p, 0..=7);
    let mut rejected = Vec::new();
    let mut inserted = Vec::new();
    // ClickHouse rejects row 2.
    while let Some((range, rows, to_record)) = start(&mut p) {
        let (first, last) = range.split_once('-').unwrap();
        let is_rejected = (first.parse().unwrap()..=last.parse().unwrap()).contains(&2);
        assert_eq!(to_record, ["0-3", "4-7"].contains(&&*range), "{range}");
        if !is_rejected {
            inserted.push(range);
            p.inserted();
            continue;
        }
        match p.row_rejected().unwrap() {
            AfterRejection::Halved => {
                let Offset(from) = p.seek_target().unwrap();
                p.seek_done();
                feed(&mut p, from..=7);
            }
            AfterRejection::OneRow(batch) => {
                let row = batch.rejected_row("no").unwrap();
                assert_eq!((rows, row.record.offset), (1, Offset(2)));
                p.dead_lettered();
            }
        }
        rejected.push(range);
        assert_eq!(p.uncommitted().is_some(), p.fixed_ranges.is_empty() && p.pending.is_none());
    }
    assert_eq!(rejected, ["0-3", "2-3", "2-2"]);
    assert_eq!(inserted, ["0-1", "3-3", "4-7"]);
    assert_eq!(p.uncommitted(), Some(NextOffset(8)));
    assert_eq!(p.ledger(), Ledger { read: 8, passed: 7, dead_letters: 1, ..Ledger::default() });
}

#[test]
fn unreadable_records_are_dead_letters_and_too_many_in_a_row_stop_the_partition() {
    let mut p = partition(Some(0), None);
    assert!(feed_bad(&mut p, 0) && feed_bad(&mut p, 1));
    feed(&mut p, [2]);
    assert!(feed_bad(&mut p, 3));
    p.close_if_due(Duration::ZERO, Instant::now());
    assert_eq!(start(&mut p), started("0-3", 1, true));
    p.inserted();
    assert!(feed_bad(&mut p, 4));
    assert!(!feed_bad(&mut p, 5), "three in a row");
    assert!(p.is_stopped());
    assert_eq!(start(&mut p), None);
    assert_eq!(p.uncommitted(), Some(NextOffset(4)), "earlier batches can be committed");
    assert_eq!(p.ledger(), Ledger { read: 4, passed: 1, dead_letters: 3, ..Ledger::default() });
}

#[test]
fn memory_is_counted_until_the_batch_is_inserted() {
    let mut p = partition(Some(0), None);
    feed(&mut p, 0..=5);
    let all = 6 * (10 + ROW_OVERHEAD);
    assert_eq!(p.bytes(), all);
    assert!(p.has_ready_batch());
    start(&mut p);
    assert_eq!(p.bytes(), all);
    p.inserted();
    assert_eq!(p.bytes(), 2 * (10 + ROW_OVERHEAD));
}
