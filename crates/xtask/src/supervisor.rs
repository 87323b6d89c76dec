//! Services as processes, started again when they die, as any production supervisor would.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use devstack::process::{self, Child};

const LOOK_EVERY: Duration = Duration::from_millis(100);
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// One service under supervision.
struct Kept {
    name: &'static str,
    binary: PathBuf,
    config: PathBuf,
    instance: String,
    log: PathBuf,
    child: Option<Child>,
    starts: u32,
}

/// Keeps services running until it is dropped; then stops them, the last of the pipeline last.
pub(crate) struct Supervisor {
    kept: Arc<Mutex<Vec<Kept>>>,
    stop: Arc<AtomicBool>,
    watch: Option<JoinHandle<()>>,
}

impl Supervisor {
    pub(crate) fn new() -> Self {
        let kept: Arc<Mutex<Vec<Kept>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let watch = std::thread::spawn({
            let (kept, stop) = (Arc::clone(&kept), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    for service in lock(&kept).iter_mut() {
                        service.keep();
                    }
                    std::thread::sleep(LOOK_EVERY);
                }
            }
        });
        Self { kept, stop, watch: Some(watch) }
    }

    /// Starts a service and keeps it running.
    pub(crate) fn keep(&self, name: &'static str, binary: PathBuf, config: PathBuf, log: PathBuf) {
        let instance = format!("{name}-1");
        let mut service = Kept { name, binary, config, instance, log, child: None, starts: 0 };
        service.keep();
        lock(&self.kept).push(service);
    }

    /// Kills a service with SIGKILL; it is started again at once.
    pub(crate) fn kill(&self, name: &str) -> anyhow::Result<()> {
        for service in lock(&self.kept).iter_mut().filter(|service| service.name == name) {
            if let Some(child) = &mut service.child {
                child.kill()?;
            }
        }
        Ok(())
    }

    /// How often services had to be started again.
    pub(crate) fn restarts(&self) -> u32 {
        lock(&self.kept).iter().map(|service| service.starts.saturating_sub(1)).sum()
    }
}

impl Kept {
    fn keep(&mut self) {
        if self.child.as_mut().is_some_and(Child::is_running) {
            return;
        }
        let mut command = Command::new(&self.binary);
        command
            .arg("--config")
            .arg(&self.config)
            .env("MAILPULSE__SERVICE__INSTANCE", &self.instance)
            .env("NO_COLOR", "1");
        match process::spawn(command, &self.log) {
            Ok(child) => self.child = Some(child),
            Err(error) => eprintln!("{}: {error}", self.name),
        }
        self.starts += 1;
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(watch) = self.watch.take() {
            let _ = watch.join();
        }
        for service in lock(&self.kept).iter_mut() {
            if let Some(child) = &mut service.child
                && let Err(error) = child.terminate(STOP_WITHIN)
            {
                eprintln!("{}: {error}", service.name);
            }
        }
    }
}

fn lock(kept: &Mutex<Vec<Kept>>) -> std::sync::MutexGuard<'_, Vec<Kept>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
