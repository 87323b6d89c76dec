//! Which offsets every channel is through with.

use std::collections::{BTreeMap, HashMap};

use kafka::feed::Item;

/// A record under way: its partition and offset in `mail.alerts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl Ticket {
    /// Of an item.
    pub const fn of(item: &Item) -> Self {
        Self { partition: item.partition, offset: item.offset }
    }
}

/// What is to become of an item that was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Intake {
    /// It is new: hand it to every channel.
    Deliver(Ticket),
    /// The partition came back to this member while the item was still under way: nothing to do.
    UnderWay,
    /// The partition came back to this member after the item was delivered: mark it done again.
    Delivered(Item),
}

/// The records under way, by partition. Channels finish in any order; an offset is done once all
/// before it are.
#[derive(Debug, Default)]
pub struct Progress {
    partitions: HashMap<i32, Partition>,
    waiting: usize,
}

#[derive(Debug, Default)]
struct Partition {
    /// By offset: the item and how many channels it waits for.
    under_way: BTreeMap<i64, (Item, usize)>,
    /// The greatest offset that is done.
    done: Option<i64>,
}

impl Progress {
    /// Takes note of an item that `channels` channels will finish.
    pub fn begin(&mut self, item: Item, channels: usize) -> Intake {
        let ticket = Ticket::of(&item);
        let partition = self.partitions.entry(ticket.partition).or_default();
        if partition.done.is_some_and(|done| ticket.offset <= done) {
            return Intake::Delivered(item);
        }
        if partition.under_way.contains_key(&ticket.offset) {
            return Intake::UnderWay;
        }
        partition.under_way.insert(ticket.offset, (item, channels));
        self.waiting += 1;
        Intake::Deliver(ticket)
    }

    /// One channel is through with a record. Returns the last item of its partition that is done
    /// now together with all before it, if that is news.
    pub fn finish(&mut self, ticket: Ticket) -> Option<Item> {
        let partition = self.partitions.get_mut(&ticket.partition)?;
        let (_, left) = partition.under_way.get_mut(&ticket.offset)?;
        *left = left.saturating_sub(1);
        let mut last = None;
        while let Some(first) = partition.under_way.first_entry()
            && first.get().1 == 0
        {
            let (item, _) = first.remove();
            partition.done = Some(item.offset);
            self.waiting -= 1;
            last = Some(item);
        }
        last
    }

    /// Records that wait for some channel.
    pub const fn waiting(&self) -> usize {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(partition: i32, offset: i64) -> Item {
        let topic = "mail.alerts".to_owned();
        Item { topic, partition, offset, key: Vec::new(), value: None, headers: Vec::new() }
    }

    fn finish(progress: &mut Progress, partition: i32, offset: i64) -> Option<i64> {
        progress.finish(Ticket { partition, offset }).map(|item| item.offset)
    }

    #[test]
    fn an_offset_waits_for_every_channel_and_for_those_before_it() {
        let mut progress = Progress::default();
        for offset in [7, 9, 10] {
            let ticket = Ticket { partition: 0, offset };
            assert_eq!(progress.begin(item(0, offset), 2), Intake::Deliver(ticket));
        }
        assert_eq!(finish(&mut progress, 0, 9), None);
        assert_eq!(finish(&mut progress, 0, 9), None, "7 is not done");
        assert_eq!(finish(&mut progress, 0, 7), None, "one channel is not through with 7");
        assert_eq!(finish(&mut progress, 0, 7), Some(9));
        assert_eq!(progress.waiting(), 1);
        assert_eq!(finish(&mut progress, 0, 10), None);
        assert_eq!(finish(&mut progress, 0, 10), Some(10));
        assert_eq!(progress.waiting(), 0);
    }

    #[test]
    fn partitions_do_not_wait_for_each_other() {
        let mut progress = Progress::default();
        progress.begin(item(0, 1), 1);
        progress.begin(item(1, 1), 1);
        assert_eq!(finish(&mut progress, 1, 1), Some(1));
        assert_eq!(progress.waiting(), 1);
    }

    #[test]
    fn what_is_read_again_is_not_delivered_again() {
        let mut progress = Progress::default();
        progress.begin(item(0, 1), 1);
        progress.begin(item(0, 2), 1);
        assert_eq!(finish(&mut progress, 0, 1), Some(1));
        assert_eq!(progress.begin(item(0, 1), 1), Intake::Delivered(item(0, 1)));
        assert_eq!(progress.begin(item(0, 2), 1), Intake::UnderWay);
        assert_eq!(finish(&mut progress, 0, 2), Some(2));
    }
}
