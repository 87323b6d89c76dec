//! Fetches the software that the demo and the tests run, and installs missing tools of this machine.
//!
//! It has no dependencies, so that `cargo xtask` can start fetching while cargo compiles the
//! workspace.

mod apt;
mod artefact;
mod command;
mod docker;
mod error;
mod lock;
mod tools;
mod whole;

use std::path::{Path, PathBuf};

pub use apt::{Permission, install, plan};
pub use artefact::{
    aiosmtpd, clickhouse_connect, has_aiosmtpd, has_clickhouse_connect, has_helm, has_kafka_jars,
    has_libchdb, helm, kafka_jars, libchdb,
};
pub use command::{command_line, run, tail};
pub use docker::docker_answers;
pub use error::Error;
pub use lock::{lock_file, open_lock};
pub use tools::{Tool, alertmanager, amtool, chromium, java, on_path, prometheus, promtool};

/// Returns the root of the checkout.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap_or(Path::new("."))
}

/// Returns the directory of fetched software, which all runs share: `$MAILPULSE_CACHE`, or
/// `.mailpulse/cache` in the workspace.
pub fn cache() -> PathBuf {
    match std::env::var_os("MAILPULSE_CACHE") {
        Some(directory) if !directory.is_empty() => PathBuf::from(directory),
        _ => workspace().join(".mailpulse/cache"),
    }
}

/// Tells the user about something that takes time or changes the machine.
#[allow(clippy::print_stderr, reason = "cargo xtask and tests run this for a person who watches")]
pub fn notice(message: &str) {
    eprintln!("setup: {message}");
}
