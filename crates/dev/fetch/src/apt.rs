//! Installs Debian packages.
//!
//! One process at a time runs apt-get for this checkout, and it waits for other programs of the
//! machine that hold the locks of dpkg or of the package lists.

use std::io::IsTerminal;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::tools::{on_path, output};
use crate::{Error, Tool, cache, lock_file, notice, run};

/// Package lists and a Java runtime over a slow line.
const INSTALL_PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How long to wait for another process that installs packages, such as unattended-upgrades.
const LOCK_PATIENCE: Duration = Duration::from_secs(10 * 60);
const RETRY_PAUSE: Duration = Duration::from_secs(3);
/// apt-get itself waits this long for dpkg's lock, in seconds. It does not wait for the lock of the
/// package lists, so we retry too.
const LOCK_OPTION: &str = "DPkg::Lock::Timeout=120";
/// Set by `cargo xtask` once the user has agreed, for the programs that it starts.
const AGREED: &str = "MAILPULSE_INSTALL";

/// Whether this process may install packages without a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    Granted,
    /// Somebody sits at the terminal: ask first.
    Ask,
}

impl Permission {
    /// Returns whether this process may install packages: without a terminal, or after the user has
    /// agreed.
    pub fn of_this_process() -> Self {
        if std::env::var_os(AGREED).is_some() || !std::io::stdin().is_terminal() {
            Self::Granted
        } else {
            Self::Ask
        }
    }

    /// Tells a program to start that the user has agreed.
    pub fn pass_to(command: &mut Command) -> &mut Command {
        command.env(AGREED, "1")
    }
}

/// Returns the command that [`install`] would run for `tool`, or the error that tells the user to
/// install it.
///
/// # Errors
/// [`Error::MissingTool`] if this process cannot run apt-get as root.
pub fn plan(tool: &Tool) -> Result<String, Error> {
    let Method::Install { as_root } = method(Machine::inspect()) else {
        return Err(tool.missing());
    };
    let [best, ..] = tool.packages else { return Err(tool.missing()) };
    Ok([as_root, &["apt-get", "install", best]].concat().join(" "))
}

/// Installs the tools that are missing. For each of them, the first of its packages that the
/// distribution has.
///
/// # Errors
/// [`Error::MissingTool`] if this process cannot run apt-get as root, and [`Error::CommandFailed`] if
/// no package can be installed.
pub fn install(tools: &[&Tool]) -> Result<(), Error> {
    let cache = cache();
    std::fs::create_dir_all(&cache).map_err(Error::io(format!("create {}", cache.display())))?;
    let _lock = lock_file(&cache.join("apt.lock"))?;
    // Another process may have installed some of them while this one waited for the lock.
    let missing: Vec<&&Tool> = tools.iter().filter(|tool| tool.find().is_none()).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let Method::Install { as_root } = method(Machine::inspect()) else {
        return Err(first.missing());
    };
    let log = cache.join("apt.log");
    // If the update fails, the present package lists may still be good enough.
    let _ = apt_get(as_root, &["update"], &log);
    for tool in missing {
        notice(&format!("installing {}, needed {}", tool.name, tool.why));
        install_one(tool, as_root, &log)?;
    }
    Ok(())
}

fn install_one(tool: &Tool, as_root: &[&str], log: &Path) -> Result<(), Error> {
    let mut last = Err(tool.missing());
    for package in tool.packages {
        last = apt_get(as_root, &["install", "--no-install-recommends", package], log);
        if last.is_ok() {
            break;
        }
    }
    last
}

/// Runs apt-get, again while another process holds a lock.
fn apt_get(as_root: &[&str], words: &[&str], log: &Path) -> Result<(), Error> {
    let line = [as_root, &["apt-get", "-q", "-y", "-o", LOCK_OPTION], words].concat();
    notice(&line.join(" "));
    retry_while_locked(RETRY_PAUSE, LOCK_PATIENCE, || {
        let _ = std::fs::remove_file(log);
        let mut command = Command::new(line[0]);
        command.args(&line[1..]).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        run(command, Stdio::null(), log, INSTALL_PATIENCE, || {})
    })
}

