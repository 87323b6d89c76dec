//! The reasons why the enrichment cannot start.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use hickory_resolver::net::NetError;
use maxminddb::MaxMindDbError;

/// A file, a built-in table or the resolver cannot be used. Each message names the setting or the
/// table, and the cause.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A configured file cannot be read or has the wrong format.
    #[error("enrich.{setting}: {}: {cause}", path.display())]
    File {
        /// The key in `[enrich]`.
        setting: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The fault of the file.
        cause: FileError,
    },
    /// A setting of `[clickhouse]` cannot be used for a look-up query.
    #[error("{key}: {problem}")]
    ClickHouse {
        /// The dotted key.
        key: &'static str,
        /// The fault and the fix.
        problem: String,
    },
    /// The resolver for mail exchangers cannot be configured.
    #[error("enrich.mx_resolver: {0}")]
    Resolver(NetError),
    /// The thread that resolves mail exchangers, or the one that queries ClickHouse, cannot be started.
    #[error("cannot start the thread for enrich.mx_lookups or enrich.lookup_query: {0}")]
    Thread(io::Error),
    /// A `[[source]]` names a mailbox provider that does not exist.
    #[error(
        "source {source_name}: `feedback_loops` has `{name}`, which is no mailbox provider; use the \
         names of the column mailbox_provider, such as yahoo and outlook"
    )]
    UnknownMailboxProvider {
        source_name: String,
        /// The name in the settings.
        name: String,
    },
    /// A built-in table has an error. Tests read all tables, so this happens only in a broken
    /// build.
    #[error("built-in table {table}: {problem}")]
    BuiltIn {
        /// The file in `crates/services/enrich/data/`.
        table: &'static str,
        /// The error in the table.
        problem: String,
    },
}

/// The fault of a file that the operator configured.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file is not a MaxMind database or cannot be read.
    #[error(transparent)]
    Database(#[from] MaxMindDbError),
    /// The file is not CSV or cannot be read.
    #[error(transparent)]
    Csv(#[from] csv::Error),
    /// The first column is not a key.
    #[error("the first column must be `recipient` or `campaign`")]
    NoKey,
    /// A column has no name. Columns are counted from 1.
    #[error("column {0} has no name")]
    UnnamedColumn(usize),
    /// Two columns have the same name.
    #[error("column `{0}` is duplicated")]
    DuplicateColumn(String),
    /// A row has no key.
    #[error("line {line}: the {column} is empty")]
    EmptyKey {
        /// The line, counted from 1.
        line: u64,
        /// The name of the first column.
        column: String,
    },
    /// Two rows have the same campaign.
    #[error("line {line}: an earlier line also has the campaign {campaign}")]
    DuplicateCampaign {
        /// The second of the two lines, counted from 1.
        line: u64,
        /// The campaign as written in the file.
        campaign: String,
    },
    /// Two rows have the same recipient. The address is not part of the message, because the message is in the log and
    /// in `/readyz`.
    #[error("line {line}: an earlier line also has the recipient of this line")]
    DuplicateRecipient {
        /// The second of the two lines, counted from 1.
        line: u64,
    },
    /// The table has more than 2³² different rows.
    #[error("the table has too many different rows")]
    TooManyRows,
}

impl OpenError {
    /// Returns the stable code for logs and tests.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "enrich_file_unusable",
            Self::ClickHouse { .. } => "enrich_clickhouse_unusable",
            Self::Resolver(_) => "enrich_resolver_unusable",
            Self::Thread(_) => "enrich_no_thread",
            Self::UnknownMailboxProvider { .. } => "enrich_unknown_mailbox_provider",
            Self::BuiltIn { .. } => "enrich_data_broken",
        }
    }

    pub(crate) fn file(setting: &'static str, path: &Path, cause: FileError) -> Self {
        Self::File { setting, path: path.to_owned(), cause }
    }

    pub(crate) fn clickhouse(key: &'static str, problem: impl Into<String>) -> Self {
        Self::ClickHouse { key, problem: problem.into() }
    }

    pub(crate) fn built_in(table: &'static str, problem: impl Display) -> Self {
        Self::BuiltIn { table, problem: problem.to_string() }
    }
}
