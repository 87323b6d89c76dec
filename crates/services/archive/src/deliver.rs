//! One batch to ClickHouse, and what of it cannot go there to `mail.dead-letters`: as often as it
//! takes.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use record::names;
use kafka::ranges::Range;
use kafka::{PreparedHeaders, PublishError, Publisher, TopicPartition};

use crate::batch::{Batch, Letter};
use crate::clickhouse_error::ClickHouseError;
use crate::meters;
use crate::rollup;
use crate::server::{Found, Server};
use crate::settings::ArchiveSettings;
use crate::tables::Table;

/// The name of this binary in dead letters and metrics.
pub(crate) const STAGE: &str = "archive";

/// What is to be done, while the loop goes on.
#[derive(Debug)]
pub(crate) enum Errand {
    /// See which rows of a range are in the table already.
    Look(Table, TopicPartition, Range),
    /// Insert the rows, write the letters.
    Deliver(Arc<Batch>),
    /// Write the letters, and one for the batch's only row, which ClickHouse refuses in these words.
    GiveUp(Arc<Batch>, String),
}

/// How an errand went.
#[derive(Debug)]
pub(crate) enum News {
    /// What is in the table.
    Looked(Found),
    /// The same, of a range whose token ClickHouse knows without having its rows.
    Unkept(Found),
    /// Every row is in the table, every letter in `mail.dead-letters`.
    Delivered,
    /// ClickHouse refuses a row, in its words; nothing of the batch is in the table.
    Refused(String),
    /// Every letter is in `mail.dead-letters`.
    GivenUp,
    /// A try failed; there will be another.
    Held(Hold),
}

/// What became of a batch's rows.
enum Inserted {
    Yes,
    /// One of them cannot be, in ClickHouse's words, and none is there.
    Refused(String),
    /// Some are there, and ClickHouse would not recognise them any more.
    Forgotten(Found),
    /// ClickHouse takes them for a repeat, and not all are there.
    Unkept(Found),
}

/// What to think of the hourly sums of rows that are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sums {
    /// They come with their rows.
    WithRows,
    /// After a repeat: they may be there without rows, or be missing behind their token.
    Doubtful,
}

/// Nothing is getting on for this reason, for now.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) code: &'static str,
    pub(crate) detail: String,
}

/// What all deliveries share.
pub(crate) struct Courier {
    pub(crate) server: Server,
    pub(crate) publisher: Publisher,
    pub(crate) dead_letters: String,
    pub(crate) settings: ArchiveSettings,
}

impl Courier {
    /// Runs an errand to its end, however long that takes. `hold` hears of each failed try.
    pub(crate) async fn run(&self, errand: Errand, hold: &(impl Fn(Hold) + Sync)) -> News {
        match errand {
            Errand::Look(table, partition, range) => {
                let found = self.look(table, &partition, range, Sums::WithRows, hold).await;
                let (rows, recognised) = (found.offsets.len(), found.recognised);
                tracing::info!(
                    ?partition,
                    ?range,
                    rows,
                    recognised,
                    "looked for the pending range"
                );
                News::Looked(found)
            }
            Errand::Deliver(batch) => {
                // Rows first: a refused batch is read again, and has written no letter twice.
                if batch.block.rows > 0 {
                    match self.insert(&batch, hold).await {
                        Inserted::Yes => {}
                        Inserted::Refused(detail) => return News::Refused(detail),
                        Inserted::Forgotten(found) => return News::Looked(found),
                        Inserted::Unkept(found) => return News::Unkept(found),
                    }
                }
                self.publish(&batch.letters, hold).await;
                News::Delivered
            }
            Errand::GiveUp(batch, detail) => {
                let refusal = batch.refusal(&detail);
                let letters: Vec<Letter> = batch.letters.iter().cloned().chain(refusal).collect();
                self.publish(&letters, hold).await;
                News::GivenUp
            }
        }
    }

    async fn look(
        &self,
        table: Table,
        partition: &TopicPartition,
        range: Range,
        sums: Sums,
        hold: &(impl Fn(Hold) + Sync),
    ) -> Found {
        let mut pauses = self.settings.pauses();
        loop {
            match self.try_look(table, partition, range, sums).await {
                Ok(found) => return found,
                Err(error) => hold(error.into()),
            }
            sleep_for(pauses.next()).await;
        }
    }

    /// Rows that may not be sent again bring no sums any more, so these are mended where such rows
    /// are found. Nothing follows from the rows of the other tables.
    async fn try_look(
        &self,
        table: Table,
        partition: &TopicPartition,
        range: Range,
        sums: Sums,
    ) -> Result<Found, ClickHouseError> {
        let found = self.server.look(table, partition, range).await?;
        let are_orphaned = !found.recognised && !found.offsets.is_empty();
        if table == Table::Events && (sums == Sums::Doubtful || are_orphaned) {
            rollup::mend(&self.server, partition.partition, range).await?;
        }
        Ok(found)
    }

