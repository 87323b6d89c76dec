//! The latest answers to the queries, between the thread that asks and the stage.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

/// One slot for each query. A newer answer replaces one that was not taken, so that answers do not pile up while no
/// batch ends, such as while Kafka is away.
#[derive(Debug)]
pub(super) struct Answers<T, E>(Arc<Slots<T, E>>);

/// Fills the slots until [`Answers`] is dropped.
#[derive(Debug)]
pub(super) struct AnswerSender<T, E>(Weak<Slots<T, E>>);

#[derive(Debug)]
struct Slots<T, E> {
    slots: Mutex<Vec<Slot<T, E>>>,
    arrived: Condvar,
}

/// What has arrived since the slot was emptied.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slot<T, E> {
    /// The latest table.
    pub(super) table: Option<T>,
    /// Why a later attempt failed.
    pub(super) error: Option<E>,
}

impl<T, E> Default for Slot<T, E> {
    fn default() -> Self {
        Self { table: None, error: None }
    }
}

impl<T, E> Slot<T, E> {
    const fn is_empty(&self) -> bool {
        self.table.is_none() && self.error.is_none()
    }
}

impl<T, E> Answers<T, E> {
    /// Creates an empty slot for each query.
    pub(super) fn new(queries: usize) -> Self {
        let slots = std::iter::repeat_with(Slot::default).take(queries).collect();
        Self(Arc::new(Slots { slots: Mutex::new(slots), arrived: Condvar::new() }))
    }

    pub(super) fn sender(&self) -> AnswerSender<T, E> {
        AnswerSender(Arc::downgrade(&self.0))
    }

    /// Waits until there is an answer. Returns false if there is none at the deadline.
    pub(super) fn wait(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let is_waiting = |slots: &mut Vec<Slot<T, E>>| slots.iter().all(Slot::is_empty);
        let waited = self.0.arrived.wait_timeout_while(self.0.lock(), left, is_waiting);
        let (slots, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !slots.iter().all(Slot::is_empty)
    }

    /// Empties the slots and returns what was in them, in the order of the queries.
    pub(super) fn take_all(&self) -> Vec<Slot<T, E>> {
        self.0.lock().iter_mut().map(std::mem::take).collect()
    }
}

impl<T, E> Clone for AnswerSender<T, E> {
    fn clone(&self) -> Self {
        Self(Weak::clone(&self.0))
    }
}

impl<T, E> AnswerSender<T, E> {
    /// Fills the slot of a query. Returns false if nobody takes answers any more.
    pub(super) fn put(&self, query: usize, answer: Result<T, E>) -> bool {
        let Some(shared) = self.0.upgrade() else { return false };
        if let Some(slot) = shared.lock().get_mut(query) {
            match answer {
                Ok(table) => *slot = Slot { table: Some(table), error: None },
                Err(error) => slot.error = Some(error),
            }
        }
        shared.arrived.notify_all();
        true
    }
}

impl<T, E> Slots<T, E> {
    fn lock(&self) -> MutexGuard<'_, Vec<Slot<T, E>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A table that is large in production.
    type Table = Arc<()>;

    #[test]
    fn answers_that_nobody_takes_do_not_pile_up() {
        let answers = Answers::<Table, u32>::new(2);
        let (sender, table) = (answers.sender(), Arc::new(()));
        for _ in 0..1_000 {
            assert!(sender.put(1, Ok(Arc::clone(&table))));
        }
        assert_eq!(Arc::strong_count(&table), 2, "one answer is kept");
        assert!(sender.put(1, Err(7)) && sender.put(1, Err(8)));
        let taken = answers.take_all();
        let kept = Slot { table: Some(Arc::clone(&table)), error: Some(8) };
        assert_eq!(taken, [Slot::default(), kept], "an error does not replace the table");
        assert!(answers.take_all().iter().all(Slot::is_empty));
        sender.put(0, Err(9));
        sender.put(0, Ok(table));
        assert_eq!(answers.take_all()[0].error, None, "the error is over");
    }

    #[test]
    fn the_first_answer_ends_the_wait_and_the_end_of_the_receiver_ends_the_questions() {
        let answers = Answers::<u32, u32>::new(1);
        let sender = answers.sender();
        assert!(!answers.wait(Instant::now() + Duration::from_millis(20)));
        let late = sender.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            late.put(0, Ok(1))
        });
        assert!(answers.wait(Instant::now() + Duration::from_secs(60)));
        assert!(thread.join().unwrap());
        assert_eq!(answers.take_all()[0].table, Some(1));
        drop(answers);
        assert!(!sender.put(0, Ok(2)));
    }
}
