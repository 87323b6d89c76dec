//! Reads the segments that a previous process left in the directory.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use crate::error::disk_error;
use crate::segment_format::{End, Entries};
use crate::{SEGMENT_EXTENSION, Segment, SpoolError, segment_path};

/// What [`crate::Spool::open`] found in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// The number of entries that wait to be published.
    pub entries: u64,
    /// The length of interrupted writes, which were truncated.
    pub torn_bytes: u64,
    /// The length of damaged bytes, which were moved to files that end in `.damaged`.
    pub damaged_bytes: u64,
}

/// Returns the numbers of all segments in the directory in ascending order.
pub(crate) fn segment_numbers(directory: &Path) -> Result<Vec<u64>, SpoolError> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(disk_error(directory))? {
        let path = entry.map_err(disk_error(directory))?.path();
        let is_segment = path.extension().is_some_and(|extension| extension == SEGMENT_EXTENSION);
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        numbers.extend(stem.filter(|_| is_segment).and_then(|stem| stem.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Reads one segment, cuts off a torn write, and moves damaged bytes to another file.
pub(crate) fn recover_segment(
    directory: &Path,
    number: u64,
    recovered: &mut Recovered,
) -> Result<Segment, SpoolError> {
    let path = segment_path(directory, number);
    let bytes = std::fs::read(&path).map_err(disk_error(&path))?;
    let mut entries = Entries::of(&bytes);
    let count = entries.by_ref().count() as u64;
    let (valid, rest) = bytes.split_at(entries.read_bytes());
    match entries.end() {
        End::Clean => {}
        End::Torn => {
            tracing::info!(?path, bytes = rest.len(), "spool segment truncated after a torn write");
            recovered.torn_bytes += rest.len() as u64;
        }
        End::Damaged => {
            let damaged = path.with_extension("damaged");
            tracing::error!(
                ?path,
                moved_to = ?damaged,
                bytes = rest.len(),
                "spool segment is damaged; unreadable bytes moved to another file"
            );
            File::create(&damaged)
                .and_then(|mut file| file.write_all(rest).and_then(|()| file.sync_all()))
                .map_err(disk_error(&damaged))?;
            recovered.damaged_bytes += rest.len() as u64;
        }
    }
    if !rest.is_empty() {
        let file = OpenOptions::new().write(true).open(&path).map_err(disk_error(&path))?;
        file.set_len(valid.len() as u64)
            .and_then(|()| file.sync_all())
            .map_err(disk_error(&path))?;
    }
    Ok(Segment { number, entries: count, bytes: valid.len() as u64 })
}
