//! Waiting for a condition that follows another one asynchronously.

use std::fmt::{Debug, Display};
use std::time::{Duration, Instant};

/// How long tests wait for a condition. A machine whose cores are all loaded needs a part of it; a
/// test that passes does not wait longer than the condition takes.
pub const DEADLINE: Duration = Duration::from_secs(300);

/// The first pause between two attempts.
const INTERVAL: Duration = Duration::from_millis(20);

/// The longest pause. An attempt often asks a server, so frequent ones slow down what they wait for.
const LONGEST_INTERVAL: Duration = Duration::from_millis(100);

/// The result of looking once: the awaited value, or a text for what was seen instead.
pub trait Attempt {
    /// The awaited value.
    type Value;

    /// Returns the value, or what was seen instead.
    fn result(self) -> Result<Self::Value, String>;
}

impl Attempt for bool {
    type Value = ();

    fn result(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("false".to_owned()) }
    }
}

impl<T> Attempt for Option<T> {
    type Value = T;

    fn result(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".to_owned())
    }
}

impl<T, S: Display> Attempt for Result<T, S> {
    type Value = T;

    fn result(self) -> Result<T, String> {
        self.map_err(|seen| seen.to_string())
    }
}

/// Repeats `attempt` until it succeeds and returns its value.
///
/// `what` names the awaited condition. Return a `Result` from the closure, for example with
/// [`seen`], so that the failure shows the last value.
///
/// ```
/// # use harness::{DEADLINE, eventually, seen};
/// let count = || 5;
/// let found = eventually("5 rows in events", DEADLINE, || seen(count(), |rows| *rows >= 5));
/// assert_eq!(found, 5);
/// ```
///
/// # Panics
/// If the deadline passes; the message names the condition and what was seen last.
#[track_caller]
pub fn eventually<A: Attempt>(
    what: &str,
    deadline: Duration,
    mut attempt: impl FnMut() -> A,
) -> A::Value {
    let start = Instant::now();
    let mut interval = INTERVAL;
    loop {
        match attempt().result() {
            Ok(value) => return value,
            Err(seen) => {
                assert!(
                    start.elapsed() < deadline,
                    "waited {deadline:?} for: {what}; seen last: {seen}"
                );
            }
        }
        std::thread::sleep(interval);
        interval = (interval + interval / 4).min(LONGEST_INTERVAL);
    }
}

/// Returns `value` if it is the awaited one, and its `Debug` form as an error otherwise.
///
/// # Errors
/// The `Debug` form of a value that is not the awaited one.
pub fn seen<T: Debug>(value: T, is_awaited: impl FnOnce(&T) -> bool) -> Result<T, String> {
    if is_awaited(&value) { Ok(value) } else { Err(format!("{value:?}")) }
}

/// Checks for `duration` that a condition holds. For what must not happen, where no later event
/// shows that it did not.
///
/// # Panics
/// As soon as the condition does not hold.
#[track_caller]
pub fn holds_for<A: Attempt>(what: &str, duration: Duration, mut attempt: impl FnMut() -> A) {
    let start = Instant::now();
    while start.elapsed() < duration {
        if let Err(seen) = attempt().result() {
            panic!("after {:?} no longer true: {what}; seen: {seen}", start.elapsed());
        }
        std::thread::sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn message_of(failing: impl FnOnce()) -> String {
        let payload = catch_unwind(AssertUnwindSafe(failing)).unwrap_err();
        payload.downcast_ref::<String>().unwrap().clone()
    }

    #[test]
    fn attempts_are_repeated_until_one_succeeds() {
        let mut attempts = 0;
        let mut count = || {
            attempts += 1;
            attempts
        };
        assert_eq!(eventually("three", DEADLINE, || seen(count(), |n| *n == 3)), 3);
        eventually("true", DEADLINE, || count() == 5);
        assert_eq!(eventually("some", DEADLINE, || (count() > 6).then_some("x")), "x");
        assert_eq!(attempts, 7);
    }

    #[test]
    fn the_failure_names_the_condition_and_the_last_value() {
        let message = message_of(|| {
            eventually("2 rows", Duration::ZERO, || seen(1, |rows| *rows == 2));
        });
        assert_eq!(message, "waited 0ns for: 2 rows; seen last: 1");
    }

    #[test]
    fn a_condition_that_stops_to_hold_is_reported() {
        let mut left = 3;
        let message = message_of(|| {
            holds_for("nothing is restored", DEADLINE, || {
                left -= 1;
                seen(left, |left| *left > 0)
            });
        });
        assert!(message.contains("no longer true: nothing is restored; seen: 0"), "{message}");
        holds_for("true", Duration::from_millis(1), || true);
    }
}
