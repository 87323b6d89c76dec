use std::sync::Arc;

use tokio::sync::watch;

/// A request to shut this process down, made by SIGTERM, SIGINT or [`Shutdown::request`]. Clones
/// share it.
#[derive(Debug, Clone)]
pub struct Shutdown(Arc<watch::Sender<bool>>);

impl Shutdown {
    /// Returns a shutdown that is not requested yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Returns whether the shutdown is requested.
    pub fn requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Requests the shutdown.
    pub fn request(&self) {
        self.0.send_replace(true);
    }

    /// Waits until the shutdown is requested.
    pub async fn wait(&self) {
        // The channel cannot close because this clone holds a sender.
        let _ = self.0.subscribe().wait_for(|requested| *requested).await;
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiters_before_and_after_the_request_return() {
        let shutdown = Shutdown::new();
        let waiter = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.wait().await }
        });
        tokio::task::yield_now().await;
        assert!(!shutdown.requested() && !waiter.is_finished());
        shutdown.request();
        waiter.await.unwrap();
        shutdown.wait().await;
        assert!(shutdown.requested());
    }
}
