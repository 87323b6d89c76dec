//! A bounded, durable queue of byte strings on the local disk.
//!
//! The ingress keeps requests in it while Kafka is unavailable. A directory contains numbered
//! segments, and each segment contains entries (see [`Entries`] for their bytes). New entries go to
//! the last segment. The reader takes the first segment, publishes all its entries, and removes it.
//! If the process is killed in between, the next process reads that segment again, so publishing an
//! entry twice must be harmless.
//!
//! When [`Spool::append`] returns, its entries survive a kill and a power failure: their bytes are
//! synced with `fdatasync`, and the directory is synced when a segment is created. An interrupted
//! write is found by its checksum and truncated; its append never returned successfully. The reader
//! moves bytes of successful appends that it cannot read to the folder `quarantine`.
//!
//! Webhooks contain personal data. With [`SpoolKeys`], payloads are encrypted on the disk. The files belong to their owner alone (mode 0600), and so do the
//! directories that the spool creates (0700).
//!
//! All calls block.

mod error;
mod files;
mod quarantine;
mod recovery;
pub mod request;
mod seal;
mod segment_format;

use std::collections::VecDeque;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

pub use error::SpoolError;
use error::disk_error;
use files::{create_private_directory, private_file, sync_directory};
pub use quarantine::{Cause, Quarantined, QuarantinedItem};
pub use recovery::Recovered;
use recovery::{recover_segment, segment_numbers};
pub use seal::{MIN_KEY_BYTES, SealError, SpoolKeys, is_sealed};
pub use segment_format::{End, Entries, FRAME_BYTES, MAX_PAYLOAD_BYTES, Part, Parts};

/// A new segment starts when the last one has this many bytes. A segment is small enough to be kept
/// in memory while it is published, and to be published again after a kill.
const SEGMENT_BYTES: u64 = 8 << 20;
const SEGMENT_EXTENSION: &str = "spool";
/// How many bytes [`Spool::check_capacity`] writes: enough for dozens of typical webhooks.
const PROBE_BYTES: u64 = 64 << 10;

/// A file of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    number: u64,
    entries: u64,
    bytes: u64,
}

/// The segment that new entries are appended to.
#[derive(Debug)]
struct OpenSegment {
    file: File,
    segment: Segment,
}

/// The queue. Only one process can open a directory at a time.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    lock: File,
    limit: u64,
    keys: SpoolKeys,
    closed: VecDeque<Segment>,
    open: Option<OpenSegment>,
    next_number: u64,
    quarantined: Quarantined,
}

impl Spool {
    /// Opens the spool in `directory` with a limit in bytes, and creates the directory if it is
    /// missing. What is in quarantine counts towards the limit.
    ///
    /// # Errors
    /// Returns [`SpoolError::InUse`] if another process has opened the directory, and
    /// [`SpoolError::Disk`] if a file cannot be read or written.
    pub fn open(directory: &Path, limit: u64) -> Result<(Self, Recovered), SpoolError> {
        Self::open_sealed(directory, limit, SpoolKeys::default())
    }

