//! Announces the phases of a task.

use std::time::Instant;

/// A phase that has begun. Dropping it prints how long it took.
pub(crate) struct Phase {
    what: String,
    began: Instant,
}

impl Phase {
    /// Announces a phase and how long it usually takes.
    pub(crate) fn begin(what: &str, duration: &str) -> Self {
        eprintln!("==> {what} (about {duration})");
        Self { what: what.to_owned(), began: Instant::now() }
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        eprintln!("==> {}: {:.1} s", self.what, self.began.elapsed().as_secs_f64());
    }
}
