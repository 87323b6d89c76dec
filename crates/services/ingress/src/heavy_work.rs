//! Runs expensive work on threads of its own, so that other requests do not wait for it.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::Semaphore;

/// Work on at most this many bytes takes less time than a change of threads is worth: about 100 µs.
const LIGHT_BYTES: usize = 64 * 1024;
/// How many jobs run at the same time at most.
const MAX_JOBS: usize = 4;

/// Limits the jobs of all requests. They leave one core to the other requests, and those beyond the
/// limit wait in the order of arrival.
#[derive(Clone)]
pub(crate) struct HeavyWork(Arc<Semaphore>);

impl HeavyWork {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self::with_jobs(cores.saturating_sub(1).clamp(1, MAX_JOBS))
    }

    fn with_jobs(jobs: usize) -> Self {
        Self(Arc::new(Semaphore::new(jobs)))
    }

    /// Returns whether work on this many bytes is done at once.
    pub(crate) const fn is_light(bytes: usize) -> bool {
        bytes <= LIGHT_BYTES
    }

    /// Runs `job`, whose work is proportional to `bytes`: at once if they are few, otherwise on
    /// another thread.
    ///
    /// # Panics
    /// If the job panics.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if Self::is_light(bytes) {
            return job();
        }
        let permit = Arc::clone(&self.0).acquire_owned().await;
        let job = tokio::task::spawn_blocking(move || {
            // The job keeps its permit even if its request is cancelled.
            let _permit = permit;
            job()
        });
        match job.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down, which cancels this task too.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread::current;

    use super::*;

    #[tokio::test]
    async fn only_heavy_work_changes_the_thread() {
        let (work, here) = (HeavyWork::new(), current().id());
        assert_eq!(work.run(LIGHT_BYTES, move || current().id()).await, here);
        assert_ne!(work.run(LIGHT_BYTES + 1, move || current().id()).await, here);
    }

    #[tokio::test]
    async fn few_jobs_run_at_once_and_the_loop_stays_responsive() {
        const JOBS: usize = 2;
        let work = HeavyWork::with_jobs(JOBS);
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let wait = Arc::new(std::sync::Mutex::new(wait));
        let jobs: Vec<_> = (0..JOBS)
            .map(|_| {
                let (work, wait) = (work.clone(), Arc::clone(&wait));
                let blocked = move || wait.lock().unwrap().recv().is_ok();
                tokio::spawn(async move { work.run(usize::MAX, blocked).await })
            })
            .collect();
        while work.0.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let mut another = std::pin::pin!(work.run(usize::MAX, || ()));
        let soon = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, another.as_mut()).await.is_err(), "no permit is free");
        (0..JOBS).for_each(|_| release.send(()).unwrap());
        another.await;
        for job in jobs {
            assert!(job.await.unwrap());
        }
    }
}
