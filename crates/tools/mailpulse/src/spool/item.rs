//! One entry or one item in quarantine.

use std::borrow::Cow;
use std::path::Path;

use jiff::Timestamp;
use record::RawHeaders;
use spool::{Cause, FRAME_BYTES, Part, Parts, QuarantinedItem, SpoolError, SpoolKeys};

use super::SpoolId;

/// An entry of a segment, or an item in quarantine.
pub(crate) struct Item {
    pub(crate) id: SpoolId,
    /// Why it cannot be read; `None` for an entry that can be published.
    pub(crate) cause: Option<Cause>,
    /// When it was moved; `None` if it is not in quarantine.
    pub(crate) moved_at: Option<Timestamp>,
    bytes: Vec<u8>,
}

impl Item {
    pub(crate) fn from_part(segment: u64, offset: usize, part: Part<'_>, keys: &SpoolKeys) -> Self {
        let (bytes, cause) = match part {
            Part::Entry(payload) => match keys.open(payload) {
                Ok(plain) if spool::request::decode(&plain).is_some() => (plain, None),
                Ok(plain) => (plain, Some(Cause::BadHeaders)),
                Err(_) => (payload.into(), Some(Cause::Sealed)),
            },
            Part::Damaged(bytes) => (bytes.into(), Some(Cause::Damaged)),
        };
        let id = SpoolId { segment, offset: offset as u64 };
        Self { id, cause, moved_at: None, bytes: bytes.into_owned() }
    }

    pub(crate) fn from_quarantine(
        item: &QuarantinedItem,
        keys: &SpoolKeys,
    ) -> Result<Self, SpoolError> {
        let id = SpoolId { segment: item.segment, offset: item.offset };
        let moved_at = Timestamp::try_from(item.moved_at).unwrap_or_default();
        let bytes = item.read()?;
        let plain = keys.open(&bytes).map(Cow::into_owned);
        let bytes = plain.unwrap_or(bytes);
        Ok(Self { id, cause: Some(item.cause), moved_at: Some(moved_at), bytes })
    }

    /// Returns the item with this id, in quarantine or else in a pending segment.
    pub(crate) fn find(
        directory: &Path,
        id: SpoolId,
        keys: &SpoolKeys,
    ) -> Result<Option<Self>, SpoolError> {
        let items = QuarantinedItem::all(directory)?;
        let is_wanted =
            |item: &&QuarantinedItem| (item.segment, item.offset) == (id.segment, id.offset);
        if let Some(item) = items.iter().find(is_wanted) {
            return Self::from_quarantine(item, keys).map(Some);
        }
        let Some(segment) = spool::read_segment(directory, id.segment)? else { return Ok(None) };
        let mut parts = Parts::of(&segment);
        let found = parts.find(|&(offset, _)| offset as u64 == id.offset);
        Ok(found.map(|(offset, part)| Self::from_part(id.segment, offset, part, keys)))
    }

    /// Returns the payload of the entry. `None` if damage has changed even the length.
    pub(crate) fn payload(&self) -> Option<&[u8]> {
        if self.cause != Some(Cause::Damaged) {
            return Some(&self.bytes);
        }
        let (length, _) = self.bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        self.bytes.get(FRAME_BYTES..).filter(|payload| payload.len() == length)
    }

    /// Returns headers and body, if they can be read. Those of a damaged item may be wrong.
    pub(crate) fn request(&self) -> Option<(RawHeaders<'_>, &[u8])> {
        spool::request::decode(self.payload()?)
    }

    /// Returns everything, with the frame if it is damaged.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the stable name of its state.
    pub(crate) const fn state(&self) -> &'static str {
        match (self.moved_at, self.cause) {
            (Some(_), _) => "quarantined",
            (None, None) => "pending",
            (None, Some(_)) => "unreadable",
        }
    }
}

/// Returns the time at which a request was received.
pub(crate) fn received_at(headers: &RawHeaders<'_>) -> Timestamp {
    Timestamp::from_microsecond(headers.received_at.micros()).unwrap_or_default()
}
