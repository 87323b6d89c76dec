//! The connection to ClickHouse: inserts that can be repeated, and the query for the rows that are
//! already stored.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use clickhouse::insert_formatted::InsertFormatted;
use clickhouse::{Client, Compression};
use kafka::ranges::Range;
use kafka::{Offset, TopicPartition};
use service::ClickHouseSettings;

use crate::clickhouse_error::ClickHouseError;
use crate::event_key::EventKey;
use crate::https::{self, HttpsError};
use crate::native::Block;
use crate::replicas::{Repeatable, Replicas};
use crate::tables::Table;

/// If a piece of a block cannot be sent within this time, the connection is dead.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time that an insert of a few megabytes, or a query, may take.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// The settings on which the effect of a repeated insert depends. Sent with every insert, so that
/// the profiles of the server cannot change them.
const PINNED: [(&str, &str); 9] = [
    // On by default since 26.2; it would put several blocks into one insert, or one into several.
    ("async_insert", "0"),
    ("insert_deduplicate", "1"),
    // Without it, the rollups would count a repeated insert again, or never if the first one
    // was interrupted.
    ("deduplicate_blocks_in_dependent_materialized_views", "1"),
    // One block in, one block to the table and to each view.
    ("max_insert_block_size", "1048449"),
    ("max_insert_threads", "1"),
    // Wrong times can fall into any number of months; they must not block the other rows.
    ("max_partitions_per_insert_block", "0"),
    // Merges build them later; during the insert they would cost as much as everything else.
    ("materialize_skip_indexes_on_insert", "0"),
    ("materialize_statistics_on_insert", "0"),
    ("input_format_native_allow_types_conversion", "1"),
];

/// The settings of inserts into `events`, besides [`PINNED`]. The sums of a block are grouped already, and readers of
/// lives group them, so ClickHouse need not look for rows to merge within the block.
const PINNED_FOR_EVENTS: [(&str, &str); 1] = [("optimize_on_insert", "0")];

/// The rows of a range that are stored in its table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredRows {
    /// The offsets of the rows, ascending.
    pub offsets: Vec<Offset>,
    /// True if ClickHouse still deduplicates the inserts that stored these rows, and will for a
    /// while. Repeating such an insert adds only the rows that are missing.
    pub still_deduplicated: bool,
}

impl StoredRows {
    /// Returns how many of the rows are in a smaller range.
    pub fn count_in(&self, Range { first, last }: Range) -> usize {
        let end = self.offsets.partition_point(|&offset| offset <= last);
        end - self.offsets.partition_point(|&offset| offset < first)
    }

    /// Returns true if the row is stored and inserting it again would duplicate it.
    pub fn must_skip(&self, offset: Offset) -> bool {
        !self.still_deduplicated && self.offsets.binary_search(&offset).is_ok()
    }
}

/// A client of ClickHouse: of one server, or of several replicas, of which the first that answers is asked. Clones share
/// their connections.
#[derive(Clone)]
pub struct Server {
    replicas: Replicas,
    /// True if this is one of several servers of the settings.
    has_others: bool,
    cluster: String,
    database: String,
    /// The deduplication window of each table, in inserts. A table whose window is not known is
    /// missing.
    windows: HashMap<Table, u64>,
    /// How long rows of `events` and their sums are kept. `None`: for ever.
    rows_and_sums_kept: Option<Duration>,
    /// True if a read must first wait for what other replicas have stored.
    must_catch_up: bool,
    pinned: Vec<(&'static str, &'static str)>,
}

