//! Runs independent simulations on all cores, and shows how far they are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the progress is shown.
const INTERVAL: Duration = Duration::from_secs(5);

/// Returns the results in the order of the inputs. `what` names them in the progress.
pub(super) fn run_all<I: Sync, R: Send>(
    what: &str,
    inputs: &[I],
    run: impl Fn(&I) -> R + Sync,
) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let state = Mutex::new((Vec::with_capacity(inputs.len()), Instant::now()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((index, input)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    inputs.get(index).map(|input| (index, input))
                } {
                    let result = run(input);
                    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                    state.0.push((index, result));
                    if state.1.elapsed() >= INTERVAL {
                        eprintln!("{} of {} {what}", state.0.len(), inputs.len());
                        state.1 = Instant::now();
                    }
                }
            });
        }
    });
    let (mut results, _) = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}