    /// Like [`Spool::open`], with keys that encrypt the payloads on the disk.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub fn open_sealed(
        directory: &Path,
        limit: u64,
        keys: SpoolKeys,
    ) -> Result<(Self, Recovered), SpoolError> {
        create_private_directory(directory).map_err(disk_error(directory))?;
        let path = directory.join("lock");
        let lock = private_file()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(disk_error(&path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => SpoolError::InUse(directory.to_owned()),
            TryLockError::Error(error) => SpoolError::Disk { path, error },
        })?;
        let mut spool = Self {
            directory: directory.to_owned(),
            lock,
            limit,
            keys,
            closed: VecDeque::new(),
            open: None,
            next_number: 0,
            quarantined: Quarantined::default(),
        };
        quarantine::adopt_damaged_files(directory)?;
        spool.refresh_quarantined()?;
        let recovered = spool.recover()?;
        Ok((spool, recovered))
    }

    /// Moves a part of the first segment to the folder `quarantine`. It is durable there when this
    /// returns, and the segment can be removed. `offset` is its offset in the segment. Moving the same
    /// part again changes nothing.
    ///
    /// # Errors
    /// Returns [`SpoolError::Disk`] if the part cannot be written.
    pub fn quarantine(
        &mut self,
        segment: u64,
        offset: usize,
        cause: Cause,
        bytes: &[u8],
    ) -> Result<(), SpoolError> {
        let bytes = match cause {
            // Its plain payload was opened when its segment was read.
            Cause::BadHeaders => self.keys.seal(bytes)?,
            Cause::Damaged | Cause::Sealed => bytes.into(),
        };
        quarantine::write(&self.directory, segment, offset, cause, &bytes)?;
        self.refresh_quarantined()
    }

    /// Appends the payload of an item in quarantine, and then removes the item. If the process is
    /// killed in between, the item is still there, and its events are published twice.
    ///
    /// # Errors
    /// As [`Spool::append`], and [`SpoolError::Disk`] if the item cannot be removed.
    pub fn readmit(&mut self, item: &QuarantinedItem, payload: &[u8]) -> Result<(), SpoolError> {
        self.append(&[payload])?;
        quarantine::remove(item)?;
        self.refresh_quarantined()
    }

    /// Returns how much is in quarantine.
    pub const fn quarantined(&self) -> Quarantined {
        self.quarantined
    }

    /// Reads again what is in quarantine. An operator may have removed something.
    ///
    /// # Errors
    /// Returns [`SpoolError::Disk`] if the folder cannot be read.
    pub fn refresh_quarantined(&mut self) -> Result<(), SpoolError> {
        self.quarantined = quarantine::sum(&QuarantinedItem::all(&self.directory)?);
        Ok(())
    }

    /// Appends all payloads or none. They are durable when this returns.
    ///
    /// # Errors
    /// [`SpoolError::Full`] and [`SpoolError::InvalidLength`] are returned before anything is
    /// written. After [`SpoolError::Disk`] the entries may exist nevertheless.
    pub fn append(&mut self, payloads: &[impl AsRef<[u8]>]) -> Result<(), SpoolError> {
        let mut bytes = Vec::new();
        for payload in payloads {
            let payload = payload.as_ref();
            if payload.is_empty() || payload.len() > MAX_PAYLOAD_BYTES {
                return Err(SpoolError::InvalidLength(payload.len()));
            }
            segment_format::write_entry(&self.keys.seal(payload)?, &mut bytes);
        }
        if self.used_bytes() + bytes.len() as u64 > self.limit {
            return Err(SpoolError::Full { limit: self.limit });
        }
        let mut open = match self.open.take() {
            Some(open) if open.segment.bytes < SEGMENT_BYTES => open,
            full => {
                self.closed.extend(full.map(|open| open.segment));
                self.create_segment()?
            }
        };
        if let Err(error) = open.file.write_all(&bytes).and_then(|()| open.file.sync_data()) {
            let path = self.path(open.segment.number);
            self.abandon(open);
            return Err(SpoolError::Disk { path, error });
        }
        open.segment.entries += payloads.len() as u64;
        open.segment.bytes += bytes.len() as u64;
        self.open = Some(open);
        Ok(())
    }

    /// Checks that 64 KiB more can be appended, or the whole limit if that is less. Writes them to
    /// a separate file, syncs it, and removes it.
    ///
    /// # Errors
    /// Returns [`SpoolError::Full`] or [`SpoolError::Disk`], as an append of that length would.
    pub fn check_capacity(&self) -> Result<(), SpoolError> {
        let bytes = PROBE_BYTES.min(self.limit);
        if self.used_bytes() + bytes > self.limit {
            return Err(SpoolError::Full { limit: self.limit });
        }
        // The file is not a segment: if the process is killed here, the next one must not publish
        // its contents.
        let path = self.directory.join("probe");
        let opened = private_file().create(true).truncate(true).write(true).open(&path);
        let written = opened.and_then(|mut file| {
            io::copy(&mut io::repeat(b'p').take(bytes), &mut file)?;
            file.sync_all()
        });
        let removed = std::fs::remove_file(&path);
        written.and(removed).map_err(disk_error(&path))
    }

    /// Returns the number of the first segment, for [`Spool::remove_segment`], and its bytes, for
    /// [`Parts`]. Its payloads are plain, except for those that no key opens. Later appends go to another segment. Returns `None` if the spool is empty.
    ///
    /// # Errors
    /// Returns [`SpoolError::Disk`] if the segment cannot be read.
    pub fn first_segment(&mut self) -> Result<Option<(u64, Vec<u8>)>, SpoolError> {
        if self.closed.is_empty() {
            self.closed.extend(self.open.take().map(|open| open.segment));
        }
        let Some(first) = self.closed.front() else { return Ok(None) };
        let path = self.path(first.number);
        let mut bytes = std::fs::read(&path).map_err(disk_error(&path))?;
        // A failed write may have left bytes after the last entry.
        bytes.truncate(usize::try_from(first.bytes).unwrap_or(usize::MAX));
        Ok(Some((first.number, opened(bytes, &self.keys))))
    }

    /// Removes the first segment if it has this number. Call it when its entries are published, and
    /// everything else in it is in quarantine.
    ///
    /// # Errors
    /// Returns [`SpoolError::Disk`] if the file cannot be removed; the segment is then still the
    /// first.
    pub fn remove_segment(&mut self, number: u64) -> Result<(), SpoolError> {
        if self.closed.front().is_some_and(|first| first.number == number) {
            let path = self.path(number);
            std::fs::remove_file(&path).map_err(disk_error(&path))?;
            self.closed.pop_front();
        }
        Ok(())
    }

    /// Returns the length of all entries, frames included.
    pub fn bytes(&self) -> u64 {
        self.segments().map(|segment| segment.bytes).sum()
    }

    /// Returns the number of entries that wait to be published.
    pub fn entries(&self) -> u64 {
        self.segments().map(|segment| segment.entries).sum()
    }

    /// Returns true if no segment is left.
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    fn used_bytes(&self) -> u64 {
        self.bytes() + self.quarantined.bytes
    }

    fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.closed.iter().chain(self.open.iter().map(|open| &open.segment))
    }

    fn create_segment(&mut self) -> Result<OpenSegment, SpoolError> {
        let number = self.next_number;
        self.next_number += 1;
        let path = self.path(number);
        let file =
            private_file().create_new(true).append(true).open(&path).map_err(disk_error(&path))?;
        let open = OpenSegment { file, segment: Segment { number, entries: 0, bytes: 0 } };
        if let Err(error) = sync_directory(&self.directory) {
            self.abandon(open);
            return Err(SpoolError::Disk { path: self.directory.clone(), error });
        }
        Ok(open)
    }

    /// Closes a segment after a failed write. An unknown part of that write may be on the disk, so
    /// we truncate it if possible, and later entries go to another segment.
    fn abandon(&mut self, open: OpenSegment) {
        let OpenSegment { file, segment } = open;
        if segment.entries == 0 {
            // With a full disk every request reaches this line. Without the removal, each would
            // leave an empty file.
            let _ = std::fs::remove_file(self.path(segment.number));
        } else {
            let _ = file.set_len(segment.bytes);
            self.closed.push_back(segment);
        }
    }

    fn recover(&mut self) -> Result<Recovered, SpoolError> {
        let mut recovered = Recovered::default();
        // A number is not used again while an item in quarantine has it in its name.
        let items = QuarantinedItem::all(&self.directory)?;
        let next_number = items.iter().map(|item| item.segment + 1).max();
        for number in segment_numbers(&self.directory)? {
            self.next_number = number + 1;
            let segment = recover_segment(&self.directory, number, &mut recovered)?;
            if segment.bytes == 0 {
                let path = self.path(number);
                std::fs::remove_file(&path).map_err(disk_error(&path))?;
            } else {
                recovered.entries += segment.entries;
                self.closed.push_back(segment);
            }
        }
        self.next_number = self.next_number.max(next_number.unwrap_or(0));
        Ok(recovered)
    }

    fn path(&self, number: u64) -> PathBuf {
        segment_path(&self.directory, number)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

/// Returns the numbers of the segments in a spool's directory, in their order, without locking it.
/// Another process may use the spool at the same time.
///
/// # Errors
/// Returns [`SpoolError::Disk`] if the directory cannot be read.
pub fn pending_segments(directory: &Path) -> Result<Vec<u64>, SpoolError> {
    segment_numbers(directory)
}

/// Returns the bytes of a segment, for [`Parts`]. Returns `None` if another process has removed the
/// segment. If another process appends to it, the last part may be incomplete.
///
/// # Errors
/// Returns [`SpoolError::Disk`] if the segment cannot be read.
pub fn read_segment(directory: &Path, number: u64) -> Result<Option<Vec<u8>>, SpoolError> {
    let path = segment_path(directory, number);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(disk_error(&path)(error)),
    }
}

/// Returns a segment with its payloads opened. What no key opens stays as it is: nothing is lost.
pub fn opened(segment: Vec<u8>, keys: &SpoolKeys) -> Vec<u8> {
    let is_plain = |(_, part): (usize, Part<'_>)| match part {
        Part::Entry(payload) => !is_sealed(payload),
        Part::Damaged(_) => true,
    };
    if Parts::of(&segment).all(is_plain) {
        return segment;
    }
    let mut plain = Vec::with_capacity(segment.len());
    for (offset, part) in Parts::of(&segment) {
        match part {
            Part::Entry(payload) => match keys.open(payload) {
                Ok(opened) => segment_format::write_entry(&opened, &mut plain),
                Err(error) => {
                    tracing::error!(offset, %error, "an entry of the spool cannot be decrypted");
                    segment_format::write_entry(payload, &mut plain);
                }
            },
            Part::Damaged(bytes) => plain.extend_from_slice(bytes),
        }
    }
    plain
}

fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}.{SEGMENT_EXTENSION}"))
}
