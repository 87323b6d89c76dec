//! What has become of the letters of a partition.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use record::{Origin, Stage};
use kafka::StreamError;
use kafka::letters::Letters;

use super::letter::Letter;
use crate::letter_id::LetterId;

/// What has become of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It waits.
    Open,
    /// It was sent back.
    Redriven,
    /// This letter says the same of the same record, and stands for it.
    CopyOf(LetterId),
}

/// The states of all letters of one partition. Read from its beginning to its end: a marker lies
/// behind its letter, on the same partition.
#[derive(Debug, Default)]
pub(crate) struct Book {
    redriven: HashSet<i64>,
    /// By the copy's offset: that of the first.
    copies: HashMap<i64, i64>,
}

impl Book {
    /// Reads a partition.
    pub(crate) fn read(letters: &Letters, partition: i32) -> Result<Self, StreamError> {
        let mut book = Self::default();
        let mut firsts = Firsts::default();
        letters.read(partition, 0, |entry| {
            book.note(&Letter::read(entry), &mut firsts);
            Ok::<_, StreamError>(ControlFlow::Continue(()))
        })?;
        Ok(book)
    }

    /// The state of a letter of this partition.
    pub(crate) fn state(&self, id: LetterId) -> State {
        let first = self.copies.get(&id.offset).copied();
        if self.redriven.contains(&first.unwrap_or(id.offset)) {
            return State::Redriven;
        }
        first.map_or(State::Open, |offset| State::CopyOf(LetterId { offset, ..id }))
    }

    fn note(&mut self, letter: &Letter<'_>, firsts: &mut Firsts) {
        let Some(origin) = Origin::parse(letter.death.origin) else { return };
        if letter.is_marker() {
            self.redriven.insert(origin.offset);
        } else if letter.stage() == Some(Stage::Archive)
            && let Some(first) = firsts.before(&origin, letter.id.offset)
        {
            self.copies.insert(letter.id.offset, first);
        }
    }
}

/// The first letter about each record that the archive gave up on. It alone writes its letters
/// outside of a transaction, so it writes one again when it dies before its commit; sending both
/// back would make two rows. Both have the record's key, so both lie on one partition.
#[derive(Debug, Default)]
struct Firsts(HashMap<(String, i32), HashMap<i64, i64>>);

impl Firsts {
    /// The offset of the letter about this record that came before; `None` for the first.
    fn before(&mut self, origin: &Origin<'_>, offset: i64) -> Option<i64> {
        let topic_partition = (origin.topic.to_owned(), origin.partition);
        let first =
            *self.0.entry(topic_partition).or_default().entry(origin.offset).or_insert(offset);
        (first != offset).then_some(first)
    }
}
