//! Memory for request bodies: one budget in bytes that all requests share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Gauge, gauge};
use service::client_limit::network;
use tokio::sync::Notify;

use crate::limits::Limit;

/// A body up to this length is small: nearly all webhooks are.
pub(crate) const SMALL_BODY_BYTES: usize = 64 * 1024;

/// How the budget is divided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryLimits {
    /// The whole budget.
    pub(crate) total: usize,
    /// What the requests of one client may hold before they are known to be authentic.
    pub(crate) per_client: usize,
    /// What only requests with at most `small_body` bytes may use.
    pub(crate) for_small: usize,
    pub(crate) small_body: usize,
}

/// The budget. A request reserves memory while its body arrives, so a `Content-Length` without a
/// body reserves nothing.
///
/// Requests that already hold memory are served first. Otherwise an almost complete body and one
/// that has not started could wait for each other. Small requests do not wait behind them.
///
/// One client gets a share, so that bodies which it does not complete delay only its own requests.
/// Its oldest request may exceed the share, because the longest body of a provider is larger than
/// the share, and because its requests would otherwise wait for each other.
#[derive(Clone)]
pub(crate) struct BodyMemory(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Notified when memory is released or a request with priority stops waiting.
    changed: Notify,
    limits: MemoryLimits,
    reserved: Gauge,
}

struct State {
    free: usize,
    /// The number of requests that hold memory and wait for more.
    waiting_with_priority: usize,
    /// The clients that hold memory.
    clients: HashMap<IpAddr, Holder>,
    next_id: u64,
}

/// The memory that one client holds.
#[derive(Default)]
struct Holder {
    bytes: usize,
    /// The ids of its requests that hold memory, in the order of arrival.
    requests: BTreeSet<u64>,
    /// Its requests that wait for others of it, in the order of arrival. Only the first one is woken:
    /// hundreds may wait, and all of them would wake whenever one of them gives up.
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// The memory that one request holds. Dropping it releases the memory.
pub(crate) struct Reservation {
    memory: BodyMemory,
    id: u64,
    bytes: usize,
    /// Whose share the memory counts against. `None` for an authentic request.
    client: Option<IpAddr>,
    /// Notified when the request may find memory in the share of its client.
    turn: Arc<Notify>,
}

/// Why a reservation cannot grow now.
enum Shortage {
    /// The budget is used up.
    Total,
    /// The share of the client is used up.
    Client,
}

/// Counts a request in [`State::waiting_with_priority`] until it is dropped.
struct Priority<'m>(&'m BodyMemory);

impl BodyMemory {
    pub(crate) fn new(limits: MemoryLimits) -> Self {
        gauge!("mailpulse_ingress_body_memory_limit_bytes").set(limits.total as f64);
        let clients = HashMap::new();
        let state = State { free: limits.total, waiting_with_priority: 0, clients, next_id: 0 };
        let (state, changed) = (Mutex::new(state), Notify::new());
        let reserved = gauge!("mailpulse_ingress_body_memory_bytes");
        Self(Arc::new(Shared { state, changed, limits, reserved }))
    }

    pub(crate) fn empty_reservation(&self, client: IpAddr) -> Reservation {
        let mut state = self.state();
        let id = state.next_id;
        state.next_id += 1;
        let client = Some(network(client));
        Reservation { memory: self.clone(), id, bytes: 0, client, turn: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self, state: &State) {
        self.0.reserved.set((self.0.limits.total - state.free) as f64);
        self.0.changed.notify_waiters();
    }
}

impl Reservation {
    /// Adds `bytes` to the reservation, and waits until other requests have released enough memory.
    /// A reservation never grows beyond the budget without the part for small requests.
    pub(crate) async fn grow(&mut self, bytes: usize) {
        let limits = self.memory.0.limits;
        let bytes = bytes.min((limits.total - limits.for_small).saturating_sub(self.bytes));
        let Err(shortage) = self.try_grow(bytes, false) else { return };
        match shortage {
            Shortage::Total => Limit::BodyMemory.count(),
            Shortage::Client => Limit::BodyMemoryPerClient.count(),
        }
        let memory = self.memory.clone();
        let mut priority = None;
        loop {
            let changed = memory.0.changed.notified();
            match self.try_grow(bytes, priority.is_some()) {
                Ok(()) => return,
                // A request that waits for its own client has no claim on the memory of others.
                Err(Shortage::Client) => {
                    priority = None;
                    self.turn.notified().await;
                }
                Err(Shortage::Total) if self.bytes > 0 && priority.is_none() => {
                    priority = Some(Priority::new(&memory));
                }
                Err(Shortage::Total) => changed.await,
            }
        }
    }

