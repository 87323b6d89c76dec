use kafka::ledger::Ledger;
use kafka::ranges::Range;
use kafka::{FailedRecord, Offset, OwnedRecord, TopicPartition};
use record::Reason;

use crate::event_key::EventKey;
use crate::native::Block;
use crate::tables::Table;

/// The rows of a fixed range of offsets, ready to be inserted. The same range of the same partition
/// always gives the same block.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) table: Table,
    pub(crate) partition: TopicPartition,
    pub(crate) range: Range,
    /// The recorded range that contains this one. `None` if this range must be recorded in the
    /// offset metadata before the insert.
    pub(crate) pending: Option<Range>,
    pub(crate) block: Block,
    /// The records that cannot become rows.
    pub(crate) dead_letters: Vec<FailedRecord>,
    /// The first record that became a row.
    pub(crate) first_row: Option<OwnedRecord>,
    /// An estimate of the memory it needs.
    pub(crate) bytes: usize,
    /// A sample of the times when the rows were received, UTC microseconds.
    pub(crate) received: Vec<i64>,
    /// The number of rows of the range that were stored before this process inserted any.
    pub(crate) stored_before: usize,
    /// The number of rows of the range that are not in the block, because they are stored and
    /// ClickHouse would not deduplicate them any more.
    pub(crate) skipped: usize,
    /// The number of records of the range that are left out, because their events are in the table from
    /// smaller offsets.
    pub(crate) repeated: usize,
    /// The number of records of the range that become no rows: clocks and actions in `mail.alerts`, and what
    /// was redriven for another stage.
    pub(crate) ignored: usize,
    /// The rows whose events may be in the table from smaller offsets.
    pub(crate) unjudged: Vec<(Offset, EventKey)>,
    /// The number of tokens of the range that ClickHouse knows although rows are missing.
    pub(crate) attempt: u32,
    /// The number of records that an operator redrove for archive.
    pub(crate) redriven: usize,
}

impl Batch {
    /// Returns the deduplication token: `topic/partition/first-last`. `-without-N` follows if N
    /// rows were skipped: the block is different, so the table of a view must not deduplicate it
    /// against the first one. `-attempt-N` follows if ClickHouse knows N earlier tokens although
    /// rows are missing.
    pub(crate) fn token(&self) -> String {
        let TopicPartition { topic, partition } = &self.partition;
        let mut token = format!("{topic}/{partition}/{}-{}", self.range.first, self.range.last);
        for (word, number) in [("without", self.skipped as u64), ("attempt", self.attempt.into())] {
            if number > 0 {
                token += &format!("-{word}-{number}");
            }
        }
        token
    }

    /// Returns the range in the offset metadata while this batch is in flight.
    pub(crate) fn recorded(&self) -> Range {
        self.pending.unwrap_or(self.range)
    }

    /// Returns the only row of the batch as a dead letter, after ClickHouse rejected it with this
    /// message.
    pub(crate) fn rejected_row(&self, message: &str) -> Option<FailedRecord> {
        let record = self.first_row.clone()?;
        Some(FailedRecord { record, reason: Reason::RowRefused, detail: message.to_owned() })
    }

    /// Returns the ledger of the batch if its rows are stored.
    pub(crate) fn ledger(&self) -> Ledger {
        let (passed, dead_letters) = (self.block.rows + self.skipped, self.dead_letters.len());
        Ledger {
            read: (passed + dead_letters + self.repeated + self.ignored) as u64,
            passed: passed as u64,
            dropped: (self.repeated + self.ignored) as u64,
            dead_letters: dead_letters as u64,
            redriven: self.redriven as u64,
            ..Ledger::default()
        }
    }

    /// Returns the ledger of the batch if its rows became dead letters.
    pub(crate) fn ledger_without_rows(&self) -> Ledger {
        let (rejected, ledger) = (self.block.rows as u64, self.ledger());
        Ledger {
            passed: ledger.passed - rejected,
            dead_letters: ledger.dead_letters + rejected,
            ..ledger
        }
    }

    /// Returns true if there is nothing to insert and nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.block.rows == 0 && self.dead_letters.is_empty()
    }
}
