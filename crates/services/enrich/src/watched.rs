//! Reloads a configured file when it changes.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use metrics::Counter;

use crate::{FileError, OpenError};

/// The minimum time between two checks whether a file has changed.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Parses a file into a `T`.
type Read<T> = fn(&Path) -> Result<T, FileError>;

/// The content of a file when it was last valid. If the file changes and is then invalid, the
/// former content stays in use. Each reload is counted in `mailpulse_enrich_file_reads_total`, by
/// `file` and `outcome`.
pub(crate) struct Watched<T> {
    name: &'static str,
    path: PathBuf,
    read: Read<T>,
    value: T,
    /// The state of the file when it was last read, even if it was invalid then.
    stamp: Option<Stamp>,
    checked_at: Instant,
    loaded: Counter,
    failed: Counter,
}

/// Identifies one state of a file. It also changes if the file is replaced by renaming another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl<T> Watched<T> {
    /// Reads the file. `name` is the name of the setting, for the log and the metric.
    ///
    /// # Errors
    /// Fails if the file is invalid, because at the start there is no former content to use.
    pub(crate) fn open(name: &'static str, path: &Path, read: Read<T>) -> Result<Self, OpenError> {
        let stamp = Stamp::of(path);
        let value = read(path).map_err(|cause| OpenError::file(name, path, cause))?;
        let count = |outcome: &'static str| {
            metrics::counter!("mailpulse_enrich_file_reads_total",
                "file" => name, "outcome" => outcome)
        };
        let (loaded, failed) = (count("loaded"), count("failed"));
        loaded.increment(1);
        tracing::info!(setting = name, path = %path.display(), "file loaded");
        let (path, checked_at) = (path.to_owned(), Instant::now());
        Ok(Self { name, path, read, value, stamp, checked_at, loaded, failed })
    }

    /// Reloads the file if it has changed. Checks at most once per [`CHECK_INTERVAL`].
    pub(crate) fn refresh(&mut self, now: Instant) {
        if now.saturating_duration_since(self.checked_at) < CHECK_INTERVAL {
            return;
        }
        self.checked_at = now;
        // Taken before reading, so that a write during the read counts as another change.
        let stamp = Stamp::of(&self.path);
        if stamp == self.stamp {
            return;
        }
        self.stamp = stamp;
        let (setting, path) = (self.name, self.path.display());
        match (self.read)(&self.path) {
            Ok(value) => {
                self.value = value;
                self.loaded.increment(1);
                tracing::info!(setting, %path, "file reloaded");
            }
            Err(error) => {
                self.failed.increment(1);
                tracing::error!(
                    setting,
                    %path,
                    %error,
                    "reloading the file failed; keeping its former content"
                );
            }
        }
    }

    pub(crate) fn value(&self) -> &T {
        &self.value
    }
}

impl Stamp {
    /// Returns the current state of the file; `None` if it does not exist.
    fn of(path: &Path) -> Option<Self> {
        let file = std::fs::metadata(path).ok()?;
        Some(Self {
            device: file.dev(),
            inode: file.ino(),
            length: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(path: &Path) -> Result<u32, FileError> {
        let text = std::fs::read_to_string(path).map_err(csv::Error::from)?;
        text.parse().map_err(|_| FileError::NoKey)
    }

    #[test]
    fn a_changed_file_is_reloaded_and_an_invalid_one_is_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("number");
        assert!(Watched::open("number", &path, number).is_err(), "missing at the start");
        std::fs::write(&path, "1").unwrap();
        let mut watched = Watched::open("number", &path, number).unwrap();
        let mut now = watched.checked_at;
        let mut after = |watched: &mut Watched<u32>, pause| {
            now += pause;
            watched.refresh(now);
            *watched.value()
        };
        std::fs::write(&path, "22").unwrap();
        assert_eq!(after(&mut watched, CHECK_INTERVAL / 2), 1, "checked less than a second ago");
        assert_eq!(after(&mut watched, CHECK_INTERVAL), 22);
        std::fs::write(&path, "nonsense").unwrap();
        assert_eq!(after(&mut watched, CHECK_INTERVAL), 22);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(after(&mut watched, CHECK_INTERVAL), 22);
        let other = directory.path().join("other");
        std::fs::write(&other, "33").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(after(&mut watched, CHECK_INTERVAL), 33);
    }
}
