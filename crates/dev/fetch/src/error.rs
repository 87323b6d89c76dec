use std::{fmt, io};

/// Why software could not be fetched or installed. The message says what was tried and what to do.
#[derive(Debug)]
pub enum Error {
    /// A file operation failed.
    Io {
        /// The operation and the path, as in `create /x/y`.
        doing: String,
        source: io::Error,
    },
    /// A program could not be started.
    Spawn { program: String, source: io::Error },
    /// A program ran and failed, or did not end before its deadline.
    CommandFailed {
        command: String,
        /// The exit status, or that the deadline passed.
        outcome: String,
        /// The last lines of the output.
        tail: String,
    },
    /// A tool is missing or too old, and this process may not install it.
    MissingTool {
        tool: &'static str,
        /// The command line that installs it.
        install: String,
    },
    /// The client reported success, but the fetched files are incomplete.
    IncompleteFetch { artefact: &'static str, reason: String },
    /// libchdb exists for Linux on x86-64 with glibc only.
    UnsupportedPlatform,
}

impl Error {
    /// Returns the stable snake_case name of the variant, for logs and exit messages.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::Spawn { .. } => "spawn",
            Self::CommandFailed { .. } => "command_failed",
            Self::MissingTool { .. } => "missing_tool",
            Self::IncompleteFetch { .. } => "incomplete_fetch",
            Self::UnsupportedPlatform => "unsupported_platform",
        }
    }

    /// Names the failed operation; for `map_err`.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, source } => write!(f, "cannot {doing}: {source}"),
            Self::Spawn { program, source } => write!(f, "cannot start {program}: {source}"),
            Self::CommandFailed { command, outcome, tail } => {
                write!(f, "`{command}` failed ({outcome}); its last lines:\n{tail}")
            }
            Self::MissingTool { tool, install } => {
                write!(f, "{tool} is missing; install it with: {install}")
            }
            Self::IncompleteFetch { artefact, reason } => {
                write!(f, "the fetched copy of {artefact} is incomplete: {reason}")
            }
            Self::UnsupportedPlatform => f.write_str(
                "the embedded ClickHouse needs Linux on x86-64 with glibc; start Docker, or set \
                 MAILPULSE_CLICKHOUSE to the URL of a running server",
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::Spawn { source, .. } => Some(source),
            _ => None,
        }
    }
}
