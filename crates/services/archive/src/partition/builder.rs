use std::time::Instant;

use kafka::{FailedRecord, Offset, OwnedRecord};

use super::Limits;
use crate::event_key::EventKey;
use crate::tables::{RowError, Rows, Table};

/// An estimate of the memory that the columns need per row, beyond the size of the record's value.
pub(super) const ROW_OVERHEAD: usize = 160;

/// The batch that is being filled.
pub(super) struct BatchBuilder {
    /// The start of the range. `None` before the first record of a partition without a committed
    /// offset.
    pub(super) first: Option<Offset>,
    /// The last record that was added.
    pub(super) last: Offset,
    pub(super) rows: Rows,
    row_count: usize,
    /// The number of records whose rows are stored already and must not be inserted again.
    pub(super) skipped: usize,
    /// The number of records whose events are in the table from smaller offsets.
    pub(super) repeated: usize,
    /// The rows that may be in the table from smaller offsets.
    pub(super) unjudged: Vec<(Offset, EventKey)>,
    /// The number of records that an operator redrove for archive.
    pub(super) redriven: usize,
    /// Whether the range has a record that becomes no row, such as a time record.
    pub(super) has_no_rows: bool,
    /// The number of records that become no rows and are no time records.
    pub(super) ignored: usize,
    pub(super) bytes: usize,
    pub(super) dead_letters: Vec<FailedRecord>,
    /// The first record that became a row. If ClickHouse rejects a batch with one row, this is the
    /// rejected record.
    pub(super) first_row: Option<OwnedRecord>,
    /// When the first record was added.
    pub(super) opened_at: Instant,
}

impl BatchBuilder {
    pub(super) fn new(table: Table, first: Option<Offset>) -> Self {
        Self {
            first,
            last: Offset(-1),
            rows: table.empty_rows(),
            row_count: 0,
            skipped: 0,
            repeated: 0,
            unjudged: Vec::new(),
            redriven: 0,
            has_no_rows: false,
            ignored: 0,
            bytes: 0,
            dead_letters: Vec::new(),
            first_row: None,
            opened_at: Instant::now(),
        }
    }

    /// Extends the range to a record, before the record is skipped or added.
    pub(super) fn start_record(&mut self, offset: Offset, redriven: bool) {
        self.first.get_or_insert(offset);
        if self.is_empty() && !self.has_no_rows {
            self.opened_at = Instant::now();
        }
        self.last = offset;
        self.redriven += usize::from(redriven);
    }

    /// Adds the record as a row, or as a dead letter if it cannot become a row. Returns true for a
    /// row.
    pub(super) fn add(
        &mut self,
        bytes: usize,
        push: impl FnOnce(&mut Rows) -> Result<(), RowError>,
        copy: impl Fn() -> OwnedRecord,
    ) -> bool {
        self.bytes += bytes + ROW_OVERHEAD;
        match push(&mut self.rows) {
            Ok(()) => {
                self.row_count += 1;
                self.first_row.get_or_insert_with(copy);
                true
            }
            Err(RowError { reason, detail }) => {
                self.dead_letters.push(FailedRecord { record: copy(), reason, detail });
                false
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.row_count == 0 && self.dead_letters.is_empty()
    }

    pub(super) fn is_full(&self, limits: Limits) -> bool {
        self.row_count >= limits.rows || self.bytes >= limits.bytes
    }
}
