//! Runs services as child processes and restarts those that end, as a supervisor does in production.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use devstack::process::{self, Child};

const POLL: Duration = Duration::from_millis(100);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// A process that ended sooner is restarted only after this time. Otherwise a service that fails at
/// its start, for example because Kafka is away, would use all CPU for starts.
const RESTART_INTERVAL: Duration = Duration::from_secs(1);

/// Starts a program that ignores SIGXFSZ. A write beyond the limit of [`Supervisor::limit_files`] then
/// fails instead of killing the process.
const IGNORE_SIGXFSZ: &str = "trap '' XFSZ; exec \"$0\" \"$@\"";

/// An instance of a service, such as `dedupe-2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Member {
    pub(crate) service: &'static str,
    /// Counted from 1.
    pub(crate) number: u8,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.service, self.number)
    }
}

/// How to start a member.
pub(crate) struct Plan {
    pub(crate) member: Member,
    pub(crate) binary: PathBuf,
    pub(crate) config: PathBuf,
    /// Environment variables of this member only.
    pub(crate) environment: Vec<(String, String)>,
    /// The working directory, which contains the member's files.
    pub(crate) directory: PathBuf,
    pub(crate) log: PathBuf,
}

/// A member and its process.
struct Supervised {
    plan: Plan,
    /// Whether to restart the process when it ends.
    wanted: bool,
    child: Option<Child>,
    started_at: Instant,
    starts: u32,
}

/// Keeps members running. Dropping it stops them in the order in which they were added.
pub(crate) struct Supervisor {
    members: Arc<Mutex<Vec<Supervised>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    pub(crate) fn new() -> Self {
        let members: Arc<Mutex<Vec<Supervised>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (members, stop) = (Arc::clone(&members), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut members = lock(&members);
                    members.iter_mut().filter(|it| it.wanted).for_each(Supervised::ensure_running);
                    drop(members);
                    std::thread::sleep(POLL);
                }
            }
        });
        Self { members, stop, thread: Some(thread) }
    }

    /// Adds a member. If it is wanted, starts it and keeps it running.
    pub(crate) fn add(&self, plan: Plan, wanted: bool) {
        let started_at = Instant::now();
        let mut member = Supervised { plan, wanted, child: None, started_at, starts: 0 };
        if wanted {
            member.ensure_running();
        }
        lock(&self.members).push(member);
    }

    /// Kills every member of a service with SIGKILL. They are restarted at once.
    pub(crate) fn kill(&self, service: &str) -> anyhow::Result<()> {
        self.kill_where(|member| member.service == service).map(drop)
    }

    /// Kills the selected members with SIGKILL at the same moment. They are restarted at once. Returns
    /// those that were running.
    pub(crate) fn kill_where(
        &self,
        selected: impl Fn(Member) -> bool,
    ) -> anyhow::Result<Vec<Member>> {
        let mut killed = Vec::new();
        for it in lock(&self.members).iter_mut().filter(|it| selected(it.plan.member)) {
            let Some(child) = &mut it.child else { continue };
            if child.is_running() {
                killed.push(it.plan.member);
            }
            child.kill()?;
        }
        Ok(killed)
    }

    /// Sets whether the selected members are restarted when they end. Running processes are not
    /// stopped.
    pub(crate) fn set_wanted(&self, selected: impl Fn(Member) -> bool, wanted: bool) {
        for it in lock(&self.members).iter_mut().filter(|it| selected(it.plan.member)) {
            it.wanted = wanted;
        }
    }

    /// Stops a member with SIGTERM, waits for its end, and does not restart it.
    pub(crate) fn stop(&self, member: Member) -> anyhow::Result<()> {
        let child = self.with(member, |it| {
            it.wanted = false;
            it.child.take()
        })?;
        // Without the lock, so that the other members are restarted meanwhile.
        if let Some(mut child) = child {
            child.terminate(STOP_TIMEOUT)?;
        }
        Ok(())
    }

    /// Pauses a member with SIGSTOP.
    pub(crate) fn freeze(&self, member: Member) -> anyhow::Result<()> {
        self.with(member, |it| it.child.as_mut().map_or(Ok(()), Child::freeze))??;
        Ok(())
    }

    /// Continues a frozen member.
    pub(crate) fn thaw(&self, member: Member) -> anyhow::Result<()> {
        self.with(member, |it| it.child.as_mut().map_or(Ok(()), Child::thaw))??;
        Ok(())
    }

    /// Sets the largest size of a file that the running members of a service may write, in bytes.
    /// Existing files keep their size. Further writes fail, as on a full disk; this includes logs.
    pub(crate) fn limit_files(&self, service: &str, bytes: Option<u64>) -> anyhow::Result<()> {
        let bytes = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        for it in lock(&self.members).iter().filter(|it| it.plan.member.service == service) {
            let Some(child) = &it.child else { continue };
            let pid = child.pid().to_string();
            // The soft limit, as `ulimit` sets it.
            let limit = format!("--fsize={bytes}:");
            let set = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
            let set = set.context("cannot start prlimit; install util-linux")?;
            ensure!(set.success(), "prlimit --fsize of {}: {set}", it.plan.member);
        }
        Ok(())
    }

    /// Returns how often members were restarted.
    pub(crate) fn restarts(&self) -> u32 {
        lock(&self.members).iter().map(|it| it.starts.saturating_sub(1)).sum()
    }

    fn with<T>(&self, member: Member, act: impl FnOnce(&mut Supervised) -> T) -> anyhow::Result<T> {
        let mut members = lock(&self.members);
        let found = members.iter_mut().find(|it| it.plan.member == member);
        found.map(act).with_context(|| format!("there is no member {member}"))
    }
}

impl Supervised {
    fn ensure_running(&mut self) {
        if self.child.as_mut().is_some_and(Child::is_running) {
            return;
        }
        if self.starts > 0 && self.started_at.elapsed() < RESTART_INTERVAL {
            return;
        }
        let Plan { member, binary, config, environment, directory, log } = &self.plan;
        let mut command = Command::new("sh");
        command
            .args(["-c", IGNORE_SIGXFSZ])
            .arg(binary)
            .arg("--config")
            .arg(config)
            .current_dir(directory)
            .env("MAILPULSE__SERVICE__INSTANCE", member.to_string())
            .env("NO_COLOR", "1");
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        match process::spawn(command, log) {
            Ok(child) => self.child = Some(child),
            Err(error) => eprintln!("{member} cannot be started: {error}"),
        }
        self.started_at = Instant::now();
        self.starts += 1;
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for it in lock(&self.members).iter_mut() {
            if let Some(child) = &mut it.child
                && let Err(error) = child.terminate(STOP_TIMEOUT)
            {
                eprintln!("{} cannot be stopped: {error}", it.plan.member);
            }
        }
    }
}

fn lock(members: &Mutex<Vec<Supervised>>) -> MutexGuard<'_, Vec<Supervised>> {
    members.lock().unwrap_or_else(PoisonError::into_inner)
}
