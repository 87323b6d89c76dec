use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use kafka::dead_letters::DeadLetterView;
use record::{Origin, Stage};

use super::dead_letter_record::DeadLetterRecord;
use crate::dead_letter_id::DeadLetterId;

/// Whether a dead letter was redriven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RedriveState {
    /// Not redriven yet.
    Open,
    Redriven,
    /// The dead letter with this id is about the same record. Only that one is redriven.
    CopyOf(DeadLetterId),
}

/// The states of all dead letters of one partition. A marker follows its dead letter in the same
/// partition, so the whole partition is read.
#[derive(Debug, Default)]
pub(crate) struct RedriveStates {
    redriven: HashSet<i64>,
    /// The offset of a copy, and the offset of the first dead letter about the same record.
    copies: HashMap<i64, i64>,
}

impl RedriveStates {
    pub(crate) fn read(view: &DeadLetterView, partition: i32) -> Result<Self, kafka::Error> {
        let mut states = Self::default();
        let mut firsts = FirstDeadLetters::default();
        view.read(partition, 0, |entry| {
            states.add(&DeadLetterRecord::from_entry(entry), &mut firsts);
            Ok::<_, kafka::Error>(ControlFlow::Continue(()))
        })?;
        Ok(states)
    }

    /// Returns the state of a dead letter of this partition.
    pub(crate) fn state(&self, id: DeadLetterId) -> RedriveState {
        let first = self.copies.get(&id.offset).copied();
        if self.redriven.contains(&first.unwrap_or(id.offset)) {
            return RedriveState::Redriven;
        }
        first.map_or(RedriveState::Open, |offset| {
            RedriveState::CopyOf(DeadLetterId { offset, ..id })
        })
    }

    fn add(&mut self, dead_letter: &DeadLetterRecord<'_>, firsts: &mut FirstDeadLetters) {
        let Some(origin) = Origin::parse(dead_letter.added.origin) else { return };
        if dead_letter.is_marker() {
            self.redriven.insert(origin.offset.0);
        } else if dead_letter.stage() == Some(Stage::Archive)
            && let Some(first) = firsts.earlier(&origin, dead_letter.id.offset)
        {
            self.copies.insert(dead_letter.id.offset, first);
        }
    }
}

/// The offset of the first dead letter about each record that `archive` gave up on, by topic,
/// partition and offset of the record.
///
/// `archive` writes dead letters outside of transactions. If it dies before it commits, it writes
/// them again, and redriving both would store two rows. Both have the record's key and are
/// therefore in the same partition.
#[derive(Debug, Default)]
struct FirstDeadLetters(HashMap<(String, i32), HashMap<i64, i64>>);

impl FirstDeadLetters {
    /// Returns the offset of an earlier dead letter about the same record.
    fn earlier(&mut self, origin: &Origin<'_>, offset: i64) -> Option<i64> {
        let topic_partition = (origin.topic.to_owned(), origin.partition);
        let first =
            *self.0.entry(topic_partition).or_default().entry(origin.offset.0).or_insert(offset);
        (first != offset).then_some(first)
    }
}
