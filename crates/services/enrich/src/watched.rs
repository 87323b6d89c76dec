//! A file of the operator's that is read again when it changes.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use metrics::Counter;

use crate::{FileError, OpenError};

/// How often a file is asked whether it has changed.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// Makes a `T` of a file.
type Read<T> = fn(&Path) -> Result<T, FileError>;

/// What was read from a file, as of its last good reading. A file that cannot be read changes
/// nothing: what was known goes on being used, and log and metric
/// (`mailpulse_enrich_file_reads_total`, by `file` and `outcome`) say so once per change.
pub(crate) struct Watched<T> {
    name: &'static str,
    path: PathBuf,
    read: Read<T>,
    value: T,
    /// Of the file that was last tried, whether or not it could be read.
    stamp: Option<Stamp>,
    asked: Instant,
    taken: Counter,
    refused: Counter,
}

/// Tells one state of a file from another, also when it was replaced by renaming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl<T> Watched<T> {
    /// Reads the file. `name` is that of the setting, for log and metric.
    ///
    /// # Errors
    /// When it cannot be read: at the start that is the operator's mistake.
    pub(crate) fn open(name: &'static str, path: &Path, read: Read<T>) -> Result<Self, OpenError> {
        let stamp = Stamp::of(path);
        let value = read(path).map_err(|why| OpenError::file(name, path, why))?;
        let count = |outcome: &'static str| {
            metrics::counter!("mailpulse_enrich_file_reads_total",
                "file" => name, "outcome" => outcome)
        };
        let (taken, refused) = (count("taken"), count("refused"));
        taken.increment(1);
        tracing::info!(file = name, path = %path.display(), "read");
        let (path, asked) = (path.to_owned(), Instant::now());
        Ok(Self { name, path, read, value, stamp, asked, taken, refused })
    }

    /// Reads the file again if it has changed and was not asked for a second.
    pub(crate) fn refresh(&mut self, now: Instant) {
        if now.saturating_duration_since(self.asked) < ASKED_EVERY {
            return;
        }
        self.asked = now;
        // Before the reading: what is written meanwhile is another change.
        let stamp = Stamp::of(&self.path);
        if stamp == self.stamp {
            return;
        }
        self.stamp = stamp;
        let (file, path) = (self.name, self.path.display());
        match (self.read)(&self.path) {
            Ok(value) => {
                self.value = value;
                self.taken.increment(1);
                tracing::info!(file, %path, "read again");
            }
            Err(error) => {
                self.refused.increment(1);
                tracing::error!(file, %path, %error, "not readable, going on with the former");
            }
        }
    }

    /// What was read last.
    pub(crate) fn value(&self) -> &T {
        &self.value
    }
}

impl Stamp {
    /// `None` when there is no such file.
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
    fn a_changed_file_is_taken_and_a_broken_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("number");
        assert!(Watched::open("number", &path, number).is_err(), "missing at the start");
        std::fs::write(&path, "1").unwrap();
        let mut watched = Watched::open("number", &path, number).unwrap();
        let mut now = watched.asked;
        let mut after = |watched: &mut Watched<u32>, pause| {
            now += pause;
            watched.refresh(now);
            *watched.value()
        };
        std::fs::write(&path, "22").unwrap();
        assert_eq!(after(&mut watched, ASKED_EVERY / 2), 1, "asked a moment ago");
        assert_eq!(after(&mut watched, ASKED_EVERY), 22);
        std::fs::write(&path, "nonsense").unwrap();
        assert_eq!(after(&mut watched, ASKED_EVERY), 22);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(after(&mut watched, ASKED_EVERY), 22);
        let other = directory.path().join("other");
        std::fs::write(&other, "33").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(after(&mut watched, ASKED_EVERY), 33);
    }
}
