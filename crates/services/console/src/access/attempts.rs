//! Limits how many wrong tokens are answered and logged as such. The right token is accepted at any time, because
//! otherwise anybody in a network, or behind the same proxy, could lock out the others. A token has at least 16 bytes,
//! so it cannot be found by trying.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use service::client_limit::network;

/// How many wrong tokens one network may send within [`WINDOW_SECONDS`].
const MAX_WRONG: u32 = 10;

/// How many all networks together may send in this time.
const MAX_WRONG_OF_ALL: u32 = 1_000;

const WINDOW_SECONDS: i64 = 60;

/// How many networks are remembered. Beyond, the limit of all networks holds.
const MAX_NETWORKS: usize = 10_000;

/// The wrong tokens of the current window.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    /// The number of the window since the Unix epoch.
    number: i64,
    wrong: u32,
    by_network: HashMap<IpAddr, u32>,
}

impl Attempts {
    /// Counts a wrong token. Returns whether the client might send one; the tokens beyond the limits are not counted.
    pub(super) fn wrong(&self, client: IpAddr, now: Timestamp) -> bool {
        let (mut window, network) = (self.current(now), network(client));
        let wrong = window.by_network.get(&network).copied();
        if wrong.unwrap_or(0) >= MAX_WRONG || window.wrong >= MAX_WRONG_OF_ALL {
            return false;
        }
        window.wrong += 1;
        if wrong.is_some() || window.by_network.len() < MAX_NETWORKS {
            *window.by_network.entry(network).or_default() += 1;
        }
        true
    }

    fn current(&self, now: Timestamp) -> MutexGuard<'_, Window> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = now.as_second() / WINDOW_SECONDS;
        if window.number != number {
            *window = Window { number, ..Window::default() };
        }
        window
    }
}
