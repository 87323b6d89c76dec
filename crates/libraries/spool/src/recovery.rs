//! Reads the segments that a previous process left in the directory.

use std::fs::OpenOptions;
use std::path::Path;

use crate::error::disk_error;
use crate::segment_format::{Part, Parts, is_torn};
use crate::{SEGMENT_EXTENSION, Segment, SpoolError, segment_path};

/// What [`crate::Spool::open`] found in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// The number of entries that wait to be published.
    pub entries: u64,
    /// The length of interrupted writes, which were truncated.
    pub torn_bytes: u64,
    /// The length of damaged bytes. They stay in their segments until these are published; see
    /// [`crate::Spool::quarantine`].
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

/// Reads one segment, counts its entries, and cuts off a torn write.
pub(crate) fn recover_segment(
    directory: &Path,
    number: u64,
    recovered: &mut Recovered,
) -> Result<Segment, SpoolError> {
    let path = segment_path(directory, number);
    let bytes = std::fs::read(&path).map_err(disk_error(&path))?;
    let (mut count, mut length) = (0, bytes.len());
    for (offset, part) in Parts::of(&bytes) {
        match part {
            Part::Entry(_) => count += 1,
            Part::Damaged(rest) if offset + rest.len() == bytes.len() && is_torn(rest) => {
                tracing::info!(
                    ?path,
                    bytes = rest.len(),
                    "spool segment truncated after a torn write"
                );
                recovered.torn_bytes += rest.len() as u64;
                length = offset;
            }
            Part::Damaged(part) => {
                tracing::error!(?path, offset, bytes = part.len(), "spool segment is damaged");
                recovered.damaged_bytes += part.len() as u64;
            }
        }
    }
    if length < bytes.len() {
        let file = OpenOptions::new().write(true).open(&path).map_err(disk_error(&path))?;
        file.set_len(length as u64).and_then(|()| file.sync_all()).map_err(disk_error(&path))?;
    }
    Ok(Segment { number, entries: count, bytes: length as u64 })
}
