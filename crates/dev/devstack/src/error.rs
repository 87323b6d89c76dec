use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::ServerKind;

/// Why a server could not be fetched, started or stopped. The message says what was tried and what
/// to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {doing}: {source}")]
    Io {
        /// The operation and the path, as in `create /x/y`.
        doing: String,
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot start {program}: {source}")]
    Spawn { program: String, source: io::Error },
    /// A program ran and failed, or did not end before its deadline.
    #[error("`{command}` failed ({outcome}); its last lines:\n{tail}")]
    CommandFailed {
        command: String,
        /// The exit status, or that the deadline passed.
        outcome: String,
        /// The last lines of the output.
        tail: String,
    },
    /// Software could not be fetched or installed.
    #[error(transparent)]
    Fetch(#[from] fetch::Error),
    /// A key or a certificate for tests could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A TLS front cannot use its certificate or key.
    #[error("the TLS front cannot start: {0}")]
    Tls(String),
    /// An environment variable has a wrong value.
    #[error("{variable}=`{value}` is not {expected}")]
    BadSetting { variable: &'static str, value: String, expected: &'static str },
    /// A server was started (or an environment variable names it) and did not answer in time.
    #[error("{service} did not answer within {waited:?}{}", log_lines(.log, .tail))]
    NotReady {
        service: &'static str,
        waited: Duration,
        /// The log of a child process.
        log: Option<PathBuf>,
        /// The last lines of the log.
        tail: String,
    },
    /// A child process ended before it was ready.
    #[error("{service} ended while starting ({status}){}", log_lines(.log, .tail))]
    Exited {
        service: &'static str,
        status: String,
        log: Option<PathBuf>,
        /// The last lines of the log.
        tail: String,
    },
    /// Only a child process can be killed and restarted.
    #[error(
        "{service} is not a child process ({kind:?}) and cannot be killed; unset its variable, or \
         use `start_own`"
    )]
    NotOurs { service: &'static str, kind: ServerKind },
}

impl Error {
    /// Returns the stable snake_case name of the variant, for logs and exit messages.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::Spawn { .. } => "spawn",
            Self::CommandFailed { .. } => "command_failed",
            Self::Fetch(error) => error.code(),
            Self::Certificate(_) => "certificate",
            Self::Tls(_) => "tls",
            Self::BadSetting { .. } => "bad_setting",
            Self::NotReady { .. } => "not_ready",
            Self::Exited { .. } => "exited",
            Self::NotOurs { .. } => "not_ours",
        }
    }

    /// Names the failed operation; for `map_err`.
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
