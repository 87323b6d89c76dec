use std::path::PathBuf;

use crate::MalformedEntry;

/// The reason why the store cannot continue. Every variant ends the process; its supervisor
/// restarts it.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process has the directory open.
    #[error("{0} is in use by another process; set a different dedupe.directory for each process")]
    InUse(PathBuf),
    /// The files cannot be read or written.
    #[error("cannot read or write the local store: {0}")]
    Files(#[from] fjall::Error),
    /// The directory cannot be created or emptied.
    #[error("cannot create or empty {path}: {error}")]
    Directory {
        /// The path of the directory.
        path: PathBuf,
        /// The error of the operating system.
        error: std::io::Error,
    },
    /// A changelog record cannot be decoded.
    #[error("cannot read the changelog of partition {partition}: {error}")]
    Changelog {
        /// The partition of the changelog.
        partition: i32,
        /// The fault of the record.
        error: MalformedEntry,
    },
    /// A partition was used before it was restored.
    #[error("partition {0} is not assigned to this process")]
    NotAssigned(i32),
}

impl StateError {
    /// Returns the stable code for logs and metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InUse(_) => "state_in_use",
            Self::Files(_) => "state_files",
            Self::Directory { .. } => "state_directory",
            Self::Changelog { .. } => "state_changelog",
            Self::NotAssigned(_) => "state_not_assigned",
        }
    }
}
