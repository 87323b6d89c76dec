//! Locks a mutex although a thread may have panicked while it had the lock.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The values behind the mutexes of the ingress are valid after each change, so a panic leaves none half
/// changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