impl Server {
    /// Creates a client, which connects on its first use.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub fn new(settings: &ClickHouseSettings) -> Result<Self, HttpsError> {
        // Compression is off because it would be the most expensive part of an insert to a server
        // on the same network.
        let with_login = |client: Client| {
            client
                .with_user(&settings.user)
                .with_password(settings.password.expose())
                .with_compression(Compression::None)
                .with_product_info("mailpulse-archive", env!("CARGO_PKG_VERSION"))
        };
        let clients = https::clients(settings)?.into_iter().map(with_login);
        let names = settings.urls().into_iter().map(authority);
        Ok(Self {
            replicas: Replicas::new(clients.zip(names).collect()),
            has_others: false,
            cluster: settings.cluster.clone(),
            database: settings.database.clone(),
            windows: HashMap::new(),
            rows_and_sums_kept: None,
            must_catch_up: false,
            pinned: PINNED.to_vec(),
        })
    }

    /// Returns the name of the database with the tables.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Returns the name of the cluster on which migrations run. Empty: they run on one server.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Returns each server of the settings by itself, with its host and port.
    pub fn each(&self) -> impl Iterator<Item = (String, Self)> {
        self.replicas.each().map(|replicas| {
            let name = replicas.name(0).to_owned();
            (name, Self { replicas, has_others: self.count() > 1, ..self.clone() })
        })
    }

    /// Returns how many servers the settings have.
    pub fn count(&self) -> usize {
        self.replicas.count()
    }

    /// Returns true if other servers have the same tables.
    pub(crate) fn is_one_of_several(&self) -> bool {
        self.has_others || !self.cluster.is_empty()
    }

    /// Makes reads wait for what other replicas have stored. The tables must be replicated.
    pub(crate) fn catch_up_before_reads(&mut self) {
        self.must_catch_up = true;
    }

    /// Sets the deduplication window of a table: the number of its last inserts that ClickHouse
    /// deduplicates, counted over the whole table.
    pub(crate) fn set_window(&mut self, table: Table, window: u64) {
        self.windows.insert(table, window);
    }

    /// Sets how long rows of `events` and their sums are kept; see
    /// [`Retention::of_rows_and_sums`](crate::retention::Retention::of_rows_and_sums).
    pub fn set_rows_and_sums_kept(&mut self, kept: Option<Duration>) {
        self.rows_and_sums_kept = kept;
    }

    /// Returns an expression for the time after which neither a row of `events` nor a sum has expired. Earlier sums
    /// cannot be compared with rows any more.
    pub(crate) fn comparison_horizon(&self) -> String {
        // A slot is at most a day long.
        let shortened = |kept: Duration| format!("now() - {} + 86400", kept.as_secs());
        self.rows_and_sums_kept.map_or_else(|| "toDateTime(0)".to_owned(), shortened)
    }

    /// Adds a setting that only some versions of ClickHouse have to the pinned ones.
    pub(crate) fn pin(&mut self, setting: &'static str, value: &'static str) {
        self.pinned.push((setting, value));
    }

    /// Runs a statement that returns no rows. If `in_database`, unqualified table names refer to
    /// the configured database.
    ///
    /// # Errors
    /// See [`ClickHouseError`].
    pub async fn execute(&self, sql: &str, in_database: bool) -> Result<(), ClickHouseError> {
        let mut attempts = self.replicas.attempts(Repeatable::No).await;
        loop {
            let mut query = attempts.client().query_raw(sql);
            if in_database {
                query = query.with_setting("database", &self.database);
            }
            let answer = within(query.execute()).await;
            if let Some(answer) = attempts.settle(answer) {
                return answer;
            }
        }
    }

    /// Like [`Self::execute`] in the configured database, for a statement that may take this long. ClickHouse does not
    /// write it to its log of queries, because it may name a recipient.
    ///
    /// # Errors
    /// See [`ClickHouseError`].
    pub async fn execute_long(&self, sql: &str, limit: Duration) -> Result<(), ClickHouseError> {
        let mut attempts = self.replicas.attempts(Repeatable::No).await;
        loop {
            let query = attempts.client().query_raw(sql).with_setting("database", &self.database);
            let query = query.with_setting("log_queries", "0");
            let answer = within_time(limit, query.execute()).await;
            if let Some(answer) = attempts.settle(answer) {
                return answer;
            }
        }
    }

    /// Like [`Self::rows`] without values, for a query that may take this long. ClickHouse does not write it to its log of
    /// queries, because it may name a recipient.
    ///
    /// # Errors
    /// See [`ClickHouseError`].
    pub async fn rows_long<T>(&self, sql: &str, limit: Duration) -> Result<Vec<T>, ClickHouseError>
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        // A question mark in SQL stands for a value.
        let sql = sql.replace('?', "??");
        let mut attempts = self.replicas.attempts(Repeatable::Yes).await;
        loop {
            let query = attempts.client().query(&sql).with_setting("database", &self.database);
            let query = query.with_setting("log_queries", "0");
            let answer = within_time(limit, query.fetch_all()).await;
            if let Some(answer) = attempts.settle(answer) {
                return answer;
            }
        }
    }

    /// Runs a query that returns rows of two texts. Each `?` in `sql` is replaced by the next
    /// value.
    ///
    /// # Errors
    /// See [`ClickHouseError`].
    pub async fn pairs(
        &self,
        sql: &str,
        values: &[&str],
    ) -> Result<Vec<(String, String)>, ClickHouseError> {
        let mut attempts = self.replicas.attempts(Repeatable::Yes).await;
        loop {
            let query = attempts.client().query(sql);
            let query = values.iter().fold(query, |query, value| query.bind(value));
            let answer = within(query.fetch_all()).await;
            if let Some(answer) = attempts.settle(answer) {
                return answer;
            }
        }
    }

    /// Runs a query that returns rows. Unqualified table names refer to the configured database. Each `?`
    /// in `sql` is replaced by the next value.
    ///
    /// # Errors
    /// See [`ClickHouseError`].
    pub async fn rows<T>(&self, sql: &str, values: &[&str]) -> Result<Vec<T>, ClickHouseError>
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        let mut attempts = self.replicas.attempts(Repeatable::Yes).await;
        loop {
            let query = attempts.client().query(sql).with_setting("database", &self.database);
            let query = values.iter().fold(query, |query, value| query.bind(value));
            let answer = within(query.fetch_all()).await;
            if let Some(answer) = attempts.settle(answer) {
                return answer;
            }
        }
    }

    /// Runs a query that returns rows, with parameters: `{name:Type}` in the SQL. Unqualified table names refer to the
    /// configured database.
    ///
    /// # Errors
    /// See [`ClickHouseError`].
    pub async fn rows_with<T>(
        &self,
        sql: &str,
        parameters: &[(String, String)],
    ) -> Result<Vec<T>, ClickHouseError>
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        // A question mark in SQL stands for a value.
        let sql = sql.replace('?', "??");
        let mut attempts = self.replicas.attempts(Repeatable::Yes).await;
        loop {
            let query = attempts.client().query(&sql).with_setting("database", &self.database);
            let query =
                parameters.iter().fold(query, |query, (name, value)| query.param(name, value));
            let answer = within(query.fetch_all()).await;
            if let Some(answer) = attempts.settle(answer) {
                return answer;
            }
        }
    }

    /// Inserts a block with a deduplication token. Repeating the insert changes nothing as long as
    /// the first one is within the table's deduplication window.
    ///
    /// # Errors
    /// See [`ClickHouseError`]. Unless the error is [`ClickHouseError::Row`], the caller repeats
    /// the insert.
    pub async fn insert(
        &self,
        table: Table,
        token: &str,
        block: &Block,
    ) -> Result<(), ClickHouseError> {
        let columns: Vec<&str> = table.columns().iter().map(|&(name, _)| name).collect();
        let sql = format!("INSERT INTO {} ({}) FORMAT Native", table.name(), columns.join(", "));
        let own = if table == Table::Events { &PINNED_FOR_EVENTS[..] } else { &[] };
        let mut attempts = self.replicas.attempts(Repeatable::No).await;
        loop {
            let insert = attempts.client().insert_formatted_with(sql.as_str());
            let insert = insert.with_setting("database", &self.database);
            let insert = self
                .pinned
                .iter()
                .chain(own)
                .fold(insert, |insert, &(name, value)| insert.with_setting(name, value));
            let insert = insert
                .with_setting("insert_deduplication_token", token)
                .with_timeouts(Some(SEND_TIMEOUT), Some(ANSWER_TIMEOUT));
            if let Some(answer) = attempts.settle(send(insert, block).await) {
                return answer;
            }
        }
    }

    /// Returns the rows of a range that are stored in the table.
    ///
    /// # Errors
    /// See [`ClickHouseError`].
    pub async fn stored_rows(
        &self,
        table: Table,
        partition: &TopicPartition,
        range: Range,
    ) -> Result<StoredRows, ClickHouseError> {
        let (database, name) = (&self.database, table.name());
        let sql = format!(
            "SELECT kafka_offset, _block_number FROM {database}.{name} WHERE kafka_partition = ? \
             AND kafka_offset BETWEEN ? AND ? ORDER BY kafka_offset"
        );
        let mut attempts = self.replicas.attempts(Repeatable::Yes).await;
        let rows = loop {
            let read = async |client: &Client| {
                self.catch_up(client, name).await?;
                let query = client.query(&sql).bind(partition.partition);
                let query = query.bind(range.first.0).bind(range.last.0);
                within(query.fetch_all::<(u64, u64)>()).await
            };
            let answer = read(attempts.client()).await;
            if let Some(answer) = attempts.settle(answer) {
                break answer?;
            }
        };
        let Some(oldest) = rows.iter().map(|&(_, insert)| insert).min() else {
            return Ok(StoredRows::default());
        };
        let still_deduplicated = match self.windows.get(&table) {
            // The other half of the window allows for inserts of other processes before ours is
            // repeated.
            Some(window) => {
                let since = self.newest_insert(table).await? - oldest.cast_signed();
                since < window.cast_signed() / 2
            }
            None => false,
        };
        let offsets = rows.iter().map(|&(offset, _)| Offset(offset.cast_signed())).collect();
        Ok(StoredRows { offsets, still_deduplicated })
    }

    /// Returns the ids of those of the events that are stored from offsets of the partition before
    /// `before`.
    pub(crate) async fn stored_events(
        &self,
        keys: &[&EventKey],
        partition: &TopicPartition,
        before: Offset,
    ) -> Result<HashSet<String>, ClickHouseError> {
        let distinct = |of: fn(&EventKey) -> &str| {
            let values: BTreeSet<&str> = keys.iter().map(|key| of(key)).collect();
            values.into_iter().collect::<Vec<_>>()
        };
        let times: BTreeSet<i64> = keys.iter().map(|key| key.occurred_at.micros()).collect();
        let times: Vec<String> = times
            .iter()
            .map(|micros| format!("fromUnixTimestamp64Micro({micros}, 'UTC')"))
            .collect();
        let (database, name) = (&self.database, Table::Events.name());
        // The first three conditions are on the sorting key of the table.
        let sql = format!(
            "SELECT DISTINCT event_id FROM {database}.{name} WHERE source IN ? AND kind IN ? \
             AND occurred_at IN ({}) AND event_id IN ? \
             AND kafka_partition = ? AND kafka_offset < ?",
            times.join(", ")
        );
        let (sources, kinds) = (distinct(|key| &key.source), distinct(|key| key.kind.as_str()));
        let ids = distinct(|key| &key.event_id);
        let mut attempts = self.replicas.attempts(Repeatable::Yes).await;
        loop {
            let read = async |client: &Client| {
                self.catch_up(client, name).await?;
                let query = client.query(&sql).bind(&sources).bind(&kinds).bind(&ids);
                let query = query.bind(partition.partition).bind(before.0);
                within(query.fetch_all::<String>()).await
            };
            let answer = read(attempts.client()).await;
            if let Some(answer) = attempts.settle(answer) {
                return answer.map(|ids| ids.into_iter().collect());
            }
        }
    }

    /// Returns the greatest offset of a partition that is stored in the table, if it is at least
    /// `from`.
    ///
    /// # Errors
    /// See [`ClickHouseError`].
    pub async fn newest_row(
        &self,
        table: Table,
        partition: i32,
        from: i64,
    ) -> Result<Option<Offset>, ClickHouseError> {
        let (database, name) = (&self.database, table.name());
        let sql = format!(
            "SELECT count(), max(kafka_offset) FROM {database}.{name} \
             WHERE kafka_partition = ? AND kafka_offset >= ?"
        );
        let mut attempts = self.replicas.attempts(Repeatable::Yes).await;
        let (rows, newest) = loop {
            let read = async |client: &Client| {
                self.catch_up(client, name).await?;
                let query = client.query(&sql).bind(partition).bind(from);
                within(query.fetch_one::<(u64, u64)>()).await
            };
            let answer = read(attempts.client()).await;
            if let Some(answer) = attempts.settle(answer) {
                break answer?;
            }
        };
        Ok((rows > 0).then(|| Offset(newest.cast_signed())))
    }

    /// Returns the number of the table's newest insert. ClickHouse numbers the inserts of a table
    /// consecutively. The part of an insert has its number, and a merged part the greatest number
    /// of its sources. `_block_number` of a row is the number of the insert that stored it. The
    /// difference of both numbers is therefore at least the number of inserts since.
    async fn newest_insert(&self, table: Table) -> Result<i64, ClickHouseError> {
        let sql = "SELECT max(max_block_number) FROM system.parts \
                   WHERE active AND database = ? AND table = ?";
        let mut attempts = self.replicas.attempts(Repeatable::Yes).await;
        loop {
            let query = attempts.client().query(sql).bind(&self.database).bind(table.name());
            let answer = within(query.fetch_one()).await;
            if let Some(answer) = attempts.settle(answer) {
                return answer;
            }
        }
    }

    /// Waits until the server has all rows of a table that any replica has acknowledged, and all tables that depend on it
    /// can be compared with it. Does nothing without replicas.
    async fn catch_up(&self, client: &Client, table: &str) -> Result<(), ClickHouseError> {
        if !self.must_catch_up {
            return Ok(());
        }
        let sync = format!("SYSTEM SYNC REPLICA {}.{table} LIGHTWEIGHT", self.database);
        within(client.query_raw(&sync).execute()).await
    }

    /// Runs a statement that compares tables with each other, such as the correction of sums by rows. First waits until the
    /// server that runs it has all rows of these tables.
    ///
    /// # Errors
    /// See [`ClickHouseError`].
    pub(crate) async fn execute_caught_up(
        &self,
        sql: &str,
        tables: &[&str],
        limit: Duration,
    ) -> Result<(), ClickHouseError> {
        let mut attempts = self.replicas.attempts(Repeatable::No).await;
        loop {
            let run = async |client: &Client| {
                for table in tables {
                    self.catch_up(client, table).await?;
                }
                // A server that hangs must not run the statement after another one has run it.
                let most = (limit.as_secs() / 2).max(1).to_string();
                let query = client
                    .query_raw(sql)
                    .with_setting("database", &self.database)
                    .with_setting("max_execution_time", most)
                    .with_setting("insert_keeper_max_retries", "0")
                    .with_setting("log_queries", "0");
                within_time(limit, query.execute()).await
            };
            let answer = run(attempts.client()).await;
            if let Some(answer) = attempts.settle(answer) {
                return answer;
            }
        }
    }
}

