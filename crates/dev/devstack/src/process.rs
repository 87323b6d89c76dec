//! Child processes that end with this process, their logs, and free ports.
//!
//! Linux sends a child its parent-death signal when the *thread* that forked it ends (prctl(2),
//! `PR_SET_PDEATHSIG`). Tests start children from short-lived threads, so one thread that lives as
//! long as the process forks all children.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

pub use fetch::tail;

use crate::Error;

/// How often a condition is checked while something waits for it.
const POLL: Duration = Duration::from_millis(10);

/// A running (or ended) child process, the leader of its own process group.
///
/// The kernel kills it when this process ends, even by SIGKILL. Ctrl-C in a terminal does not reach
/// it, so that this process decides in which order its children stop. Dropping it kills it.
#[derive(Debug)]
pub struct Child {
    inner: std::process::Child,
    program: String,
    log: PathBuf,
    /// The length of the log at the start: it may contain the output of earlier processes.
    log_start: u64,
}

/// Starts a program with an empty standard input. Standard output and error are appended to `log`.
///
/// # Errors
/// [`Error::Io`] if the log cannot be opened, [`Error::Spawn`] if the program cannot be started.
pub fn spawn(command: Command, log: &Path) -> Result<Child, Error> {
    spawn_with(Stdio::null(), command, log)
}

/// As [`spawn`], with a standard input.
///
/// # Errors
/// As [`spawn`].
pub fn spawn_with(input: Stdio, mut command: Command, log: &Path) -> Result<Child, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let out = File::options().create(true).append(true).open(log);
    let out = out.map_err(Error::io(format!("open {}", log.display())))?;
    let err = out.try_clone().map_err(Error::io(format!("open {}", log.display())))?;
    let log_start = out.metadata().map_or(0, |about| about.len());
    command.stdin(input).stdout(out).stderr(err).process_group(0);
    die_with_parent(&mut command);
    match fork(command) {
        Ok(inner) => Ok(Child { inner, program, log: log.to_owned(), log_start }),
        Err(source) => Err(Error::Spawn { program, source }),
    }
}

impl Child {
    /// Returns the process id, which is also the id of the process group.
    pub fn pid(&self) -> u32 {
        self.inner.id()
    }

    /// Returns the path of the log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Whether the process has written `words` to its log.
    pub fn has_logged(&self, words: &str) -> bool {
        self.times_logged(words) > 0
    }

    /// Returns how often the process has written `words` to its log.
    pub fn times_logged(&self, words: &str) -> usize {
        let output = read_from(&self.log, self.log_start).unwrap_or_default();
        String::from_utf8_lossy(&output).matches(words).count()
    }

