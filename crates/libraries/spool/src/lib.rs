//! A queue on the local disk for what cannot be handed on now: appended durably, read back in
//! order, bounded in bytes.
//!
//! A directory holds numbered segments, each of some records (see [`Records`] for the bytes). New
//! records go to the last segment; the first is read, handed on as a whole, and removed. A process
//! that is killed in between reads that segment again: what is handed on must bear repetition.
//!
//! When [`Spool::append`] returns, its records survive a kill and a power failure: they were written
//! and synced (`fdatasync`, and the directory's entry before it). A write that was cut off is found
//! by its checksum and forgotten; it was confirmed to nobody. Bytes that were confirmed and are no
//! longer readable are set aside, not deleted.
//!
//! Blocking calls throughout.

mod format;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

pub use format::{End, FRAME_BYTES, MAX_PAYLOAD_BYTES, Records};

/// A segment takes no more records once it has this many bytes: small enough to be held in memory
/// while it is handed on, and to be handed on again after a kill.
const SEGMENT_BYTES: u64 = 8 << 20;
const SUFFIX: &str = "spool";
/// What [`Spool::check_room`] asks for: dozens of usual webhooks.
const ROOM_BYTES: u64 = 64 << 10;

/// The spool cannot do what it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The records would bring it over its limit.
    #[error("the spool is full: {limit} bytes")]
    Full {
        /// Its limit in bytes.
        limit: u64,
    },
    /// A record is empty or longer than [`MAX_PAYLOAD_BYTES`].
    #[error("a record of {0} bytes cannot be spooled")]
    Unfit(usize),
    /// Another process has it.
    #[error("another process uses {0}; give each its own directory")]
    InUse(PathBuf),
    /// The disk.
    #[error("{path}: {error}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl SpoolError {
    /// The stable code, for metrics and answers.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Full { .. } => "spool_full",
            Self::Unfit(_) => "spool_unfit",
            Self::InUse(_) => "spool_in_use",
            Self::Disk { .. } => "spool_failed",
        }
    }
}

/// A file of records that is not written to any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    number: u64,
    records: u64,
    bytes: u64,
}

/// The segment that is written to.
#[derive(Debug)]
struct Open {
    file: File,
    segment: Segment,
}

/// What was found at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Records that wait to be handed on.
    pub records: u64,
    /// Bytes of writes that were cut off; forgotten.
    pub torn_bytes: u64,
    /// Bytes that are no records any more; set aside in files that end in `.damaged`.
    pub damaged_bytes: u64,
}

/// The queue.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    /// Synced when a file appears; also holds the lock.
    lock: File,
    limit: u64,
    closed: VecDeque<Segment>,
    open: Option<Open>,
    next: u64,
}

impl Spool {
    /// Opens the spool in `directory`, which is made if it is missing, with room for `limit` bytes.
    ///
    /// # Errors
    /// [`SpoolError::InUse`], and [`SpoolError::Disk`] when something cannot be read or written.
    pub fn open(directory: &Path, limit: u64) -> Result<(Self, Recovered), SpoolError> {
        std::fs::create_dir_all(directory).map_err(at(directory))?;
        let path = directory.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(at(&path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => SpoolError::InUse(directory.to_owned()),
            TryLockError::Error(error) => SpoolError::Disk { path, error },
        })?;
        let mut spool = Self {
            directory: directory.to_owned(),
            lock,
            limit,
            closed: VecDeque::new(),
            open: None,
            next: 0,
        };
        let recovered = spool.recover()?;
        Ok((spool, recovered))
    }

    /// Appends all records or none; they are durable when this returns.
    ///
    /// # Errors
    /// [`SpoolError::Full`] and [`SpoolError::Unfit`] before anything is written. After
    /// [`SpoolError::Disk`] the records may turn up all the same.
    pub fn append(&mut self, payloads: &[impl AsRef<[u8]>]) -> Result<(), SpoolError> {
        let mut bytes = Vec::new();
        for payload in payloads {
            let payload = payload.as_ref();
            if payload.is_empty() || payload.len() > MAX_PAYLOAD_BYTES {
                return Err(SpoolError::Unfit(payload.len()));
            }
            format::write(payload, &mut bytes);
        }
        if self.bytes() + bytes.len() as u64 > self.limit {
            return Err(SpoolError::Full { limit: self.limit });
        }
        let mut open = match self.open.take() {
            Some(open) if open.segment.bytes < SEGMENT_BYTES => open,
            full => {
                self.closed.extend(full.map(|open| open.segment));
                self.begin()?
            }
        };
        if let Err(error) = open.file.write_all(&bytes).and_then(|()| open.file.sync_data()) {
            let path = self.path(open.segment.number);
            self.abandon(open);
            return Err(SpoolError::Disk { path, error });
        }
        open.segment.records += payloads.len() as u64;
        open.segment.bytes += bytes.len() as u64;
        self.open = Some(open);
        Ok(())
    }

    /// Whether there is room for 64 KiB more, or for as much as the limit allows if that is less:
    /// they are written to a file of their own, synced, and removed.
    ///
    /// # Errors
    /// [`SpoolError::Full`] and [`SpoolError::Disk`], as an append of so many bytes would give.
    pub fn check_room(&self) -> Result<(), SpoolError> {
        let bytes = ROOM_BYTES.min(self.limit);
        if self.bytes() + bytes > self.limit {
            return Err(SpoolError::Full { limit: self.limit });
        }
        // Not a segment: whoever is killed in between leaves nothing that would be handed on.
        let path = self.directory.join("room");
        let written = File::create(&path).and_then(|mut file| {
            io::copy(&mut io::repeat(b'r').take(bytes), &mut file)?;
            file.sync_all()
        });
        let removed = std::fs::remove_file(&path);
        written.and(removed).map_err(at(&path))
    }