/// Sends a block and waits for the answer.
async fn send(mut insert: InsertFormatted, block: &Block) -> Result<(), ClickHouseError> {
    for piece in &block.pieces {
        insert.send(piece.clone()).await?;
    }
    Ok(insert.end().await?)
}

async fn within<T>(
    answer: impl Future<Output = Result<T, clickhouse::error::Error>>,
) -> Result<T, ClickHouseError> {
    within_time(ANSWER_TIMEOUT, answer).await
}

async fn within_time<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, clickhouse::error::Error>>,
) -> Result<T, ClickHouseError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ClickHouseError::Timeout),
    }
}

/// Returns host and port of a URL, for the log: the rest of it can have a password.
fn authority(url: &str) -> String {
    let uri = url.parse::<http::Uri>().ok();
    let host = uri.as_ref().and_then(http::Uri::host).unwrap_or("a server");
    match uri.as_ref().and_then(http::Uri::port_u16) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::authority;

    #[test]
    fn a_server_is_named_without_its_login() {
        for (url, name) in [
            ("http://one:8123", "one:8123"),
            (
                "https://reader:hunter2@two.example.com:8443/?password=hunter2",
                "two.example.com:8443",
            ),
            ("https://three/?password=hunter2", "three"),
        ] {
            assert_eq!(authority(url), name);
        }
    }
}
