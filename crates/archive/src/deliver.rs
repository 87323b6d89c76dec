//! One batch to ClickHouse, and what of it cannot go there to `mail.dead-letters`: as often as it
//! takes.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use record::names;
use stream::ranges::Range;
use stream::{PreparedHeaders, PublishError, Publisher, TopicPartition};

use crate::batch::{Batch, Letter};
use crate::clickhouse_error::ClickHouseError;
use crate::meters;
use crate::server::{Found, Server};
use crate::settings::ArchiveSettings;
use crate::tables::Table;

/// The name of this binary in dead letters and metrics.
const STAGE: &str = "archive";

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Every row is in its table or in `mail.dead-letters`.
    Done,
    /// ClickHouse refuses a row, in its words; nothing of the batch is in the table.
    Refused(String),
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
    /// Inserts the rows, then writes the letters; in this order a refused batch, which is read
    /// again, has written none. `hold` hears of each failed try.
    pub(crate) async fn deliver(&self, batch: &Arc<Batch>, hold: &impl Fn(Hold)) -> Outcome {
        if batch.block.rows > 0
            && let Outcome::Refused(detail) = self.insert(batch, hold).await
        {
            return Outcome::Refused(detail);
        }
        self.publish(&batch.letters, hold).await;
        Outcome::Done
    }

    /// Writes the batch's letters, and one for the single row it consists of.
    pub(crate) async fn give_up(&self, batch: &Arc<Batch>, detail: &str, hold: &impl Fn(Hold)) {
        let refusal = batch.refusal(detail);
        let letters: Vec<Letter> = batch.letters.iter().cloned().chain(refusal).collect();
        self.publish(&letters, hold).await;
    }

    /// Looks which rows of a range are there.
    pub(crate) async fn look(
        &self,
        table: Table,
        partition: &TopicPartition,
        range: Range,
        hold: &impl Fn(Hold),
    ) -> Found {
        for pause in self.settings.pauses() {
            match self.server.look(table, partition, range).await {
                Ok(found) => return found,
                Err(error) => hold(error.into()),
            }
            tokio::time::sleep(pause).await;
        }
        unreachable!("the pauses have no end")
    }

    async fn insert(&self, batch: &Arc<Batch>, hold: &impl Fn(Hold)) -> Outcome {
        let token = batch.token();
        for pause in self.settings.pauses() {
            let started = Instant::now();
            let error = match self.server.insert(batch.table, &token, &batch.block).await {
                Ok(()) => {
                    meters::inserted(batch.table, batch.block.rows, batch.block.bytes(), started);
                    meters::freshness(&batch.received, batch.block.rows, now_micros());
                    return Outcome::Done;
                }
                Err(ClickHouseError::Row(detail)) => {
                    let found =
                        self.look(batch.table, &batch.partition, batch.range, hold).await.offsets;
                    if found.len() <= batch.known_rows {
                        return Outcome::Refused(detail);
                    }
                    // A view refused what the table had taken. Smaller ranges would be new to the
                    // table, and their rows there twice.
                    Hold { code: "partly_inserted", detail }
                }
                Err(error) => error.into(),
            };
            meters::retried(error.code);
            hold(error);
            tokio::time::sleep(pause).await;
        }
        unreachable!("the pauses have no end")
    }

    async fn publish(&self, letters: &[Letter], hold: &impl Fn(Hold)) {
        let mut rest = letters;
        for pause in self.settings.pauses() {
            match self.try_publish(&mut rest).await {
                Ok(()) if rest.is_empty() => return,
                // The queue was full, and has been emptied.
                Ok(()) => continue,
                Err(error) => {
                    meters::retried(error.code());
                    hold(Hold { code: error.code(), detail: error.to_string() });
                }
            }
            tokio::time::sleep(pause).await;
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
