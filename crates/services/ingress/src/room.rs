//! Memory for bodies: one budget in bytes for all requests under way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Gauge, gauge};
use tokio::sync::Notify;

/// The budget. Room is taken as a body grows, so that a length that was only announced costs
/// nothing. Those who have some go first: a body that is almost there is not to wait for one that
/// has not begun, which would be waiting for the room that it takes up.
#[derive(Clone)]
pub(crate) struct Room(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Told when there is more room, or fewer who go first.
    changed: Notify,
    whole: usize,
    taken: Gauge,
}

struct State {
    free: usize,
    /// Those who have some and wait for more.
    first: usize,
}

/// Room that is taken until this is dropped.
pub(crate) struct Held {
    room: Room,
    bytes: usize,
}

/// A place among those who go first.
struct First<'r>(&'r Room);

impl Room {
    pub(crate) fn new(whole: usize) -> Self {
        gauge!("mailpulse_ingress_body_limit_bytes").set(whole as f64);
        let state = Mutex::new(State { free: whole, first: 0 });
        let taken = gauge!("mailpulse_ingress_body_bytes");
        Self(Arc::new(Shared { state, changed: Notify::new(), whole, taken }))
    }

    /// Nothing yet.
    pub(crate) fn none(&self) -> Held {
        Held { room: self.clone(), bytes: 0 }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, state: &State) {
        self.0.taken.set((self.0.whole - state.free) as f64);
        self.0.changed.notify_waiters();
    }
}

impl Held {
    /// Takes so many bytes more, waiting for those who have them. Who asks for more than there is
    /// at all gets all there is.
    pub(crate) async fn grow(&mut self, bytes: usize) {
        let bytes = bytes.min(self.room.0.whole - self.bytes);
        if self.take(bytes, false) {
            return;
        }
        let room = self.room.clone();
        let first = (self.bytes > 0).then(|| First::new(&room));
        loop {
            let changed = room.0.changed.notified();
            if self.take(bytes, first.is_some()) {
                return;
            }
            changed.await;
        }
    }

    fn take(&mut self, bytes: usize, is_first: bool) -> bool {
        let mut state = self.room.state();
        if bytes > state.free || (state.first > 0 && !is_first) {
            return false;
        }
        state.free -= bytes;
        self.bytes += bytes;
        self.room.0.taken.set((self.room.0.whole - state.free) as f64);
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.room.state();
        state.free += self.bytes;
        self.room.changed(&state);
    }
}

impl<'r> First<'r> {
    fn new(room: &'r Room) -> Self {
        room.state().first += 1;
        Self(room)
    }
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.first -= 1;
        self.0.changed(&state);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn waits(held: &mut Held, bytes: usize) -> bool {
        tokio::time::timeout(Duration::from_millis(20), held.grow(bytes)).await.is_err()
    }

    #[tokio::test]
    async fn what_is_taken_is_not_there_for_others_until_it_is_given_back() {
        let room = Room::new(100);
        let (mut first, mut second) = (room.none(), room.none());
        first.grow(30).await;
        first.grow(30).await;
        assert!(waits(&mut second, 41).await);
        assert!(!waits(&mut second, 40).await);
        drop(first);
        assert!(!waits(&mut second, 60).await);
        drop(second);
        let state = room.state();
        assert_eq!((state.free, state.first), (100, 0));
    }

    #[tokio::test]
    async fn who_has_some_goes_before_who_has_none() {
        let room = Room::new(100);
        let (mut grown, mut other, mut newcomer) = (room.none(), room.none(), room.none());
        grown.grow(60).await;
        other.grow(30).await;
        let growing = tokio::spawn(async move {
            grown.grow(20).await;
            grown
        });
        while room.state().first == 0 {
            tokio::task::yield_now().await;
        }
        assert!(waits(&mut newcomer, 5).await, "there are 10, and they are spoken for");
        drop(other);
        let grown = growing.await.unwrap();
        assert_eq!(grown.bytes, 80);
        assert!(!waits(&mut newcomer, 5).await);
    }

    #[tokio::test]
    async fn who_gives_up_is_not_waited_for() {
        let room = Room::new(100);
        let (mut grown, mut newcomer) = (room.none(), room.none());
        grown.grow(60).await;
        let mut other = room.none();
        other.grow(30).await;
        assert!(waits(&mut grown, 20).await);
        assert!(!waits(&mut newcomer, 10).await);
    }

    #[tokio::test]
    async fn more_than_there_is_gets_all_there_is() {
        let room = Room::new(100);
        let mut held = room.none();
        held.grow(70).await;
        held.grow(1000).await;
        assert_eq!(room.state().free, 0);
    }
}
