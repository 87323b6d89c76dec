//! The records whose deliveries are pending, and the offsets that can be committed.

use std::collections::{BTreeMap, HashMap};

use kafka::Offset;
use kafka::feed::Item;

/// The position of a record in `mail.alerts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    pub partition: i32,
    /// The offset in the partition.
    pub offset: Offset,
}

impl Position {
    /// Returns the position of an item.
    pub const fn of(item: &Item) -> Self {
        Self { partition: item.partition, offset: item.offset }
    }
}

/// What to do with an item that was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// The item is new: pass it to every channel.
    Deliver(Position),
    /// The partition came back to this member while the delivery of the item was pending: do nothing.
    Pending,
    /// The partition came back to this member after the item was delivered: mark it as done again.
    Delivered(Item),
}

/// The pending records by partition. Channels finish in any order; an offset is done once the
/// records at this offset and before it are finished by every channel.
#[derive(Debug, Default)]
pub struct Progress {
    partitions: HashMap<i32, PartitionProgress>,
    pending: usize,
}

#[derive(Debug, Default)]
struct PartitionProgress {
    /// By offset: the item and the number of channels that have not finished it.
    pending: BTreeMap<Offset, (Item, usize)>,
    /// The greatest offset that is done.
    done: Option<Offset>,
}

impl Progress {
    /// Adds an item that `channels` channels will finish.
    pub fn start(&mut self, item: Item, channels: usize) -> Admission {
        let position = Position::of(&item);
        let partition = self.partitions.entry(position.partition).or_default();
        if partition.done.is_some_and(|done| position.offset <= done) {
            return Admission::Delivered(item);
        }
        if partition.pending.contains_key(&position.offset) {
            return Admission::Pending;
        }
        partition.pending.insert(position.offset, (item, channels));
        self.pending += 1;
        Admission::Deliver(position)
    }

    /// Records that one channel has finished a record. If this completes more offsets, returns the
    /// last item that is done together with all items before it.
    pub fn finish(&mut self, position: Position) -> Option<Item> {
        let partition = self.partitions.get_mut(&position.partition)?;
        let (_, channels) = partition.pending.get_mut(&position.offset)?;
        *channels = channels.saturating_sub(1);
        let mut last = None;
        while let Some(first) = partition.pending.first_entry()
            && first.get().1 == 0
        {
            let (item, _) = first.remove();
            partition.done = Some(item.offset);
            self.pending -= 1;
            last = Some(item);
        }
        last
    }

    /// Returns the number of pending records.
    pub const fn pending(&self) -> usize {
        self.pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(partition: i32, offset: i64) -> Item {
        let (topic, offset) = ("mail.alerts".to_owned(), Offset(offset));
        Item { topic, partition, offset, key: Vec::new(), value: None, headers: Vec::new() }
    }

    fn finish(progress: &mut Progress, partition: i32, offset: i64) -> Option<i64> {
        let position = Position { partition, offset: Offset(offset) };
        progress.finish(position).map(|item| item.offset.0)
    }

    #[test]
    fn an_offset_is_done_after_every_channel_and_after_those_before_it() {
        let mut progress = Progress::default();
        for offset in [7, 9, 10] {
            let position = Position { partition: 0, offset: Offset(offset) };
            assert_eq!(progress.start(item(0, offset), 2), Admission::Deliver(position));
        }
        assert_eq!(finish(&mut progress, 0, 9), None);
        assert_eq!(finish(&mut progress, 0, 9), None, "offset 7 is pending");
        assert_eq!(finish(&mut progress, 0, 7), None, "one channel has not finished offset 7");
        assert_eq!(finish(&mut progress, 0, 7), Some(9));
        assert_eq!(progress.pending(), 1);
        assert_eq!(finish(&mut progress, 0, 10), None);
        assert_eq!(finish(&mut progress, 0, 10), Some(10));
        assert_eq!(progress.pending(), 0);
    }

    #[test]
    fn partitions_do_not_wait_for_each_other() {
        let mut progress = Progress::default();
        progress.start(item(0, 1), 1);
        progress.start(item(1, 1), 1);
        assert_eq!(finish(&mut progress, 1, 1), Some(1));
        assert_eq!(progress.pending(), 1);
    }

    #[test]
    fn a_record_that_is_read_again_is_not_delivered_again() {
        let mut progress = Progress::default();
        progress.start(item(0, 1), 1);
        progress.start(item(0, 2), 1);
        assert_eq!(finish(&mut progress, 0, 1), Some(1));
        assert_eq!(progress.start(item(0, 1), 1), Admission::Delivered(item(0, 1)));
        assert_eq!(progress.start(item(0, 2), 1), Admission::Pending);
        assert_eq!(finish(&mut progress, 0, 2), Some(2));
    }
}