    /// Releases a part of the memory.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let mut state = self.memory.state();
        state.free += bytes;
        if let Some(client) = self.client {
            state.forget(client, self.id, bytes, self.bytes == 0);
        }
        self.memory.notify(&state);
    }

    /// No longer counts the memory against the share of the client, because the request is
    /// authentic.
    pub(crate) fn release_share(&mut self) {
        let mut state = self.memory.state();
        if let Some(client) = self.client.take() {
            state.forget(client, self.id, self.bytes, true);
            self.memory.notify(&state);
        }
    }

    fn try_grow(&mut self, bytes: usize, has_priority: bool) -> Result<(), Shortage> {
        let limits = self.memory.0.limits;
        let mut state = self.memory.state();
        let is_small = self.bytes + bytes <= limits.small_body;
        let kept_free = if is_small { 0 } else { limits.for_small };
        if bytes + kept_free > state.free
            || (state.waiting_with_priority > 0 && !has_priority && !is_small)
        {
            return Err(Shortage::Total);
        }
        if let Some(client) = self.client
            && bytes > 0
        {
            let holder = state.clients.entry(client).or_default();
            let is_oldest = holder.requests.first().is_none_or(|&oldest| self.id <= oldest);
            // A new request does not overtake those that wait already.
            let older_waits = holder.waiting.first_key_value().is_some_and(|(&id, _)| id < self.id);
            let must_queue = self.bytes == 0 && older_waits;
            if must_queue || (holder.bytes + bytes > limits.per_client && !is_oldest) {
                holder.waiting.insert(self.id, Arc::clone(&self.turn));
                return Err(Shortage::Client);
            }
            holder.bytes += bytes;
            holder.requests.insert(self.id);
            if holder.waiting.remove(&self.id).is_some() {
                holder.wake_first();
            }
        }
        state.free -= bytes;
        self.bytes += bytes;
        self.memory.0.reserved.set((limits.total - state.free) as f64);
        Ok(())
    }
}

impl State {
    /// Subtracts bytes from what a client holds. `ends` means that they are the last of the request.
    fn forget(&mut self, client: IpAddr, id: u64, bytes: usize, ends: bool) {
        let Some(holder) = self.clients.get_mut(&client) else { return };
        holder.bytes -= bytes;
        if ends {
            holder.requests.remove(&id);
            holder.waiting.remove(&id);
        }
        holder.wake_first();
        if holder.requests.is_empty() && holder.waiting.is_empty() {
            self.clients.remove(&client);
        }
    }
}

