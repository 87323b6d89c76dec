//! Ctrl-C and SIGTERM, for commands that run until they are ended.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

/// Becomes true when the process is to end.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Waits for signals from now on. A second signal ends the process at once, for example while a request hangs.
    ///
    /// # Errors
    /// If the system does not allow it.
    pub(crate) fn listen() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut terminate, mut interrupt) = {
            let _context = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        let requested = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&requested);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                    }
                    if shared.swap(true, Ordering::Relaxed) {
                        std::process::exit(1);
                    }
                }
            });
        })?;
        Ok(Self(requested))
    }

    /// Returns whether the process is to end.
    pub(crate) fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
