//! Memory for request bodies: one budget in bytes that all requests share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Gauge, gauge};
use tokio::sync::Notify;

/// The budget. A request reserves memory while its body arrives, so a `Content-Length` without a
/// body reserves nothing.
///
/// Requests that already hold memory are served first. Otherwise an almost complete body and one
/// that has not started could wait for each other.
#[derive(Clone)]
pub(crate) struct BodyMemory(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Notified when memory is released or a request with priority stops waiting.
    changed: Notify,
    limit: usize,
    reserved: Gauge,
}

struct State {
    free: usize,
    /// The number of requests that hold memory and wait for more.
    waiting_with_priority: usize,
}

/// The memory that one request holds. Dropping it releases the memory.
pub(crate) struct Reservation {
    memory: BodyMemory,
    bytes: usize,
}

/// Counts a request in [`State::waiting_with_priority`] until it is dropped.
struct Priority<'m>(&'m BodyMemory);

impl BodyMemory {
    pub(crate) fn new(limit: usize) -> Self {
        gauge!("mailpulse_ingress_body_memory_limit_bytes").set(limit as f64);
        let state = Mutex::new(State { free: limit, waiting_with_priority: 0 });
        let reserved = gauge!("mailpulse_ingress_body_memory_bytes");
        Self(Arc::new(Shared { state, changed: Notify::new(), limit, reserved }))
    }

    pub(crate) fn empty_reservation(&self) -> Reservation {
        Reservation { memory: self.clone(), bytes: 0 }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self, state: &State) {
        self.0.reserved.set((self.0.limit - state.free) as f64);
        self.0.changed.notify_waiters();
    }
}

impl Reservation {
    /// Adds `bytes` to the reservation, and waits until other requests have released enough memory.
    /// A reservation never grows beyond the whole budget.
    pub(crate) async fn grow(&mut self, bytes: usize) {
        let bytes = bytes.min(self.memory.0.limit - self.bytes);
        if self.try_grow(bytes, false) {
            return;
        }
        let memory = self.memory.clone();
        let priority = (self.bytes > 0).then(|| Priority::new(&memory));
        loop {
            let changed = memory.0.changed.notified();
            if self.try_grow(bytes, priority.is_some()) {
                return;
            }
            changed.await;
        }
    }

    fn try_grow(&mut self, bytes: usize, has_priority: bool) -> bool {
        let mut state = self.memory.state();
        if bytes > state.free || (state.waiting_with_priority > 0 && !has_priority) {
            return false;
        }
        state.free -= bytes;
        self.bytes += bytes;
        self.memory.0.reserved.set((self.memory.0.limit - state.free) as f64);
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.memory.state();
        state.free += self.bytes;
        self.memory.notify(&state);
    }
}

impl<'m> Priority<'m> {
    fn new(memory: &'m BodyMemory) -> Self {
        memory.state().waiting_with_priority += 1;
        Self(memory)
    }
}

impl Drop for Priority<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.waiting_with_priority -= 1;
        self.0.notify(&state);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn must_wait(reservation: &mut Reservation, bytes: usize) -> bool {
        tokio::time::timeout(Duration::from_millis(20), reservation.grow(bytes)).await.is_err()
    }

    #[tokio::test]
    async fn reserved_memory_is_unavailable_until_it_is_released() {
        let memory = BodyMemory::new(100);
        let (mut first, mut second) = (memory.empty_reservation(), memory.empty_reservation());
        first.grow(30).await;
        first.grow(30).await;
        assert!(must_wait(&mut second, 41).await);
        assert!(!must_wait(&mut second, 40).await);
        drop(first);
        assert!(!must_wait(&mut second, 60).await);
        drop(second);
        let state = memory.state();
        assert_eq!((state.free, state.waiting_with_priority), (100, 0));
    }

    #[tokio::test]
    async fn requests_that_hold_memory_are_served_first() {
        let memory = BodyMemory::new(100);
        let [mut grown, mut other, mut new] = [(); 3].map(|()| memory.empty_reservation());
        grown.grow(60).await;
        other.grow(30).await;
        let growing = tokio::spawn(async move {
            grown.grow(20).await;
            grown
        });
        while memory.state().waiting_with_priority == 0 {
            tokio::task::yield_now().await;
        }
        assert!(
            must_wait(&mut new, 5).await,
            "10 bytes are free, but another request has priority"
        );
        drop(other);
        let grown = growing.await.unwrap();
        assert_eq!(grown.bytes, 80);
        assert!(!must_wait(&mut new, 5).await);
    }

    #[tokio::test]
    async fn a_request_that_stops_waiting_loses_its_priority() {
        let memory = BodyMemory::new(100);
        let [mut grown, mut other, mut new] = [(); 3].map(|()| memory.empty_reservation());
        grown.grow(60).await;
        other.grow(30).await;
        assert!(must_wait(&mut grown, 20).await);
        assert!(!must_wait(&mut new, 10).await);
    }

    #[tokio::test]
    async fn a_reservation_larger_than_the_budget_gets_the_whole_budget() {
        let memory = BodyMemory::new(100);
        let mut reservation = memory.empty_reservation();
        reservation.grow(70).await;
        reservation.grow(1000).await;
        assert_eq!(memory.state().free, 0);
    }
}
