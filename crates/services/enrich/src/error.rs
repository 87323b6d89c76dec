//! Why the enrichment cannot start.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use hickory_resolver::net::NetError;
use maxminddb::MaxMindDbError;

/// What the tables and files are read from cannot be used. Each message is whole: it names the
/// setting or the built-in table, and the cause.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file that the operator named cannot be read, or is not what it should be.
    #[error("enrich.{setting}: {}: {why}", path.display())]
    File {
        /// The key in `[enrich]`.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        why: FileError,
    },
    /// There is no name server to ask for mail exchangers.
    #[error("enrich.mx_resolver: {0}")]
    Resolver(NetError),
    /// The thread that asks for mail exchangers cannot be started.
    #[error("enrich.mx: no thread to ask from: {0}")]
    Thread(io::Error),
    /// A built-in table contradicts itself. Tests read all of them, so this is a broken build.
    #[error("{table}: {problem}")]
    BuiltIn {
        /// The file in `crates/services/enrich/data/`.
        table: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// Why a file of the operator's cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is no database, or not to be read.
    #[error(transparent)]
    Database(#[from] MaxMindDbError),
    /// It is no CSV, or not to be read.
    #[error(transparent)]
    Csv(#[from] csv::Error),
    /// The table has nothing to be joined by.
    #[error("the first column has to be `recipient` or `campaign`")]
    NoKey,
    /// A column without a name, counted from 1.
    #[error("column {0} has no name")]
    NamelessColumn(usize),
    /// Two columns of one name.
    #[error("column `{0}` is there twice")]
    ColumnTwice(String),
    /// A row that belongs to nobody.
    #[error("line {line}: an empty {column}")]
    EmptyKey {
        /// From 1.
        line: u64,
        /// The first column.
        column: String,
    },
    /// Two rows of one recipient or campaign.
    #[error("line {line}: {key} is there twice")]
    KeyTwice {
        /// Of the second, from 1.
        line: u64,
        /// As it stands there.
        key: String,
    },
    /// More than 2³² different rows.
    #[error("too many rows")]
    TooManyRows,
}

impl OpenError {
    /// The stable code, for logs and tests.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "enrich_file_unusable",
            Self::Resolver(_) => "enrich_resolver_unusable",
            Self::Thread(_) => "enrich_no_thread",
            Self::BuiltIn { .. } => "enrich_data_broken",
        }
    }

    pub(crate) fn file(setting: &'static str, path: &Path, why: FileError) -> Self {
        Self::File { setting, path: path.to_owned(), why }
    }

    pub(crate) fn built_in(table: &'static str, problem: impl Display) -> Self {
        Self::BuiltIn { table, problem: problem.to_string() }
    }
}
