//! What can go wrong while real parts are fetched, started and stopped.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::Origin;

/// Why a part could not be fetched, started or stopped.
///
/// Every variant has a stable [`code`](Error::code); the message says what was tried and what mends
/// it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation of ours failed.
    #[error("cannot {doing}: {source}")]
    Io {
        /// The operation and the path, as in `create /x/y`.
        doing: String,
        /// What the system answered.
        source: io::Error,
    },
    /// A program could not be started at all.
    #[error("cannot start {program}: {source}")]
    Spawn {
        /// The program's name or path.
        program: String,
        /// What the system answered.
        source: io::Error,
    },
    /// A program ran and reported failure, or ran past its deadline.
    #[error("`{command}` failed ({outcome}); its last lines:\n{tail}")]
    CommandFailed {
        /// The command line.
        command: String,
        /// The exit status, or that it was stopped at its deadline.
        outcome: String,
        /// The last lines of its output.
        tail: String,
    },
    /// A tool of the machine is missing or too old, and we may not install it.
    #[error("{tool} is missing; install it with: {install}")]
    MissingTool {
        /// What is missing.
        tool: &'static str,
        /// One line that mends it.
        install: String,
    },
    /// A fetch ended well by its own account, but what it left is not whole.
    #[error("the fetch of {artefact} is not whole: {reason}")]
    IncompleteFetch {
        /// What was fetched.
        artefact: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The shared library exists for Linux on x86-64 with glibc only.
    #[error(
        "the embedded ClickHouse needs Linux on x86-64 with glibc; start Docker, or point \
         MAILPULSE_CLICKHOUSE at a running server"
    )]
    UnsupportedPlatform,
    /// An environment variable does not hold what it should.
    #[error("{variable}=`{value}` is not {expected}")]
    BadSetting {
        /// The variable.
        variable: &'static str,
        /// What it holds.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A part was started (or said to be running) and did not answer in time.
    #[error("{service} did not answer within {waited:?}{}", log_lines(.log, .tail))]
    NotReady {
        /// The part.
        service: &'static str,
        /// How long we waited.
        waited: Duration,
        /// Where its log is, if it is a process of ours.
        log: Option<PathBuf>,
        /// The last lines of the log.
        tail: String,
    },
    /// A part ended while we waited for it to answer.
    #[error("{service} ended while starting ({status}){}", log_lines(.log, .tail))]
    Exited {
        /// The part.
        service: &'static str,
        /// The exit status.
        status: String,
        /// Where its log is.
        log: Option<PathBuf>,
        /// The last lines of the log.
        tail: String,
    },
    /// Kill and restart are for processes of ours only.
    #[error("{service} is not ours to stop ({origin:?}); unset its variable, or use `start_own`")]
    NotOurs {
        /// The part.
        service: &'static str,
        /// Where it came from.
        origin: Origin,
    },
}

impl Error {
    /// The stable snake_case name of the variant, for logs and exit messages.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::Spawn { .. } => "spawn",
            Self::CommandFailed { .. } => "command_failed",
            Self::MissingTool { .. } => "missing_tool",
            Self::IncompleteFetch { .. } => "incomplete_fetch",
            Self::UnsupportedPlatform => "unsupported_platform",
            Self::BadSetting { .. } => "bad_setting",
            Self::NotReady { .. } => "not_ready",
            Self::Exited { .. } => "exited",
            Self::NotOurs { .. } => "not_ours",
        }
    }

    /// For `map_err`: names the operation that failed.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

fn log_lines(log: &Option<PathBuf>, tail: &str) -> String {
    match log {
        Some(log) => format!("; the last lines of {}:\n{tail}", log.display()),
        None => String::new(),
    }
}
