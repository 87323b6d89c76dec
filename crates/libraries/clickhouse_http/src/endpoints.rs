//! Which of several servers is asked first.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a server that has failed is left alone, if another one answers.
pub const RETRY_AFTER: Duration = Duration::from_secs(10);
/// How long a server may take to answer a probe.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a connection to one of several servers may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The error codes of ClickHouse, from its `src/Common/ErrorCodes.cpp`, with which a server refuses a statement that another
/// replica may accept.
const OF_THE_SERVER: [(u32, &str); 15] = [
    (202, "TOO_MANY_SIMULTANEOUS_QUERIES"),
    (203, "NO_FREE_CONNECTION"),
    (209, "SOCKET_TIMEOUT"),
    (210, "NETWORK_ERROR"),
    (225, "NO_ZOOKEEPER"),
    (236, "ABORTED"),
    (241, "MEMORY_LIMIT_EXCEEDED"),
    (242, "TABLE_IS_READ_ONLY"),
    (243, "NOT_ENOUGH_SPACE"),
    (252, "TOO_MANY_PARTS"),
    (279, "ALL_CONNECTION_TRIES_FAILED"),
    (289, "REPLICA_IS_NOT_IN_QUORUM"),
    (439, "CANNOT_SCHEDULE_TASK"),
    (745, "SERVER_OVERLOADED"),
    (999, "KEEPER_EXCEPTION"),
];

/// Returns true if an exception of ClickHouse is about the server and not about the statement.
pub fn is_of_the_server(exception: u32) -> bool {
    OF_THE_SERVER.iter().any(|&(code, _)| code == exception)
}

/// Several servers in the order in which they are preferred, and which of them have failed.
#[derive(Debug)]
pub struct Endpoints {
    /// When each server has failed. `None`: its latest answer was good, or it has not been asked.
    failures: Mutex<Vec<Option<Instant>>>,
}

impl Endpoints {
    /// Creates a list of `count` servers, none of which has failed.
    pub fn new(count: usize) -> Self {
        Self { failures: Mutex::new(vec![None; count]) }
    }

    /// Returns the indexes of all servers in the order in which to ask them: first those that have not failed, as they are
    /// preferred, then the others, the one that failed longest ago first.
    pub fn order(&self) -> Vec<usize> {
        let failures = self.failures();
        let mut order: Vec<usize> = (0..failures.len()).collect();
        // `None` is less than any time.
        order.sort_by_key(|&index| failures[index]);
        order
    }

    /// Returns the servers that failed at least [`RETRY_AFTER`] ago, and counts that time from now on again. The caller
    /// asks each of them something simple, and reports the result: a statement need not wait for a server that hangs.
    pub fn due(&self) -> Vec<usize> {
        self.due_at(Instant::now())
    }

    fn due_at(&self, now: Instant) -> Vec<usize> {
        let mut failures = self.failures();
        // With a single server there is nothing to choose.
        if failures.len() < 2 {
            return Vec::new();
        }
        let is_due = |failure: &Instant| now.saturating_duration_since(*failure) >= RETRY_AFTER;
        let failed = failures.iter_mut().enumerate();
        let due = failed.filter_map(|(index, failure)| Some((index, failure.as_mut()?)));
        due.filter(|(_, failure)| is_due(failure))
            .map(|(index, failure)| {
                *failure = now;
                index
            })
            .collect()
    }

    /// Records that a server has answered. Returns true if it had failed before.
    pub fn answered(&self, index: usize) -> bool {
        self.failures().get_mut(index).is_some_and(|failure| failure.take().is_some())
    }

    /// Records that a server has failed. Returns true if it had answered before.
    pub fn failed(&self, index: usize) -> bool {
        let mut failures = self.failures();
        let failure = failures.get_mut(index);
        failure.is_some_and(|it| it.replace(Instant::now()).is_none())
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, Vec<Option<Instant>>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_has_failed_is_asked_last_until_it_answers() {
        let endpoints = Endpoints::new(3);
        assert_eq!(endpoints.order(), [0, 1, 2]);
        assert!(endpoints.failed(0));
        assert!(!endpoints.failed(0), "it is known already");
        assert_eq!(endpoints.order(), [1, 2, 0]);
        assert!(endpoints.failed(1));
        assert_eq!(endpoints.order(), [2, 0, 1]);
        assert!(endpoints.failed(2));
        assert_eq!(
            endpoints.order(),
            [0, 1, 2],
            "all are asked, the one that failed longest ago first"
        );
        assert!(endpoints.answered(1));
        assert!(!endpoints.answered(1));
        assert_eq!(endpoints.order(), [1, 0, 2]);
    }

    #[test]
    fn a_server_that_has_failed_is_probed_after_a_while() {
        let endpoints = Endpoints::new(2);
        let now = Instant::now();
        assert!(endpoints.due_at(now + RETRY_AFTER).is_empty(), "none has failed");
        endpoints.failed(0);
        assert!(endpoints.due_at(now).is_empty());
        let later = Instant::now() + RETRY_AFTER;
        assert_eq!(endpoints.due_at(later), [0]);
        assert!(endpoints.due_at(later).is_empty(), "one caller probes it");
        assert_eq!(endpoints.due_at(later + RETRY_AFTER), [0]);
        let single = Endpoints::new(1);
        single.failed(0);
        assert!(single.due_at(later).is_empty());
    }

    #[test]
    fn an_exception_is_of_the_server_or_of_the_statement() {
        for code in [202, 241, 242, 243, 252, 999] {
            assert!(is_of_the_server(code), "{code}");
        }
        for code in [60, 62, 159, 497, 516] {
            assert!(!is_of_the_server(code), "{code}");
        }
    }
}
