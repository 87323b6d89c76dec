use std::io;
use std::path::{Path, PathBuf};

use crate::{MAX_PAYLOAD_BYTES, SealError};

/// Why an operation of the spool failed.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The entries would exceed the spool's limit.
    #[error("the spool has reached its limit of {limit} bytes")]
    Full {
        /// The spool's limit in bytes.
        limit: u64,
    },
    /// An entry is empty or longer than [`MAX_PAYLOAD_BYTES`].
    #[error("an entry of {0} bytes cannot be spooled; entries have 1 to {MAX_PAYLOAD_BYTES} bytes")]
    InvalidLength(usize),
    /// Another process has locked the directory.
    #[error("another process uses the spool directory {0}; give each process its own directory")]
    InUse(PathBuf),
    /// An entry could not be encrypted.
    #[error("{0}")]
    Seal(#[from] SealError),
    /// A file system call failed.
    #[error("{path}: {error}")]
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
}

impl SpoolError {
    /// Returns the stable code, used in metric labels and problem documents.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Full { .. } => "spool_full",
            Self::InvalidLength(_) => "spool_unfit",
            Self::InUse(_) => "spool_in_use",
            Self::Seal(_) => "spool_sealing_failed",
            Self::Disk { .. } => "spool_failed",
        }
    }
}

/// Returns a conversion of an I/O error at `path`, for `map_err`.
pub(crate) fn disk_error(path: &Path) -> impl FnOnce(io::Error) -> SpoolError {
    let path = path.to_owned();
    move |error| SpoolError::Disk { path, error }
}