impl Holder {
    /// Wakes the oldest request that waits. If it gets memory, it wakes the next one.
    fn wake_first(&self) {
        if let Some(turn) = self.waiting.values().next() {
            turn.notify_one();
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(self.bytes);
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

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    /// Without shares.
    fn undivided(total: usize) -> BodyMemory {
        BodyMemory::new(MemoryLimits { total, per_client: total, for_small: 0, small_body: 0 })
    }

    async fn must_wait(reservation: &mut Reservation, bytes: usize) -> bool {
        tokio::time::timeout(Duration::from_millis(20), reservation.grow(bytes)).await.is_err()
    }

    #[tokio::test]
    async fn reserved_memory_is_unavailable_until_it_is_released() {
        let memory = undivided(100);
        let (mut first, mut second) =
            (memory.empty_reservation(CLIENT), memory.empty_reservation(CLIENT));
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
        let memory = undivided(100);
        let [mut grown, mut other, mut new] = [(); 3].map(|()| memory.empty_reservation(CLIENT));
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
        let memory = undivided(100);
        let [mut grown, mut other, mut new] = [(); 3].map(|()| memory.empty_reservation(CLIENT));
        grown.grow(60).await;
        other.grow(30).await;
        assert!(must_wait(&mut grown, 20).await);
        assert!(!must_wait(&mut new, 10).await);
    }

    #[tokio::test]
    async fn a_reservation_larger_than_the_budget_gets_the_whole_budget() {
        let memory = undivided(100);
        let mut reservation = memory.empty_reservation(CLIENT);
        reservation.grow(70).await;
        reservation.grow(1000).await;
        assert_eq!(memory.state().free, 0);
    }

    #[tokio::test]
    async fn one_client_holds_its_share_and_others_are_not_delayed() {
        let memory = BodyMemory::new(MemoryLimits {
            total: 160,
            per_client: 10,
            for_small: 0,
            small_body: 0,
        });
        let [mut oldest, mut second, mut third] =
            [(); 3].map(|()| memory.empty_reservation(CLIENT));
        let mut other = memory.empty_reservation("192.0.2.8".parse().unwrap());
        oldest.grow(4).await;
        second.grow(6).await;
        assert!(must_wait(&mut third, 1).await && must_wait(&mut second, 1).await);
        assert!(!must_wait(&mut oldest, 90).await, "the oldest may exceed the share");
        assert_eq!(memory.state().waiting_with_priority, 0, "nobody else waits for this client");
        assert!(!must_wait(&mut other, 50).await, "another client has its own share");
        drop(oldest);
        assert!(!must_wait(&mut second, 1).await, "now the second one is the oldest");
        second.release_share();
        assert!(!must_wait(&mut third, 10).await, "authentic requests leave the share to others");
        drop((second, third, other));
        let state = memory.state();
        assert_eq!((state.free, state.clients.len()), (160, 0));
    }

    #[tokio::test]
    async fn the_requests_of_a_client_get_their_turn_in_the_order_of_arrival() {
        let memory = BodyMemory::new(MemoryLimits {
            total: 1000,
            per_client: 10,
            for_small: 0,
            small_body: 0,
        });
        let mut first = memory.empty_reservation(CLIENT);
        first.grow(10).await;
        let (sender, mut finished) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..100 {
            let mut next = memory.empty_reservation(CLIENT);
            let sender = sender.clone();
            tokio::spawn(async move {
                next.grow(5).await;
                sender.send(number).unwrap();
                // Others get their turn before this one ends.
                tokio::task::yield_now().await;
            });
        }
        tokio::task::yield_now().await;
        drop(first);
        for number in 0..100 {
            assert_eq!(finished.recv().await, Some(number));
        }
        while !memory.state().clients.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(memory.state().free, 1000);
    }

    #[tokio::test]
    async fn large_bodies_leave_a_part_to_small_ones() {
        let memory = BodyMemory::new(MemoryLimits {
            total: 100,
            per_client: 100,
            for_small: 20,
            small_body: 5,
        });
        let [mut large, mut more, mut small] = [(); 3].map(|()| memory.empty_reservation(CLIENT));
        large.grow(1000).await;
        assert_eq!(large.bytes, 80, "a body never gets the part for small ones");
        assert!(must_wait(&mut more, 6).await);
        assert!(!must_wait(&mut small, 5).await);
        assert!(must_wait(&mut small, 1).await, "it is no longer small");
        small.shrink(3);
        assert_eq!((small.bytes, memory.state().free), (2, 18));
    }

    #[tokio::test]
    async fn small_bodies_do_not_wait_behind_requests_with_priority() {
        let memory = BodyMemory::new(MemoryLimits {
            total: 100,
            per_client: 100,
            for_small: 20,
            small_body: 5,
        });
        let [mut first, mut second, mut small] = [(); 3].map(|()| memory.empty_reservation(CLIENT));
        first.grow(40).await;
        second.grow(40).await;
        let growing = tokio::spawn(async move { first.grow(10).await });
        while memory.state().waiting_with_priority == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!must_wait(&mut small, 5).await);
        drop(second);
        growing.await.unwrap();
    }
}
