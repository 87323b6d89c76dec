//! ClickHouse as the archive uses it: inserts that can be repeated, and a look at what is there.

use std::collections::HashMap;
use std::time::Duration;

use clickhouse::{Client, Compression};
use service::ClickHouseSettings;
use kafka::TopicPartition;
use kafka::ranges::Range;

use crate::clickhouse_error::ClickHouseError;
use crate::native::Block;
use crate::tables::Table;

/// A piece of a block that does not go out for so long means a dead connection.
const SEND: Duration = Duration::from_secs(30);
/// The longest a server may take over one insert of a few megabytes, or over a question.
const ANSWER: Duration = Duration::from_secs(120);

/// What the outcome of a repeated insert depends on, whatever the server's profiles say.
const PINNED: [(&str, &str); 8] = [
    // On by default since 26.2; it would put several blocks into one insert, or one into several.
    ("async_insert", "0"),
    ("insert_deduplicate", "1"),
    // Or a repeated insert would be counted again in `events_hourly`, or never if the first broke off.
    ("deduplicate_blocks_in_dependent_materialized_views", "1"),
    // One block in, one block to the table and to each view.
    ("max_insert_block_size", "1048449"),
    ("max_insert_threads", "1"),
    // Garbled times may lie in any number of months; no reason to refuse their neighbours.
    ("max_partitions_per_insert_block", "0"),
    // Merges make them; at the insert they would cost as much as the rest.
    ("materialize_skip_indexes_on_insert", "0"),
    ("input_format_native_allow_types_conversion", "1"),
];

/// The rows of a range that are in a table already.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Their offsets, ascending.
    pub offsets: Vec<i64>,
    /// All of them came with inserts that ClickHouse still recognises, and will for a while:
    /// repeating the insert changes nothing but what is missing.
    pub recognised: bool,
}

impl Found {
    /// How many of them are in a smaller range.
    pub fn rows_in(&self, range: Range) -> usize {
        let before = |end: i64| self.offsets.partition_point(|&offset| offset < end);
        before(range.last + 1) - before(range.first)
    }

    /// Whether this row is there and must not be sent again.
    pub fn settles(&self, offset: i64) -> bool {
        !self.recognised && self.offsets.binary_search(&offset).is_ok()
    }
}

/// A connection to ClickHouse. Clones share it.
#[derive(Clone)]
pub struct Server {
    client: Client,
    database: String,
    /// Per table, how many of the last inserts are recognised; none where it cannot be told.
    windows: HashMap<Table, u64>,
    pinned: Vec<(&'static str, &'static str)>,
}

impl Server {
    /// Connects when first used.
    pub fn new(settings: &ClickHouseSettings) -> Self {
        // Blocks are not compressed: to a server nearby that is the dearest part of the whole.
        let client = Client::default()
            .with_url(&settings.url)
            .with_user(&settings.user)
            .with_password(settings.password.expose())
            .with_compression(Compression::None)
            .with_product_info("mailpulse-archive", env!("CARGO_PKG_VERSION"));
        Self {
            client,
            database: settings.database.clone(),
            windows: HashMap::new(),
            pinned: PINNED.to_vec(),
        }
    }

    /// The database the tables are in.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Tells how many of a table's last inserts are recognised when they are repeated, counted over
    /// the whole table.
    pub(crate) fn set_window(&mut self, table: Table, window: u64) {
        self.windows.insert(table, window);
    }

    /// Pins a setting that not every version has.
    pub(crate) fn pin(&mut self, setting: &'static str, value: &'static str) {
        self.pinned.push((setting, value));
    }

    /// Runs a statement without an answer, in the archive's database if `inside`.
    ///
    /// # Errors
    /// See [`ClickHouseError`].
    pub async fn execute(&self, sql: &str, inside: bool) -> Result<(), ClickHouseError> {
        let mut query = self.client.query_raw(sql);
        if inside {
            query = query.with_setting("database", &self.database);
        }
        within(query.execute()).await
    }

    /// Runs a query whose answer has rows of two texts. `?` stands for the values in turn.
    ///
    /// # Errors
    /// See [`ClickHouseError`].
    pub async fn pairs(
        &self,
        sql: &str,
        values: &[&str],
    ) -> Result<Vec<(String, String)>, ClickHouseError> {
        let query = values.iter().fold(self.client.query(sql), |query, value| query.bind(value));
        within(query.fetch_all()).await
    }

    /// Inserts a block under a token. The same block and token again change nothing while the
    /// table's window reaches back to the first time.
    ///
    /// # Errors
    /// See [`ClickHouseError`]; unless it is about a row, the same insert is to be tried again.
    pub async fn insert(
        &self,
        table: Table,
        token: &str,
        block: &Block,
    ) -> Result<(), ClickHouseError> {
        let columns: Vec<&str> = table.columns().iter().map(|&(name, _)| name).collect();
        let sql = format!("INSERT INTO {} ({}) FORMAT Native", table.name(), columns.join(", "));
        let insert =
            self.client.insert_formatted_with(sql).with_setting("database", &self.database);
        let insert = self
            .pinned
            .iter()
            .fold(insert, |insert, &(name, value)| insert.with_setting(name, value));
        let mut insert = insert
            .with_setting("insert_deduplication_token", token)
            .with_timeouts(Some(SEND), Some(ANSWER));
        for piece in &block.pieces {
            insert.send(piece.clone()).await?;
        }
        Ok(insert.end().await?)
    }

    /// Looks which rows of a range are in its table.
    ///
    /// # Errors
    /// See [`ClickHouseError`].
    pub async fn look(
        &self,
        table: Table,
        partition: &TopicPartition,
        range: Range,
    ) -> Result<Found, ClickHouseError> {
        let (database, name) = (&self.database, table.name());
        let sql = format!(
            "SELECT kafka_offset, _block_number FROM {database}.{name} WHERE kafka_partition = ? \
             AND kafka_offset BETWEEN ? AND ? ORDER BY kafka_offset"
        );
        let query = self.client.query(&sql).bind(partition.partition);
        let query = query.bind(range.first).bind(range.last);
        let rows: Vec<(u64, u64)> = within(query.fetch_all()).await?;
        let Some(oldest) = rows.iter().map(|&(_, insert)| insert).min() else {
            return Ok(Found::default());
        };
        let recognised = match self.windows.get(&table) {
            // Half of the window is left for what others insert between this look and our insert.
            Some(window) => {
                let since = self.newest_insert(table).await? - oldest.cast_signed();
                since < window.cast_signed() / 2
            }
            None => false,
        };
        let offsets = rows.iter().map(|&(offset, _)| offset.cast_signed()).collect();
        Ok(Found { offsets, recognised })
    }

    /// The number of the table's last insert. ClickHouse numbers the parts that inserts make, one
    /// after the other, and a merged part names the greatest number in it; `_block_number` is the
    /// number of the insert that brought a row. So the difference of the two is at least the number
    /// of inserts recognised since.
    async fn newest_insert(&self, table: Table) -> Result<i64, ClickHouseError> {
        let query = self
            .client
            .query(
                "SELECT max(max_block_number) FROM system.parts \
                 WHERE active AND database = ? AND table = ?",
            )
            .bind(&self.database)
            .bind(table.name());
        within(query.fetch_one()).await
    }
}

async fn within<T>(
    answer: impl Future<Output = Result<T, clickhouse::error::Error>>,
) -> Result<T, ClickHouseError> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ClickHouseError::Timeout),
    }
}
