//! `cargo xtask test`: every test, on one Kafka and one ClickHouse, and a short run of chaos.
//!
//! Most of the tests wait, for groups to form and sessions to end. So several test programs run at a
//! time, which cargo does not do.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, ensure};
use devstack::{ClickHouse, Dirs, Kafka};
use serde::Deserialize;

use crate::build::cargo;
use crate::chaos;

/// What to test.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Handed to `cargo test`, for example `-p dedupe`; then there is no chaos.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo: Vec<String>,
}

/// Test programs that run at the same time.
const AT_A_TIME: usize = 3;

/// Tests would start servers of their own; one of each for all of them is quicker. Those that kill
/// servers start their own all the same.
pub(crate) fn test(arguments: &Arguments) -> anyhow::Result<()> {
    let build = cargo().args(["build", "--bin", "devstack-clickhouse"]).status()?;
    ensure!(build.success(), "the build failed");
    if !arguments.cargo.is_empty() {
        let servers = Servers::start()?;
        let status = servers.known_to(cargo().arg("test").args(&arguments.cargo)).status()?;
        ensure!(status.success(), "tests failed");
        return Ok(());
    }
    let programs = programs()?;
    let servers = Servers::start()?;
    let failed = run_all(programs, &servers);
    let mut documented = cargo();
    let documented = servers.known_to(documented.args(["test", "--workspace", "--doc", "-q"]));
    let documented = documented.status().context("cargo cannot be run")?;
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    ensure!(documented.success(), "tests in the documentation failed");
    drop(servers);
    chaos::chaos(&chaos::Arguments::short())
}

struct Servers {
    kafka: Kafka,
    clickhouse: ClickHouse,
    _dirs: Dirs,
}

impl Servers {
    fn start() -> anyhow::Result<Self> {
        let dirs = Dirs::new()?;
        Ok(Self { kafka: Kafka::start(&dirs)?, clickhouse: ClickHouse::start(&dirs)?, _dirs: dirs })
    }

    fn known_to<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("MAILPULSE_KAFKA", self.kafka.bootstrap())
            .env("MAILPULSE_CLICKHOUSE", self.clickhouse.url())
    }
}

/// A compiled program of tests.
struct Program {
    /// Its package and target, such as `dedupe exactly_once`.
    name: String,
    /// Named as its directory.
    package: String,
    path: PathBuf,
    /// Its package's, where its tests expect to be run.
    directory: PathBuf,
}

/// A line of `cargo --message-format json`; see "External tools" in the Cargo book.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    executable: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Compiles all tests.
fn programs() -> anyhow::Result<VecDeque<Program>> {
    let build = cargo()
        .args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be run")?;
    ensure!(build.status.success(), "the tests do not compile");
    let lines = String::from_utf8(build.stdout)?;
    lines.lines().filter_map(|line| program(line).transpose()).collect()
}

/// The program of tests that a message tells of, if it does.
fn program(line: &str) -> anyhow::Result<Option<Program>> {
    let message: Message = serde_json::from_str(line).context("cargo's message")?;
    let Message { reason, manifest_path, executable, target, profile } = message;
    let (Some(path), Some(target)) = (executable, target) else { return Ok(None) };
    if reason != "compiler-artifact" || !profile.is_some_and(|profile| profile.test) {
        return Ok(None);
    }
    let directory = manifest_path.parent().unwrap_or(Path::new(".")).to_owned();
    let package = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_alone = package == target.name;
    let name = if is_alone { package.clone() } else { format!("{package} {}", target.name) };
    Ok(Some(Program { name, package, path, directory }))
}

/// Runs them all; returns the names of those that failed.
fn run_all(programs: VecDeque<Program>, servers: &Servers) -> Vec<String> {
    let (waiting, failed) = (Mutex::new(programs), Mutex::new(Vec::new()));
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(program) = next() {
                    if !run(&program, servers) {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(program.name);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Runs one, and shows what it has said once it has ended: all of it if it failed.
fn run(program: &Program, servers: &Servers) -> bool {
    let started = Instant::now();
    let mut command = Command::new(&program.path);
    // As cargo would.
    command
        .current_dir(&program.directory)
        .env("CARGO_MANIFEST_DIR", &program.directory)
        .env("CARGO_PKG_NAME", &program.package);
    let ended = servers.known_to(&mut command).output();
    let seconds = started.elapsed().as_secs_f64();
    let Program { name, .. } = program;
    match ended {
        Ok(ended) if ended.status.success() => {
            let said = String::from_utf8_lossy(&ended.stdout);
            let result = said.lines().rev().find(|line| line.starts_with("test result"));
            println!("{name}: {} ({seconds:.1} s)", result.unwrap_or("no tests"));
            true
        }
        Ok(ended) => {
            let (said, told) =
                (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
            println!("{name}: {} ({seconds:.1} s)\n{said}\n{told}", ended.status);
            false
        }
        Err(error) => {
            println!("{name}: cannot be run: {error}");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_tests_are_told_from_other_artifacts() {
        let message = |test, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/w/crates/services/dedupe/Cargo.toml",
                "target":{{"name":"kafka"}},"profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };
        let found = program(&message(true, "\"/t/kafka-1\"")).unwrap().unwrap();
        assert_eq!(found.name, "dedupe kafka");
        assert_eq!(found.directory, Path::new("/w/crates/services/dedupe"));
        assert!(program(&message(false, "\"/t/kafka\"")).unwrap().is_none());
        assert!(program(&message(true, "null")).unwrap().is_none());
        assert!(program(r#"{"reason":"build-finished","success":true}"#).unwrap().is_none());
        assert!(program("Compiling").is_err());
    }
}
