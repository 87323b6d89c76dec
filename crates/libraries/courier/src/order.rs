//! The order of deliveries: one waits for all earlier ones with which it shares a key.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Gives out turns. Clones share the order.
#[derive(Debug)]
pub struct Order<K>(Arc<Mutex<Last<K>>>);

/// By key: the last turn that has it, and when that turn ends.
#[derive(Debug)]
struct Last<K> {
    turns: HashMap<K, (u64, watch::Receiver<()>)>,
    next_number: u64,
}

impl<K> Clone for Order<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for Order<K> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Last { turns: HashMap::new(), next_number: 0 })))
    }
}

/// A place in the order. It ends when it is dropped.
#[derive(Debug)]
pub struct Turn<K: Hash + Eq> {
    number: u64,
    keys: Vec<K>,
    earlier: Vec<watch::Receiver<()>>,
    order: Order<K>,
    /// Closes when the turn ends.
    _end: watch::Sender<()>,
}

impl<K: Hash + Eq + Clone> Order<K> {
    /// Returns the turn after all turns so far that have one of the keys and have not ended.
    pub fn enter(&self, keys: Vec<K>) -> Turn<K> {
        let (end, ended) = watch::channel(());
        let mut last = self.lock();
        let number = last.next_number;
        last.next_number += 1;
        let mut earlier = HashMap::new();
        for key in &keys {
            // A turn waits for the last one of each key only, which waits for those before it.
            if let Some((number, turn)) = last.turns.insert(key.clone(), (number, ended.clone())) {
                earlier.insert(number, turn);
            }
        }
        drop(last);
        // A key that was given twice is one.
        earlier.remove(&number);
        let earlier = earlier.into_values().collect();
        Turn { number, keys, earlier, order: self.clone(), _end: end }
    }
}

impl<K> Order<K> {
    fn lock(&self) -> MutexGuard<'_, Last<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of keys for which a turn has not ended.
    pub fn len(&self) -> usize {
        self.lock().turns.len()
    }

    /// Returns whether all turns have ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Hash + Eq> Turn<K> {
    /// Returns when all earlier turns with one of the keys have ended.
    pub async fn wait(&mut self) {
        // Removed after the wait, so that nothing is forgotten if this future is dropped.
        while let Some(turn) = self.earlier.last_mut() {
            // Nothing is ever sent: this fails when the sender is dropped.
            while turn.changed().await.is_ok() {}
            self.earlier.pop();
        }
    }
}

impl<K: Hash + Eq> Drop for Turn<K> {
    fn drop(&mut self) {
        let mut last = self.order.lock();
        for key in &self.keys {
            if last.turns.get(key).is_some_and(|(number, _)| *number == self.number) {
                last.turns.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether the turn has come.
    async fn has_come(turn: &mut Turn<u8>) -> bool {
        tokio::select! {
            biased;
            () = turn.wait() => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn a_turn_waits_for_all_earlier_ones_that_share_a_key() {
        let order = Order::default();
        let mut first = order.enter(vec![1, 2]);
        let mut second = order.enter(vec![3]);
        let mut third = order.enter(vec![2, 3]);
        let mut fourth = order.enter(vec![1, 1]);
        assert!(has_come(&mut first).await && has_come(&mut second).await);
        assert!(!has_come(&mut third).await && !has_come(&mut fourth).await);
        drop(first);
        assert!(has_come(&mut fourth).await, "only the first one has key 1");
        assert!(!has_come(&mut third).await, "the second one has key 3");
        drop(second);
        assert!(has_come(&mut third).await);
        drop((third, fourth));
        assert!(order.is_empty(), "nothing is remembered");
    }

    #[tokio::test]
    async fn turns_with_one_key_come_in_order() {
        let order = Order::default();
        let first = order.enter(vec![1]);
        let mut second = order.enter(vec![1]);
        let mut third = order.enter(vec![1]);
        drop(first);
        assert!(!has_come(&mut third).await);
        assert!(has_come(&mut second).await);
        drop(second);
        assert!(has_come(&mut third).await);
    }
}