    /// The first segment's records, as [`Records`] reads them, and its number for [`Spool::remove`].
    /// Later records go to another segment. `None` when the spool is empty.
    ///
    /// # Errors
    /// [`SpoolError::Disk`].
    pub fn first(&mut self) -> Result<Option<(u64, Vec<u8>)>, SpoolError> {
        if self.closed.is_empty() {
            self.closed.extend(self.open.take().map(|open| open.segment));
        }
        let Some(first) = self.closed.front() else { return Ok(None) };
        let path = self.path(first.number);
        let mut bytes = std::fs::read(&path).map_err(at(&path))?;
        // Behind them is at most what a failed write left.
        bytes.truncate(usize::try_from(first.bytes).unwrap_or(usize::MAX));
        Ok(Some((first.number, bytes)))
    }

    /// Removes the first segment, whose records were handed on.
    ///
    /// # Errors
    /// [`SpoolError::Disk`]; it is then still the first.
    pub fn remove(&mut self, number: u64) -> Result<(), SpoolError> {
        if self.closed.front().is_some_and(|first| first.number == number) {
            let path = self.path(number);
            std::fs::remove_file(&path).map_err(at(&path))?;
            self.closed.pop_front();
        }
        Ok(())
    }

    /// Bytes of all records, frames included.
    pub fn bytes(&self) -> u64 {
        self.segments().map(|segment| segment.bytes).sum()
    }

    /// Records that wait to be handed on.
    pub fn records(&self) -> u64 {
        self.segments().map(|segment| segment.records).sum()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.records() == 0
    }

    fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.closed.iter().chain(self.open.iter().map(|open| &open.segment))
    }

    fn begin(&mut self) -> Result<Open, SpoolError> {
        let number = self.next;
        self.next += 1;
        let path = self.path(number);
        let file =
            OpenOptions::new().create_new(true).append(true).open(&path).map_err(at(&path))?;
        let open = Open { file, segment: Segment { number, records: 0, bytes: 0 } };
        let entry = File::open(&self.directory).and_then(|directory| directory.sync_all());
        if let Err(error) = entry {
            self.abandon(open);
            return Err(SpoolError::Disk { path: self.directory.clone(), error });
        }
        Ok(open)
    }

    /// Gives up a segment that could not be written to. What of the last write is on the disk is
    /// not known, so the next records go to another segment, and this one ends before that write as
    /// far as it can be made to.
    fn abandon(&mut self, open: Open) {
        let Open { file, segment } = open;
        if segment.records == 0 {
            // A full disk is tried again with every request: nothing may be left of each try.
            let _ = std::fs::remove_file(self.path(segment.number));
        } else {
            let _ = file.set_len(segment.bytes);
            self.closed.push_back(segment);
        }
    }

    /// Reads what a former process left.
    fn recover(&mut self) -> Result<Recovered, SpoolError> {
        let mut recovered = Recovered::default();
        for number in self.numbers()? {
            self.next = number + 1;
            let segment = self.recover_segment(number, &mut recovered)?;
            if segment.records == 0 {
                let path = self.path(number);
                std::fs::remove_file(&path).map_err(at(&path))?;
            } else {
                recovered.records += segment.records;
                self.closed.push_back(segment);
            }
        }
        Ok(recovered)
    }

    fn recover_segment(
        &self,
        number: u64,
        recovered: &mut Recovered,
    ) -> Result<Segment, SpoolError> {
        let path = self.path(number);
        let bytes = std::fs::read(&path).map_err(at(&path))?;
        let mut records = Records::of(&bytes);
        let count = records.by_ref().count() as u64;
        let (whole, rest) = bytes.split_at(records.read_bytes());
        match records.end() {
            End::Clean => {}
            End::Torn => {
                tracing::info!(?path, bytes = rest.len(), "a write was cut off; forgotten");
                recovered.torn_bytes += rest.len() as u64;
            }
            End::Damaged => {
                let aside = path.with_extension("damaged");
                tracing::error!(?aside, bytes = rest.len(), "unreadable bytes are set aside");
                File::create(&aside)
                    .and_then(|mut file| file.write_all(rest).and_then(|()| file.sync_all()))
                    .map_err(at(&aside))?;
                recovered.damaged_bytes += rest.len() as u64;
            }
        }
        if !rest.is_empty() {
            let file = OpenOptions::new().write(true).open(&path).map_err(at(&path))?;
            file.set_len(whole.len() as u64).and_then(|()| file.sync_all()).map_err(at(&path))?;
        }
        Ok(Segment { number, records: count, bytes: whole.len() as u64 })
    }

    /// The segments that are there, first to last.
    fn numbers(&self) -> Result<Vec<u64>, SpoolError> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.directory).map_err(at(&self.directory))? {
            let path = entry.map_err(at(&self.directory))?.path();
            let is_segment = path.extension().is_some_and(|extension| extension == SUFFIX);
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            numbers.extend(stem.filter(|_| is_segment).and_then(|stem| stem.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:020}.{SUFFIX}"))
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> SpoolError {
    let path = path.to_owned();
    move |error| SpoolError::Disk { path, error }
}
