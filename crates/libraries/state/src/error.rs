use std::path::PathBuf;

use crate::MalformedEntry;

/// Why the store cannot go on. All of these end the process; its supervisor starts it anew.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process has the directory open.
    #[error("{0} is in use by another process; give every member a dedupe.directory of its own")]
    InUse(PathBuf),
    /// The files cannot be read or written.
    #[error("local store: {0}")]
    Files(#[from] fjall::Error),
    /// The directory cannot be made or emptied.
    #[error("{path}: {error}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A record of the changelog is not one of ours.
    #[error("changelog of partition {partition}: {error}")]
    Changelog {
        /// Which.
        partition: i32,
        /// What is wrong with it.
        error: MalformedEntry,
    },
    /// A partition was named that was not taken over.
    #[error("partition {0} is not ours")]
    NotOurs(i32),
}

impl StateError {
    /// The stable code, for logs and metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InUse(_) => "state_in_use",
            Self::Files(_) => "state_files",
            Self::Directory { .. } => "state_directory",
            Self::Changelog { .. } => "state_changelog",
            Self::NotOurs(_) => "state_not_ours",
        }
    }
}
