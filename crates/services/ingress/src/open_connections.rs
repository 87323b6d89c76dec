//! The open connections. When there are as many as allowed, one that waits is closed for a new one.
//!
//! Otherwise a few clients could open all connections, send nothing, and keep everyone else out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use service::timed_stream::Phase;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::limits::Limit;
use crate::lock::lock;

/// After this time another connection is closed, if the one before did not make room.
const CLOSE_INTERVAL: Duration = Duration::from_millis(10);

pub(crate) struct OpenConnections {
    /// Each connection holds one permit.
    limit: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    next_id: u64,
    open: HashMap<u64, Open>,
}

struct Open {
    phase: Phase,
    close: Arc<Notify>,
}

/// A connection that counts as open until it is dropped.
pub(crate) struct OpenConnection {
    id: u64,
    state: Arc<Mutex<State>>,
    close: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

impl OpenConnections {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: Arc::new(Semaphore::new(limit)), state: Arc::default() }
    }

    /// Waits until there is room for a connection. If there is none, closes the connection that has
    /// waited longest for a request, at first among those on which no request was accepted.
    pub(crate) async fn make_room(&self) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.limit).try_acquire_owned() {
            return permit;
        }
        Limit::Connections.count();
        let acquire = Arc::clone(&self.limit).acquire_owned();
        let mut acquire = std::pin::pin!(acquire);
        loop {
            self.close_longest_waiting();
            match tokio::time::timeout(CLOSE_INTERVAL, acquire.as_mut()).await {
                Ok(Ok(permit)) => return permit,
                Ok(Err(_closed)) => std::future::pending().await, // the semaphore is never closed
                Err(_elapsed) => {}
            }
        }
    }

    pub(crate) fn insert(&self, permit: OwnedSemaphorePermit, phase: Phase) -> OpenConnection {
        let close = Arc::new(Notify::new());
        let mut state = lock(&self.state);
        let id = state.next_id;
        state.next_id += 1;
        state.open.insert(id, Open { phase, close: Arc::clone(&close) });
        OpenConnection { id, state: Arc::clone(&self.state), close, _permit: permit }
    }

    fn close_longest_waiting(&self) {
        let state = lock(&self.state);
        let waiting = state.open.values().filter_map(|open| Some((open, open.phase.waiting()?)));
        if let Some((open, _)) = waiting.min_by_key(|(_, waiting)| *waiting) {
            open.close.notify_one();
        }
    }
}

impl OpenConnection {
    /// Returns when the connection must close.
    pub(crate) async fn closed(&self) {
        self.close.notified().await;
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        lock(&self.state).open.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    const NEVER: Duration = Duration::from_millis(50);

    /// Returns for each connection whether it was told to close.
    async fn closed(connections: &[OpenConnection]) -> Vec<bool> {
        let mut closed = Vec::new();
        for connection in connections {
            closed.push(tokio::time::timeout(NEVER, connection.closed()).await.is_ok());
        }
        closed
    }

    #[tokio::test]
    async fn the_connection_that_waits_longest_makes_room_but_none_with_a_request() {
        let connections = OpenConnections::new(4);
        let phases: [Phase; 4] = std::array::from_fn(|_| Phase::default());
        let mut open = Vec::new();
        for phase in &phases {
            let permit = connections.make_room().await;
            open.push(connections.insert(permit, phase.clone()));
        }
        phases[0].request_begins();
        phases[1].request_begins();
        phases[1].request_ends(true);
        assert!(tokio::time::timeout(NEVER, connections.make_room()).await.is_err());
        assert_eq!(closed(&open).await, [false, false, true, false]);
        // Only connections with accepted requests wait.
        phases[2].request_begins();
        phases[3].request_begins();
        assert!(tokio::time::timeout(NEVER, connections.make_room()).await.is_err());
        assert_eq!(closed(&open).await, [false, true, false, false]);
        drop(open.remove(1));
        drop(tokio::time::timeout(SOON, connections.make_room()).await.expect("there is room"));
    }
}
