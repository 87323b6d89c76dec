//! All forwards of the process, each on a thread of its own.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use erasure::Erased;
use kafka::{Cluster, DeadLetterWriter};
use service::{Health, Shutdown};
use tokio::runtime::Builder;

use crate::forwarder::{Forwarder, Status};
use crate::settings::Forward;

/// How often the main thread looks at the others.
const CHECK: Duration = Duration::from_millis(100);
/// How old the progress of a thread may be. `/livez` then reports the process as stuck after another minute.
const MAX_AGE: Duration = Duration::from_secs(60);

/// What all forwards share.
pub struct Context {
    pub cluster: Cluster,
    pub erased: Arc<Erased>,
    pub dead_letters: Arc<DeadLetterWriter>,
    pub shutdown: Shutdown,
}

impl Context {
    /// Returns the context of a process.
    pub fn new(
        cluster: Cluster,
        erased: Erased,
        dead_letters: DeadLetterWriter,
        shutdown: &Shutdown,
    ) -> Self {
        let (erased, dead_letters) = (Arc::new(erased), Arc::new(dead_letters));
        Self { cluster, erased, dead_letters, shutdown: shutdown.clone() }
    }
}

/// A thread, and what it reports.
struct Running {
    name: String,
    status: Status,
    thread: JoinHandle<Result<(), kafka::Error>>,
}

/// Runs the forwards until the shutdown is requested.
///
/// # Errors
/// The first error with which one of them ended: only a new process recovers from it. The others are stopped
/// then.
pub fn run(forwards: Vec<Forward>, context: &Context, health: &Health) -> anyhow::Result<()> {
    let runtime =
        Builder::new_multi_thread().worker_threads(1).thread_name("sends").enable_all().build()?;
    if forwards.is_empty() {
        tracing::warn!("there is no [[forward]] in the settings, so nothing is sent");
    }
    let count = forwards.len();
    let mut running = Vec::new();
    for forward in forwards {
        let (name, status) = (forward.name.clone(), Status::default());
        let forwarder = Forwarder::open(forward, count, context, runtime.handle(), status.clone())?;
        let thread = std::thread::Builder::new().name(name.clone());
        let thread = thread.spawn(move || forwarder.run())?;
        running.push(Running { name, status, thread });
    }
    while !context.shutdown.requested() {
        report(&running, health);
        if running.iter().any(|one| one.thread.is_finished()) {
            context.shutdown.request();
        }
        std::thread::sleep(CHECK);
    }
    let mut result = Ok(());
    for Running { name, thread, .. } in running {
        let ended = match thread.join() {
            Ok(ended) => ended.map_err(anyhow::Error::from),
            Err(_) => Err(anyhow::anyhow!("its thread has panicked")),
        };
        let ended = ended.map_err(|error| error.context(format!("the forward {name} has ended")));
        if let (Err(error), true) = (ended, result.is_ok()) {
            result = Err(error);
        }
    }
    // Dead letters that are being written have seen the shutdown.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Makes the process alive if all threads are, and ready if all of them can work.
fn report(running: &[Running], health: &Health) {
    let mut held = None;
    let mut is_alive = true;
    for Running { name, status, .. } in running {
        let (alive_at, problem) = status.read();
        is_alive &= alive_at.is_none_or(|at| at.elapsed() < MAX_AGE);
        held = held.or_else(|| problem.map(|problem| format!("forward {name}: {problem}")));
    }
    if is_alive {
        health.mark_alive();
    }
    match held {
        Some(held) => health.hold(held),
        None => health.ready(),
    }
}
