//! What cannot be read, in the folder `quarantine` of the spool's directory.
//!
//! Each item is a file. Its name is the number of the segment, the offset in it, and the cause:
//! `00000000000000000012-0000000345.damaged`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::SpoolError;
use crate::error::disk_error;
use crate::files::{create_private_directory, private_file, sync_directory};

/// Why something is in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The disk lost or changed some of the bytes. The item contains them with their frame.
    Damaged,
    /// The entry is as it was written, but this release cannot read its headers. The item contains its
    /// payload.
    BadHeaders,
    /// The entry is encrypted with a key that is not configured, or was changed after that. The item contains it as it is
    /// on the disk.
    Sealed,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 3] = [Self::Damaged, Self::BadHeaders, Self::Sealed];

    /// The stable code, which is the extension of the file and a metric label.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::BadHeaders => "bad_headers",
            Self::Sealed => "sealed",
        }
    }

    fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.code() == code)
    }
}

/// How much is in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quarantined {
    /// The number of items.
    pub items: u64,
    /// The length of all of them.
    pub bytes: u64,
}

/// A file in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedItem {
    /// The number of the segment that contained it.
    pub segment: u64,
    /// Its offset in the segment.
    pub offset: u64,
    /// Why it is in quarantine.
    pub cause: Cause,
    /// The length of the file.
    pub bytes: u64,
    /// When the file was written.
    pub moved_at: SystemTime,
    path: PathBuf,
}

impl QuarantinedItem {
    /// Returns everything in quarantine, by segment and offset. Does not lock the spool, so another
    /// process may use it at the same time.
    ///
    /// # Errors
    /// Returns [`SpoolError::Disk`] if the folder cannot be read.
    pub fn all(spool_directory: &Path) -> Result<Vec<Self>, SpoolError> {
        let folder = folder(spool_directory);
        let files = match std::fs::read_dir(&folder) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(disk_error(&folder)(error)),
        };
        let mut items = Vec::new();
        for file in files {
            let file = file.map_err(disk_error(&folder))?;
            match Self::of(file.path(), &file) {
                Ok(item) => items.extend(item),
                // It was removed in the meantime.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(disk_error(&file.path())(error)),
            }
        }
        items.sort_by_key(|item| (item.segment, item.offset, item.cause));
        Ok(items)
    }

    /// Returns `None` for a file of another name.
    fn of(path: PathBuf, file: &std::fs::DirEntry) -> io::Result<Option<Self>> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let parsed = name.split_once('.').and_then(|(position, cause)| {
            let (segment, offset) = position.split_once('-')?;
            Some((segment.parse().ok()?, offset.parse().ok()?, Cause::from_code(cause)?))
        });
        let Some((segment, offset, cause)) = parsed else { return Ok(None) };
        let metadata = file.metadata()?;
        let (bytes, moved_at) = (metadata.len(), metadata.modified()?);
        Ok(Some(Self { segment, offset, cause, bytes, moved_at, path }))
    }

    /// Returns the file's content.
    ///
    /// # Errors
    /// Returns [`SpoolError::Disk`] if the file cannot be read.
    pub fn read(&self) -> Result<Vec<u8>, SpoolError> {
        std::fs::read(&self.path).map_err(disk_error(&self.path))
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

pub(crate) fn sum(items: &[QuarantinedItem]) -> Quarantined {
    let bytes = items.iter().map(|item| item.bytes).sum();
    Quarantined { items: items.len() as u64, bytes }
}

/// Writes an item. It is durable, and complete under its name, when this returns.
pub(crate) fn write(
    spool_directory: &Path,
    segment: u64,
    offset: usize,
    cause: Cause,
    bytes: &[u8],
) -> Result<(), SpoolError> {
    let folder = folder(spool_directory);
    create_private_directory(&folder).map_err(disk_error(&folder))?;
    let path = item_path(&folder, segment, offset, cause);
    let unfinished = folder.join("unfinished");
    let opened = private_file().create(true).truncate(true).write(true).open(&unfinished);
    opened
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&unfinished, &path))
        .and_then(|()| sync_directory(&folder))
        .map_err(disk_error(&path))
}

pub(crate) fn remove(item: &QuarantinedItem) -> Result<(), SpoolError> {
    let removed = std::fs::remove_file(&item.path);
    let folder = item.path.parent().unwrap_or(Path::new("."));
    removed.and_then(|()| sync_directory(folder)).map_err(disk_error(&item.path))
}

/// Moves the files that earlier releases wrote beside the segments: `<segment>.damaged`, whose offset
/// is not known.
pub(crate) fn adopt_damaged_files(spool_directory: &Path) -> Result<(), SpoolError> {
    for file in std::fs::read_dir(spool_directory).map_err(disk_error(spool_directory))? {
        let path = file.map_err(disk_error(spool_directory))?.path();
        let is_damaged = path.extension().is_some_and(|found| found == Cause::Damaged.code());
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let Some(segment) = stem.filter(|_| is_damaged).and_then(|stem| stem.parse().ok()) else {
            continue;
        };
        let folder = folder(spool_directory);
        let moved = create_private_directory(&folder)
            .and_then(|()| std::fs::rename(&path, item_path(&folder, segment, 0, Cause::Damaged)))
            .and_then(|()| sync_directory(&folder))
            .and_then(|()| sync_directory(spool_directory));
        moved.map_err(disk_error(&path))?;
    }
    Ok(())
}

fn folder(spool_directory: &Path) -> PathBuf {
    spool_directory.join("quarantine")
}

fn item_path(folder: &Path, segment: u64, offset: usize, cause: Cause) -> PathBuf {
    folder.join(format!("{segment:020}-{offset:010}.{}", cause.code()))
}