    /// Inserts the rows, as often as it takes to know what became of it.
    async fn insert(&self, batch: &Batch, hold: &(impl Fn(Hold) + Sync)) -> Inserted {
        let token = batch.token();
        let mut pauses = self.settings.pauses();
        let mut known_rows = batch.known_rows;
        let mut is_repeat = batch.pending.is_some();
        loop {
            let started = Instant::now();
            let error = match self.server.insert(batch.table, &token, &batch.block).await {
                Ok(()) => {
                    if is_repeat && let Some(found) = self.unkept(batch, hold).await {
                        return Inserted::Unkept(found);
                    }
                    meters::inserted(batch.table, batch.block.rows, batch.block.bytes(), started);
                    meters::freshness(&batch.received, batch.block.rows, now_micros());
                    return Inserted::Yes;
                }
                Err(error) => error,
            };
            is_repeat = true;
            if !matches!(error, ClickHouseError::Row(_)) {
                meters::retried(error.code());
                hold(error.clone().into());
                sleep_for(pauses.next()).await;
            }
            // Whatever it said: it may have happened, and it may be long ago by now.
            let (of, range) = (&batch.partition, batch.recorded());
            let found = self.look(batch.table, of, range, Sums::WithRows, hold).await;
            let there = found.rows_in(batch.range);
            match error {
                ClickHouseError::Row(detail) if there <= known_rows => {
                    return Inserted::Refused(detail);
                }
                ClickHouseError::Row(detail) => {
                    // A view refuses what the table has taken. Smaller ranges would be new to the
                    // table, and their rows there twice.
                    meters::retried("partly_inserted");
                    hold(Hold { code: "partly_inserted", detail });
                    sleep_for(pauses.next()).await;
                }
                _ if there > 0 && !found.recognised => return Inserted::Forgotten(found),
                _ => known_rows = there,
            }
        }
    }

    /// Looks whether a repeat that ClickHouse has answered well has left its rows there; what is
    /// there instead, if not.
    ///
    /// ClickHouse notes an insert's token before it moves the part to its place. Killed in between,
    /// it has the token alone, and takes every repeat for done. Both happen under one lock: once a
    /// repeat is answered, the first insert's rows are there or never will be. The view's part has
    /// the same gap, so the sums are mended in any case.
    async fn unkept(&self, batch: &Batch, hold: &(impl Fn(Hold) + Sync)) -> Option<Found> {
        let (of, range) = (&batch.partition, batch.recorded());
        let found = self.look(batch.table, of, range, Sums::Doubtful, hold).await;
        if found.rows_in(batch.range) >= batch.block.rows + batch.left_out {
            return None;
        }
        // A row that a newer one replaces may be gone for good reason, and is replaced again.
        if batch.table.replaces_rows() && batch.attempt > 0 {
            return None;
        }
        let token = batch.token();
        tracing::warn!(token, "taken for a repeat, and not all rows are there: sending them anew");
        meters::retried("not_kept");
        Some(Found { recognised: false, ..found })
    }

    async fn publish(&self, letters: &[Letter], hold: &(impl Fn(Hold) + Sync)) {
        let mut rest = letters;
        let mut pauses = self.settings.pauses();
        while !rest.is_empty() {
            if let Err(error) = self.try_publish(&mut rest).await {
                meters::retried(error.code());
                hold(Hold { code: error.code(), detail: error.to_string() });
                sleep_for(pauses.next()).await;
            }
        }
    }

    /// Writes as many letters as the queue takes and waits until they are durable.
    async fn try_publish(&self, rest: &mut &[Letter]) -> Result<(), PublishError> {
        let batch = self.publisher.batch();
        let mut sent = 0;
        for letter in *rest {
            let (record, origin) = (&letter.record, origin(letter));
            let why: [(&str, &[u8]); 4] = [
                (names::REASON, letter.reason.code().as_bytes()),
                (names::DETAIL, letter.detail.as_bytes()),
                (names::STAGE, STAGE.as_bytes()),
                (names::ORIGIN, origin.as_bytes()),
            ];
            let original = record.headers.iter().map(|(name, value)| (name.as_str(), &value[..]));
            let headers = PreparedHeaders::new(&original.chain(why).collect::<Vec<_>>());
            let value = record.value.as_deref().unwrap_or_default();
            match batch.send(&self.dead_letters, &record.key, value, &headers) {
                Ok(()) => sent += 1,
                Err(PublishError::QueueFull) if sent > 0 => break,
                Err(error) => return Err(error),
            }
        }
        batch.acknowledged().await?;
        let (durable, left) = rest.split_at(sent);
        durable.iter().for_each(|letter| meters::dead_letter(STAGE, letter.reason));
        *rest = left;
        Ok(())
    }
}

/// The pauses have no end, so there always is a next one.
async fn sleep_for(pause: Option<Duration>) {
    tokio::time::sleep(pause.unwrap_or_default()).await;
}

fn origin(letter: &Letter) -> String {
    let record = &letter.record;
    format!("{}/{}/{}", record.topic, record.partition, record.offset)
}

impl From<ClickHouseError> for Hold {
    fn from(error: ClickHouseError) -> Self {
        Self { code: error.code(), detail: error.to_string() }
    }
}

/// The wall clock, for the freshness metric alone.
fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
