//! Why the database cannot be used.

use crate::clickhouse_error::{ClickHouseError, code_of};

/// The reason why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A statement failed.
    #[error("{0}")]
    ClickHouse(#[from] ClickHouseError),
    /// The name of the database would need quoting.
    #[error(
        "`{0}` cannot be the name of the database; set clickhouse.database to a name of letters, \
         digits and _ that does not start with a digit"
    )]
    DatabaseName(String),
    /// A file that was applied has changed since.
    #[error(
        "{name} was applied to `{database}` with different content; restore the file and put the \
         change into a new one"
    )]
    MigrationChanged { name: &'static str, database: String },
    /// A table does not exist.
    #[error(
        "table `{database}.{table}` does not exist; set archive.migrate = true, or apply the files of \
         schemas/clickhouse/ to the database"
    )]
    TableMissing { database: String, table: &'static str },
    /// The deduplication window of a table is 0.
    #[error(
        "table `{database}.{table}` ({engine}) does not deduplicate repeated inserts; run ALTER TABLE \
         {database}.{table} MODIFY SETTING {setting} = 10000"
    )]
    DeduplicationOff {
        database: String,
        table: &'static str,
        engine: String,
        /// The setting that is 0.
        setting: &'static str,
    },
    /// The engine of a table cannot deduplicate inserts.
    #[error(
        "table `{database}.{table}` has the engine {engine}, which cannot deduplicate repeated \
         inserts; use an engine of the MergeTree family"
    )]
    WrongEngine { database: String, table: &'static str, engine: String },
    /// Several servers are to have a table that is not replicated.
    #[error(
        "table `{database}.{table}` ({engine}) is not replicated, but clickhouse.url has several servers, or \
         clickhouse.cluster is set: a row would be on one of them, and a repeated insert would store it on another \
         one again; for a new database set clickhouse.cluster, for an existing one see docs/operations.md#replicas, \
         or set one URL and no cluster"
    )]
    NotReplicated { database: String, table: String, engine: String },
    /// ClickHouse has no cluster of this name.
    #[error(
        "ClickHouse has no cluster `{0}`; set clickhouse.cluster to a name of \
         SELECT DISTINCT cluster FROM system.clusters"
    )]
    ClusterUnknown(String),
    /// The cluster has several shards.
    #[error(
        "the cluster `{cluster}` has {shards} shards, and Mailpulse needs all rows on every server; set \
         clickhouse.cluster to a cluster with one shard, whose replicas have the tables"
    )]
    SeveralShards { cluster: String, shards: String },
    /// Two servers do not replicate the same table.
    #[error(
        "the servers {one} and {other} of clickhouse.url are no replicas of each other: the paths of table \
         `events` in Keeper differ; set clickhouse.url to servers of one shard"
    )]
    DifferentReplicas { one: String, other: String },
    /// One of several servers cannot be used.
    #[error("{server}: {error}")]
    OfServer { server: String, error: Box<SchemaError> },
}

impl SchemaError {
    /// Returns the stable code for logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ClickHouse(error) => error.code(),
            Self::NotReplicated { .. } => "not_replicated",
            Self::ClusterUnknown(_) => "cluster_unknown",
            Self::SeveralShards { .. } => "several_shards",
            Self::DifferentReplicas { .. } => "different_replicas",
            Self::OfServer { error, .. } => error.code(),
            Self::DatabaseName(_) => "database_name",
            Self::MigrationChanged { .. } => "migration_changed",
            Self::TableMissing { .. } => "table_missing",
            Self::DeduplicationOff { .. } => "deduplication_off",
            Self::WrongEngine { .. } => "wrong_engine",
        }
    }

    /// Returns true if another server may do what this one has not done.
    pub(super) fn is_of_the_server(&self) -> bool {
        self.is_temporary() || matches!(self, Self::ClickHouse(error) if error.is_of_the_server())
    }

    /// Returns true if the operation may succeed when it is retried.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::ClickHouse(
                ClickHouseError::Unreachable(_)
                | ClickHouseError::NoConnection(_)
                | ClickHouseError::Timeout,
            ) => true,
            Self::ClickHouse(ClickHouseError::Other(text)) => {
                code_of(text).is_some_and(|code| TEMPORARY.iter().any(|&(it, _)| it == code))
            }
            Self::OfServer { error, .. } => error.is_temporary(),
            _ => false,
        }
    }
}

/// The error codes of ClickHouse, from its `src/Common/ErrorCodes.cpp`, with which a statement fails while replicas start,
/// or while another process alters the same replicated table.
const TEMPORARY: [(u32, &str); 4] = [
    (225, "NO_ZOOKEEPER"),
    (242, "TABLE_IS_READ_ONLY"),
    (517, "CANNOT_ASSIGN_ALTER"),
    (999, "KEEPER_EXCEPTION"),
];