    /// Whether the process has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.inner.try_wait(), Ok(None))
    }

    /// Sends SIGKILL to the process group and reaps the process. Does nothing if it has ended.
    ///
    /// # Errors
    /// [`Error::Io`] if the system call fails.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.signal(libc::SIGKILL)?;
        self.inner.wait().map_err(Error::io(format!("wait for {}", self.program)))?;
        Ok(())
    }

    /// Sends SIGTERM, and SIGKILL if the process has not ended within `patience`.
    ///
    /// # Errors
    /// [`Error::Io`] if the system call fails.
    pub fn terminate(&mut self, patience: Duration) -> Result<ExitStatus, Error> {
        self.signal(libc::SIGTERM)?;
        if let Some(status) = self.wait(patience)? {
            return Ok(status);
        }
        self.kill()?;
        self.inner.wait().map_err(Error::io(format!("wait for {}", self.program)))
    }

    /// Pauses the process group with SIGSTOP, like a frozen virtual machine: its connections stay
    /// open, and it does not notice. Does nothing if the process has ended.
    ///
    /// # Errors
    /// [`Error::Io`] if the system call fails.
    pub fn freeze(&mut self) -> Result<(), Error> {
        self.signal(libc::SIGSTOP)
    }

    /// Continues a frozen process group with SIGCONT. Does nothing if the process has ended.
    ///
    /// # Errors
    /// [`Error::Io`] if the system call fails.
    pub fn thaw(&mut self) -> Result<(), Error> {
        self.signal(libc::SIGCONT)
    }

    /// Waits at most `patience` for the process to end. Returns `None` if it is still running.
    ///
    /// # Errors
    /// [`Error::Io`] if the system call fails.
    pub fn wait(&mut self, patience: Duration) -> Result<Option<ExitStatus>, Error> {
        let deadline = Instant::now() + patience;
        loop {
            let doing = || Error::io(format!("wait for {}", self.program));
            let ended = self.inner.try_wait().map_err(doing())?;
            if ended.is_some() || Instant::now() >= deadline {
                return Ok(ended);
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until `ready` returns true.
    ///
    /// # Errors
    /// [`Error::Exited`] if the process ends first, [`Error::NotReady`] after `patience`; both with
    /// the last lines of the log.
    pub fn wait_until(
        &mut self,
        service: &'static str,
        patience: Duration,
        mut ready: impl FnMut(&Self) -> bool,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + patience;
        while !ready(self) {
            let log = Some(self.log.clone());
            if let Some(status) = self.wait(Duration::ZERO)? {
                let status = status.to_string();
                return Err(Error::Exited { service, status, log, tail: tail(&self.log, 20) });
            }
            if Instant::now() >= deadline {
                let tail = tail(&self.log, 20);
                return Err(Error::NotReady { service, waited: patience, log, tail });
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    fn signal(&mut self, signal: libc::c_int) -> Result<(), Error> {
        // After a process is reaped, another one may have its id.
        if !self.is_running() {
            return Ok(());
        }
        let Ok(group) = libc::pid_t::try_from(self.inner.id()) else { return Ok(()) };
        // SAFETY: kill(2) takes two integers and touches no memory. The child is not reaped yet, so
        // the process group is still its own.
        #[allow(unsafe_code)]
        let answer = unsafe { libc::kill(-group, signal) };
        if answer == 0 {
            return Ok(());
        }
        Err(Error::Io {
            doing: format!("signal {} ({group})", self.program),
            source: io::Error::last_os_error(),
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // If this fails, the parent-death signal still ends the child.
        let _ = self.kill();
    }
}

/// Makes the kernel kill the child when the process that forked it ends.
#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    let hook = move || {
        // SAFETY: runs in the child between fork and exec, where only async-signal-safe functions
        // are allowed: prctl and getppid are plain system calls and take no pointers here.
        #[allow(unsafe_code)]
        let (armed, now) = unsafe {
            (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong), libc::getppid())
        };
        if armed != 0 {
            return Err(io::Error::last_os_error());
        }
        // If the parent died before the signal was armed, the kernel will not send it.
        if u32::try_from(now) != Ok(parent) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: the hook allocates nothing and takes no lock; both error values are plain codes.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(hook);
    }
}

/// Other systems have no such signal: children end only on drop.
#[cfg(not(target_os = "linux"))]
fn die_with_parent(_: &mut Command) {}

/// A command to fork, and the channel for the outcome.
type ForkRequest = (Command, mpsc::Sender<io::Result<std::process::Child>>);

/// Forks on the thread that lives as long as the process.
fn fork(command: Command) -> io::Result<std::process::Child> {
    static FORKER: OnceLock<Option<mpsc::Sender<ForkRequest>>> = OnceLock::new();
    let gone = || io::Error::other("the thread that starts processes has ended");
    let forker = FORKER.get_or_init(|| {
        let (requests, queue) = mpsc::channel::<ForkRequest>();
        let run = move || {
            for (mut command, reply) in queue {
                // Sending fails only if the caller has panicked.
                let _ = reply.send(command.spawn());
            }
        };
        thread::Builder::new().name("devstack-fork".into()).spawn(run).ok().map(|_| requests)
    });
    let (reply, outcome) = mpsc::channel();
    forker.as_ref().ok_or_else(gone)?.send((command, reply)).map_err(|_| gone())?;
    outcome.recv().map_err(|_| gone())?
}

/// Runs a program to its end and calls `tick` every tenth of a second.
///
/// # Errors
/// [`Error::CommandFailed`] if it fails or runs for longer than `patience`, else as [`spawn`].
pub fn run(
    command: Command,
    log: &Path,
    patience: Duration,
    mut tick: impl FnMut(),
) -> Result<(), Error> {
    let line = fetch::command_line(&command);
    let deadline = Instant::now() + patience;
    let mut child = spawn(command, log)?;
    let outcome = loop {
        match child.wait(Duration::from_millis(100))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => break status.to_string(),
            None if Instant::now() >= deadline => {
                break format!("still running after {patience:?}");
            }
            None => tick(),
        }
    };
    Err(Error::CommandFailed { command: line, outcome, tail: tail(log, 20) })
}

fn read_from(log: &Path, start: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns a free TCP port of 127.0.0.1.
///
/// The port is below the range from which the kernel takes ports for outgoing connections. A client
/// that keeps connecting to a stopped server on a port of that range can be given the same port for
/// its own end. It then connects to itself, and the server cannot have its port back.
///
/// # Errors
/// [`Error::Io`] if no port is free.
#[expect(clippy::disallowed_methods, reason = "a source of different numbers, not a time")]
pub fn free_port() -> Result<u16, Error> {
    const LOWEST: u16 = 10_000;
    let span = ephemeral_floor().saturating_sub(LOWEST);
    // It only matters that processes which start together get different ports.
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let mut seed = clock.map_or(0, |now| now.subsec_nanos()) ^ std::process::id().rotate_left(16);
    for _ in 0..100 {
        if span < 1_000 {
            break;
        }
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // The high bits of a linear congruential generator are the random ones.
        let offset = u16::try_from((seed >> 16) % u32::from(span)).unwrap_or(0);
        if TcpListener::bind(("127.0.0.1", LOWEST + offset)).is_ok() {
            return Ok(LOWEST + offset);
        }
    }
    let bound = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    Ok(bound.map_err(Error::io("find a free port"))?.port())
}

/// Returns the first port of the kernel's range for outgoing connections (ip(7),
/// `ip_local_port_range`).
fn ephemeral_floor() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let first = range.ok().and_then(|text| text.split_whitespace().next()?.parse().ok());
    first.unwrap_or(32_768)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, log: &Path) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        spawn(command, log).unwrap()
    }

    #[test]
    fn output_goes_to_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut child = sh("seq 100; echo problem >&2", &log);
        let status = child.wait(Duration::from_secs(10)).unwrap();
        assert!(status.unwrap().success());
        assert_eq!(tail(&log, 2), "100\nproblem");
        assert!(child.has_logged("problem"));
        let mut next = sh("echo none", &log);
        next.wait(Duration::from_secs(10)).unwrap();
        assert!(next.has_logged("none"));
        assert!(!next.has_logged("problem"), "an earlier process wrote this");
    }

    #[test]
    fn a_child_outlives_the_thread_that_started_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let path = log.clone();
        let mut child = thread::spawn(move || sh("echo up; exec sleep 60", &path)).join().unwrap();
        child.wait_until("sh", Duration::from_secs(10), |sh| sh.has_logged("up")).unwrap();
        assert_eq!(child.wait(Duration::from_millis(200)).unwrap(), None);
    }

    #[test]
    fn terminate_falls_back_to_kill() {
        use std::os::unix::process::ExitStatusExt;
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut polite = sh("trap 'exit 3' TERM; echo up; while :; do sleep 0.01; done", &log);
        polite.wait_until("sh", Duration::from_secs(10), |sh| sh.has_logged("up")).unwrap();
        assert_eq!(polite.terminate(Duration::from_secs(10)).unwrap().code(), Some(3));

        let log = dir.path().join("stubborn");
        let mut stubborn = sh("trap '' TERM; echo up; while :; do sleep 0.01; done", &log);
        stubborn.wait_until("sh", Duration::from_secs(10), |sh| sh.has_logged("up")).unwrap();
        let status = stubborn.terminate(Duration::from_millis(200)).unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL));
        assert!(!stubborn.is_running());
    }

    #[test]
    fn a_frozen_child_is_paused_until_it_is_thawed() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        // One process: a shell that starts another one can be frozen while it waits for the other's exec,
        // and is then in the state `D`.
        let mut sleeper = sh("echo tick; exec sleep 60", &log);
        sleeper.wait_until("sh", Duration::from_secs(10), |sh| sh.has_logged("tick")).unwrap();
        sleeper.freeze().unwrap();
        let state = |pid: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
        };
        let pid = sleeper.pid();
        sleeper.wait_until("sh", Duration::from_secs(10), |_| state(pid) == 'T').unwrap();
        assert!(sleeper.is_running(), "a frozen process has not ended");
        sleeper.thaw().unwrap();
        sleeper.wait_until("sh", Duration::from_secs(10), |_| state(pid) != 'T').unwrap();
        sleeper.freeze().unwrap();
        sleeper.kill().unwrap();
        assert!(!sleeper.is_running(), "SIGKILL ends a frozen process too");
    }

    #[test]
    fn the_error_of_a_process_that_ends_early_quotes_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = sh("echo no such disk; exit 7", &dir.path().join("log"));
        let error = child.wait_until("sh", Duration::from_secs(10), |_| false).unwrap_err();
        assert_eq!(error.code(), "exited");
        assert!(error.to_string().contains("no such disk"), "{error}");
    }

    #[test]
    fn the_error_of_a_command_that_cannot_start_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let error = spawn(Command::new("/no/such/program"), &dir.path().join("log")).unwrap_err();
        assert_eq!(error.code(), "spawn");
        assert!(error.to_string().contains("/no/such/program"));
    }

    #[test]
    fn free_ports_are_below_the_ephemeral_range() {
        let port = free_port().unwrap();
        assert!(port < ephemeral_floor() || ephemeral_floor() < 11_000);
        TcpListener::bind(("127.0.0.1", port)).unwrap();
    }
}
