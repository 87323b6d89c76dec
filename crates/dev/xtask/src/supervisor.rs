//! Services as processes, started again when they die, as any production supervisor would.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use devstack::process::{self, Child};

const LOOK_EVERY: Duration = Duration::from_millis(100);
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// One that ended sooner than this is not started again before: whoever fails at its start, for
/// instance because Kafka is away, would do nothing but start.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);

/// Starts a program that ignores SIGXFSZ: a write beyond [`Supervisor::limit_files`] then fails and
/// does not kill.
const WRITES_MAY_FAIL: &str = "trap '' XFSZ; exec \"$0\" \"$@\"";

/// One instance of a service: `dedupe-2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Member {
    pub(crate) service: &'static str,
    /// From 1.
    pub(crate) number: u8,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.service, self.number)
    }
}

/// How to start a member.
pub(crate) struct Orders {
    pub(crate) member: Member,
    pub(crate) binary: PathBuf,
    pub(crate) config: PathBuf,
    /// Settings that only it has.
    pub(crate) environment: Vec<(String, String)>,
    /// Its working directory, which has what it keeps on disk.
    pub(crate) directory: PathBuf,
    pub(crate) log: PathBuf,
}

/// A member under supervision.
struct Kept {
    orders: Orders,
    /// Whether it is to run; else it is left as it is.
    wanted: bool,
    child: Option<Child>,
    started_at: Instant,
    starts: u32,
}

/// Keeps members running until it is dropped; then stops them, the last of the pipeline last.
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
                    lock(&kept).iter_mut().filter(|kept| kept.wanted).for_each(Kept::keep);
                    std::thread::sleep(LOOK_EVERY);
                }
            }
        });
        Self { kept, stop, watch: Some(watch) }
    }

    /// Takes a member in; if `wanted`, starts it and keeps it running.
    pub(crate) fn take(&self, orders: Orders, wanted: bool) {
        let mut kept = Kept { orders, wanted, child: None, started_at: Instant::now(), starts: 0 };
        if wanted {
            kept.keep();
        }
        lock(&self.kept).push(kept);
    }

    /// Kills every member of a service with SIGKILL; they are started again at once.
    pub(crate) fn kill(&self, service: &str) -> anyhow::Result<()> {
        self.kill_those(|member| member.service == service).map(drop)
    }

    /// Kills members with SIGKILL at the same moment; they are started again at once. Returns those
    /// that were running.
    pub(crate) fn kill_those(&self, whom: impl Fn(Member) -> bool) -> anyhow::Result<Vec<Member>> {
        let mut killed = Vec::new();
        for kept in lock(&self.kept).iter_mut().filter(|kept| whom(kept.orders.member)) {
            let Some(child) = &mut kept.child else { continue };
            if child.is_running() {
                killed.push(kept.orders.member);
            }
            child.kill()?;
        }
        Ok(killed)
    }

    /// Whether members are to run from now on. Those that run are left alone.
    pub(crate) fn want(&self, whom: impl Fn(Member) -> bool, wanted: bool) {
        for kept in lock(&self.kept).iter_mut().filter(|kept| whom(kept.orders.member)) {
            kept.wanted = wanted;
        }
    }

    /// Stops a member with SIGTERM, waits for its end, and leaves it down.
    pub(crate) fn stop(&self, member: Member) -> anyhow::Result<()> {
        let child = self.with(member, |kept| {
            kept.wanted = false;
            kept.child.take()
        })?;
        // Without the lock: the others are kept running meanwhile.
        if let Some(mut child) = child {
            child.terminate(STOP_WITHIN)?;
        }
        Ok(())
    }

    /// Stops a member where it is, with SIGSTOP.
    pub(crate) fn freeze(&self, member: Member) -> anyhow::Result<()> {
        self.with(member, |kept| kept.child.as_mut().map_or(Ok(()), Child::freeze))??;
        Ok(())
    }

    /// Lets a frozen member go on.
    pub(crate) fn thaw(&self, member: Member) -> anyhow::Result<()> {
        self.with(member, |kept| kept.child.as_mut().map_or(Ok(()), Child::thaw))??;
        Ok(())
    }

    /// Sets the largest file that the members of a service that run may write, in bytes. Longer ones
    /// stay as they are, their logs among them; further writes to them fail, as on a full disk.
    pub(crate) fn limit_files(&self, service: &str, bytes: Option<u64>) -> anyhow::Result<()> {
        let bytes = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        for kept in lock(&self.kept).iter().filter(|kept| kept.orders.member.service == service) {
            let Some(child) = &kept.child else { continue };
            let pid = child.pid().to_string();
            // The limit that a process may change itself, as ulimit does.
            let limit = format!("--fsize={bytes}:");
            let set = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
            let set = set.context("prlimit (of util-linux) cannot be run")?;
            ensure!(set.success(), "prlimit --fsize of {}: {set}", kept.orders.member);
        }
        Ok(())
    }

    /// How often members had to be started again.
    pub(crate) fn restarts(&self) -> u32 {
        lock(&self.kept).iter().map(|kept| kept.starts.saturating_sub(1)).sum()
    }

    fn with<T>(&self, member: Member, act: impl FnOnce(&mut Kept) -> T) -> anyhow::Result<T> {
        let mut all = lock(&self.kept);
        let kept = all.iter_mut().find(|kept| kept.orders.member == member);
        kept.map(act).with_context(|| format!("nobody keeps {member}"))
    }
}

impl Kept {
    fn keep(&mut self) {
        if self.child.as_mut().is_some_and(Child::is_running) {
            return;
        }
        if self.starts > 0 && self.started_at.elapsed() < SHORTEST_LIFE {
            return;
        }
        let Orders { member, binary, config, environment, directory, log } = &self.orders;
        let mut command = Command::new("sh");
        command
            .args(["-c", WRITES_MAY_FAIL])
            .arg(binary)
            .arg("--config")
            .arg(config)
            .current_dir(directory)
            .env("MAILPULSE__SERVICE__INSTANCE", member.to_string())
            .env("NO_COLOR", "1");
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        match process::spawn(command, log) {
            Ok(child) => self.child = Some(child),
            Err(error) => eprintln!("{member}: {error}"),
        }
        self.started_at = Instant::now();
        self.starts += 1;
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(watch) = self.watch.take() {
            let _ = watch.join();
        }
        for kept in lock(&self.kept).iter_mut() {
            if let Some(child) = &mut kept.child
                && let Err(error) = child.terminate(STOP_WITHIN)
            {
                eprintln!("{}: {error}", kept.orders.member);
            }
        }
    }
}

fn lock(kept: &Mutex<Vec<Kept>>) -> MutexGuard<'_, Vec<Kept>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