fn retry_while_locked(
    pause: Duration,
    patience: Duration,
    mut attempt: impl FnMut() -> Result<(), Error>,
) -> Result<(), Error> {
    let deadline = Instant::now() + patience;
    let mut told = false;
    loop {
        match attempt() {
            Err(Error::CommandFailed { tail, .. })
                if is_locked(&tail) && Instant::now() < deadline =>
            {
                if !told {
                    notice("waiting for another process that installs packages");
                }
                told = true;
                thread::sleep(pause);
            }
            outcome => return outcome,
        }
    }
}

/// Whether apt-get failed (with status 100) because another process holds a lock.
fn is_locked(output: &str) -> bool {
    ["Could not get lock", "Unable to acquire", "Unable to lock", "is held by process"]
        .iter()
        .any(|words| output.contains(words))
}

/// What this process may do on this machine.
#[derive(Debug, Clone, Copy)]
struct Machine {
    apt: bool,
    root: bool,
    /// `sudo` works without a password.
    sudo: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Method {
    /// Run apt-get behind these words.
    Install { as_root: &'static [&'static str] },
    /// Tell the user what to install.
    Tell,
}

fn method(machine: Machine) -> Method {
    match machine {
        Machine { apt: false, .. } => Method::Tell,
        Machine { root: true, .. } => Method::Install { as_root: &[] },
        Machine { sudo: true, .. } => Method::Install { as_root: &["sudo", "-n"] },
        _ => Method::Tell,
    }
}

impl Machine {
    fn inspect() -> Self {
        Self {
            apt: on_path("apt-get").is_some(),
            root: output(Path::new("id"), &["-u"]).is_some_and(|id| id.trim() == "0"),
            sudo: output(Path::new("sudo"), &["-n", "true"]).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_installed_only_with_root_or_sudo() {
        let machine = |apt, root, sudo| Machine { apt, root, sudo };
        assert_eq!(method(machine(true, true, false)), Method::Install { as_root: &[] });
        assert_eq!(method(machine(true, true, true)), Method::Install { as_root: &[] });
        let with_sudo = Method::Install { as_root: &["sudo", "-n"] };
        assert_eq!(method(machine(true, false, true)), with_sudo);
        assert_eq!(method(machine(true, false, false)), Method::Tell);
        assert_eq!(method(machine(false, true, true)), Method::Tell);
    }

    fn failed(tail: &str) -> Result<(), Error> {
        let (command, outcome) = ("apt-get".to_owned(), "exit status: 100".to_owned());
        Err(Error::CommandFailed { command, outcome, tail: tail.to_owned() })
    }

    const LOCKED: &str = "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process \
                          7 (apt-get)\nE: Unable to acquire the dpkg frontend lock";

    #[test]
    fn an_installation_is_retried_while_another_process_holds_the_lock() {
        let mut attempts = 0;
        let outcome = retry_while_locked(Duration::ZERO, LOCK_PATIENCE, || {
            attempts += 1;
            if attempts < 3 { failed(LOCKED) } else { Ok(()) }
        });
        assert!(outcome.is_ok());
        assert_eq!(attempts, 3);
    }

    #[test]
    fn other_failures_are_not_retried_and_waiting_ends() {
        let mut attempts = 0;
        let outcome = retry_while_locked(Duration::ZERO, LOCK_PATIENCE, || {
            attempts += 1;
            failed("E: Unable to locate package no-such-package")
        });
        assert_eq!((outcome.is_err(), attempts), (true, 1));
        let locked = retry_while_locked(Duration::ZERO, Duration::ZERO, || failed(LOCKED));
        assert!(locked.is_err());
    }
}
