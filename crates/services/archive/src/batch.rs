use record::Reason;
use kafka::ranges::Range;
use kafka::tally::Tally;
use kafka::{OwnedRecord, TopicPartition};

use crate::native::Block;
use crate::tables::{BadRow, Table};

/// The rows of a fixed range of offsets, ready to be inserted. The same range of the same partition
/// always makes the same block.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) table: Table,
    pub(crate) partition: TopicPartition,
    pub(crate) range: Range,
    /// The range in the offset's metadata that covers this one; `None` if this one has to be
    /// recorded first.
    pub(crate) pending: Option<Range>,
    pub(crate) block: Block,
    /// Records that cannot become rows.
    pub(crate) letters: Vec<Letter>,
    /// The first record that became a row.
    pub(crate) sample: Option<OwnedRecord>,
    /// Memory it takes, roughly.
    pub(crate) bytes: usize,
    /// When some of the rows were received, UTC microseconds.
    pub(crate) received: Vec<i64>,
    /// Rows of the range that were in the table before we touched it.
    pub(crate) known_rows: usize,
    /// Rows of the range that were left out, because they are in the table and ClickHouse no longer
    /// recognises them.
    pub(crate) left_out: usize,
    /// How many tokens of the range ClickHouse knows without having all rows.
    pub(crate) attempt: u32,
    /// Records that an operator sent back for us.
    pub(crate) again: usize,
}

impl Batch {
    /// The deduplication token: `topic/partition/first-last`, then `-without-N` where that many rows
    /// were left out: another block, which the table of a view must not take for the first one; and
    /// `-attempt-N` where former tokens are of no use.
    pub(crate) fn token(&self) -> String {
        let TopicPartition { topic, partition } = &self.partition;
        let mut token = format!("{topic}/{partition}/{}-{}", self.range.first, self.range.last);
        for (word, number) in [("without", self.left_out as u64), ("attempt", self.attempt.into())]
        {
            if number > 0 {
                token += &format!("-{word}-{number}");
            }
        }
        token
    }

    /// The range in the offset's metadata while this batch is under way.
    pub(crate) fn recorded(&self) -> Range {
        self.pending.unwrap_or(self.range)
    }

    /// The letter for the one row, which ClickHouse refuses in these words.
    pub(crate) fn refusal(&self, detail: &str) -> Option<Letter> {
        let bad = BadRow { reason: Reason::RowRefused, detail: detail.to_owned() };
        Some(Letter::new(self.sample.clone()?, bad))
    }

    /// What becomes of its records when its rows are in the table.
    pub(crate) fn tally(&self) -> Tally {
        let (passed, dead) = (self.block.rows + self.left_out, self.letters.len());
        Tally {
            read: (passed + dead) as u64,
            passed: passed as u64,
            dropped: 0,
            dead: dead as u64,
            again: self.again as u64,
        }
    }

    /// The same when its rows are dead letters too.
    pub(crate) fn tally_without_rows(&self) -> Tally {
        let (refused, with_rows) = (self.block.rows as u64, self.tally());
        Tally { passed: with_rows.passed - refused, dead: with_rows.dead + refused, ..with_rows }
    }

    /// Whether there is nothing to do for it.
    pub(crate) fn is_empty(&self) -> bool {
        self.block.rows == 0 && self.letters.is_empty()
    }
}

/// A record on its way to `mail.dead-letters`.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) record: OwnedRecord,
    pub(crate) reason: Reason,
    pub(crate) detail: String,
}

impl Letter {
    pub(crate) fn new(record: OwnedRecord, bad: BadRow) -> Self {
        Self { record, reason: bad.reason, detail: bad.detail }
    }
}
