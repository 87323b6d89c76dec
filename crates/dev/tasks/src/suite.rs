//! `cargo xtask test`: all tests on one Kafka and one ClickHouse, and then short forms of `chaos`, `truth`,
//! `day`, `questions` and `automate`.
//!
//! Most tests wait, for groups to form and sessions to expire. So several test programs run at the same
//! time, which cargo does not do.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use devstack::kafka::ADMIN;
use devstack::{Authority, ClickHouse, Dirs, Kafka, PROPERTIES_VARIABLE};
use serde::Deserialize;

use crate::binaries::cargo;
use crate::chaos;
use crate::day;
use crate::phase::Phase;
use crate::pipeline::{properties, report};
use crate::truth;
use crate::{automate, questions};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Use three brokers with TLS and SCRAM instead of one, for the tests that share a Kafka.
    #[arg(long, requires = "cargo")]
    cluster: bool,
    /// Arguments of `cargo test`, for example `-p dedupe`. Then only these tests run, without chaos
    /// and truth.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo: Vec<String>,
}

/// Test programs that run at the same time.
const CONCURRENCY: usize = 3;
/// After this time without a finished program, the running ones are printed.
const SILENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(200);
/// Lines of a failed program's output that the summary repeats.
const SUMMARY_LINES: usize = 40;
/// Slow programs that the summary names.
const SLOWEST: usize = 5;
/// The folder beside the checkout with samples that may not be published. Tests that need it are
/// ignored, with this word in their reason and their name.
const SHARED: &str = "shared";

/// Runs the tests. All of them use the same servers; tests that kill servers start their own.
pub(crate) fn test(arguments: &Arguments) -> anyhow::Result<()> {
    if !arguments.cargo.is_empty() {
        let servers = Servers::start(arguments.cluster)?;
        let status = servers.pass_to(cargo().arg("test").args(&arguments.cargo)).status()?;
        ensure!(status.success(), "some tests failed");
        return Ok(());
    }
    let programs = programs()?;
    let servers = Servers::start(false)?;
    let mut totals = run_all(&programs, &servers, &[], "running all test programs", "10 min");
    totals.add(&run_shared(&programs, &servers)?);
    totals.add(&run_documentation_tests(&servers)?);
    drop(servers);
    totals.print();
    ensure!(totals.failed == 0 && totals.failed_programs.is_empty(), "some tests failed");
    chaos::chaos(&chaos::Arguments::short())?;
    truth::truth(&truth::Arguments::short())?;
    day::day(&day::Arguments::short())?;
    questions::questions(&questions::Arguments::short())?;
    automate::automate(&automate::Arguments::short())?;
    println!("{}", totals.result());
    Ok(())
}

/// Runs the ignored tests over `../shared`, if that folder exists.
fn run_shared(programs: &[Program], servers: &Servers) -> anyhow::Result<Totals> {
    let folder = devstack::fetch::workspace().join("..").join(SHARED);
    let with_tests: Vec<Program> =
        programs.iter().filter(|it| it.has_shared_tests()).cloned().collect();
    if !folder.is_dir() {
        println!("skipped, because ../{SHARED} does not exist:");
        with_tests.iter().for_each(|program| println!("    {}", program.name));
        return Ok(Totals::default());
    }
    let arguments = ["--ignored", SHARED];
    let totals =
        run_all(&with_tests, servers, &arguments, "running the tests over ../shared", "1 min");
    ensure!(totals.passed + totals.failed > 0, "no test over ../{SHARED} was found");
    Ok(totals)
}

fn run_documentation_tests(servers: &Servers) -> anyhow::Result<Totals> {
    let _phase = Phase::begin("running the tests in documentation", "1 min");
    let mut command = cargo();
    command.args(["test", "--workspace", "--doc", "--quiet"]).stderr(Stdio::inherit());
    let output = servers.pass_to(&mut command).output().context("cannot start cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut totals = Totals::default();
    text.lines().filter_map(Counts::parse).for_each(|counts| totals.count(counts));
    if !output.status.success() {
        println!("{text}");
        totals.failed_programs.push("documentation".to_owned());
    }
    Ok(totals)
}

struct Servers {
    kafka: Kafka,
    clickhouse: ClickHouse,
    /// What clients of three brokers must trust.
    authority: Option<Authority>,
    _dirs: Dirs,
}

impl Servers {
    fn start(is_cluster: bool) -> anyhow::Result<Self> {
        let _phase = Phase::begin("starting Kafka and ClickHouse", "10 s");
        let dirs = Dirs::new()?;
        let authority = is_cluster.then(|| Authority::new(&dirs)).transpose()?;
        let kafka = match &authority {
            Some(authority) => Kafka::start_three(&dirs, authority, &[])?,
            None => Kafka::start_optimised(&dirs)?,
        };
        report("Kafka", kafka.bootstrap(), kafka.kind());
        let clickhouse = ClickHouse::start(&dirs)?;
        report("ClickHouse", clickhouse.url(), clickhouse.kind());
        Ok(Self { kafka, clickhouse, authority, _dirs: dirs })
    }

    fn pass_to<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("MAILPULSE_KAFKA", self.kafka.bootstrap())
            .env("MAILPULSE_CLICKHOUSE", self.clickhouse.url());
        if let Some(authority) = &self.authority {
            let properties: BTreeMap<_, _> = properties(authority, ADMIN).into_iter().collect();
            command.env(PROPERTIES_VARIABLE, serde_json::json!(properties).to_string());
        }
        command
    }
}

/// A compiled test program.
#[derive(Debug, Clone)]
struct Program {
    /// Package and target, such as `dedupe exactly_once`.
    name: String,
    /// The name of the package, which is also that of its directory.
    package: String,
    path: PathBuf,
    /// The directory of the package, in which its tests expect to run.
    directory: PathBuf,
}

impl Program {
    /// Whether it has ignored tests over `../shared`.
    fn has_shared_tests(&self) -> bool {
        let output = self.command(&["--list", "--ignored", SHARED]).output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(": test"))
    }

    /// Returns the command that runs the program as cargo does.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(arguments)
            .current_dir(&self.directory)
            .env("CARGO_MANIFEST_DIR", &self.directory)
            .env("CARGO_PKG_NAME", &self.package);
        command
    }
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

/// Returns all test programs of the workspace. `cargo xtask` has compiled them.
fn programs() -> anyhow::Result<Vec<Program>> {
    let _phase = Phase::begin("listing the test programs", "5 s");
    let build = cargo()
        .args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    ensure!(build.status.success(), "the tests do not compile");
    let lines = String::from_utf8(build.stdout)?;
    lines.lines().filter_map(|line| program(line).transpose()).collect()
}

/// Returns the test program in a message of cargo, if there is one.
fn program(line: &str) -> anyhow::Result<Option<Program>> {
    let message: Message = serde_json::from_str(line).context("parse a message of cargo")?;
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

/// Runs all programs and prints a line for each.
fn run_all(
    programs: &[Program],
    servers: &Servers,
    arguments: &[&str],
    what: &str,
    duration: &str,
) -> Totals {
    let _phase = Phase::begin(what, duration);
    let waiting: VecDeque<&Program> = programs.iter().collect();
    let (waiting, state) = (Mutex::new(waiting), Mutex::new(Totals::default()));
    let running: Mutex<BTreeMap<&str, Instant>> = Mutex::default();
    let next = || lock(&waiting).pop_front();
    std::thread::scope(|scope| {
        for _ in 0..CONCURRENCY {
            scope.spawn(|| {
                while let Some(program) = next() {
                    lock(&running).insert(&program.name, Instant::now());
                    let result = run(program, servers, arguments);
                    lock(&running).remove(program.name.as_str());
                    let mut totals = lock(&state);
                    totals.programs += 1;
                    println!("[{}/{}] {result}", totals.programs, programs.len());
                    totals.add_program(result);
                }
            });
        }
        scope.spawn(|| report_slow(&running, || lock(&state).programs, programs.len()));
    });
    state.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Prints the running programs if none has ended for [`SILENCE`], until all have ended.
fn report_slow(
    running: &Mutex<BTreeMap<&str, Instant>>,
    ended: impl Fn() -> usize,
    programs: usize,
) {
    let (mut before, mut since) = (0, Instant::now());
    while before < programs {
        std::thread::sleep(POLL);
        let now = ended();
        if now == before && since.elapsed() < SILENCE {
            continue;
        }
        if now == before {
            let running = lock(running);
            let each = running
                .iter()
                .map(|(name, since)| format!("{name} ({} s)", since.elapsed().as_secs()));
            println!("        running: {}", each.collect::<Vec<_>>().join(", "));
        }
        (before, since) = (now, Instant::now());
    }
}

/// The result of a test program.
struct ProgramResult {
    name: String,
    counts: Counts,
    took: Duration,
    /// The output, if the program failed.
    failure: Option<String>,
}

fn run(program: &Program, servers: &Servers, arguments: &[&str]) -> ProgramResult {
    let started = Instant::now();
    let output = servers.pass_to(&mut program.command(arguments)).output();
    let took = started.elapsed();
    let name = program.name.clone();
    let (counts, failure) = match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let counts = text.lines().rev().find_map(Counts::parse).unwrap_or_default();
            let errors = String::from_utf8_lossy(&output.stderr);
            let failed = !output.status.success();
            (counts, failed.then(|| format!("{}\n{text}\n{errors}", output.status)))
        }
        Err(error) => (Counts::default(), Some(format!("cannot be started: {error}"))),
    };
    ProgramResult { name, counts, took, failure }
}

impl std::fmt::Display for ProgramResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, counts, took, failure } = self;
        let (result, seconds) =
            (if failure.is_some() { "FAILED" } else { "ok" }, took.as_secs_f64());
        write!(f, "{name} … {result} {} tests, {seconds:.1} s", counts.passed + counts.failed)?;
        failure.iter().try_for_each(|text| write!(f, "\n{text}"))
    }
}

/// The numbers in a line `test result: ok. 3 passed; 0 failed; …` of a test program.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    fn parse(line: &str) -> Option<Self> {
        let rest = line.strip_prefix("test result: ")?;
        let count = |what: &str| {
            let (before, _) = rest.split_once(what)?;
            before.trim_end().rsplit(' ').next()?.parse().ok()
        };
        Some(Self {
            passed: count("passed")?,
            failed: count("failed")?,
            ignored: count("ignored")?,
        })
    }
}

/// The results of all programs.
#[derive(Default)]
struct Totals {
    programs: usize,
    passed: u64,
    failed: u64,
    ignored: u64,
    failed_programs: Vec<String>,
    /// Why programs failed, in short.
    failures: Vec<String>,
    times: Vec<(Duration, String)>,
}

impl Totals {
    fn count(&mut self, counts: Counts) {
        self.passed += counts.passed;
        self.failed += counts.failed;
        self.ignored += counts.ignored;
    }

    fn add_program(&mut self, result: ProgramResult) {
        self.count(result.counts);
        self.times.push((result.took, result.name.clone()));
        if let Some(failure) = result.failure {
            self.failures.push(format!("{}:\n{}", result.name, shorten(&failure)));
            self.failed_programs.push(result.name);
        }
    }

    fn add(&mut self, other: &Self) {
        let Self { passed, failed, ignored, .. } = *other;
        self.count(Counts { passed, failed, ignored });
        self.failed_programs.extend_from_slice(&other.failed_programs);
        self.failures.extend_from_slice(&other.failures);
        self.times.extend_from_slice(&other.times);
    }

    /// Prints the slowest and the failed programs, and the result.
    fn print(&mut self) {
        self.times.sort_by(|(a, _), (b, _)| b.cmp(a));
        println!("\nslowest programs:");
        for (took, name) in self.times.iter().take(SLOWEST) {
            println!("    {:>6.1} s  {name}", took.as_secs_f64());
        }
        // Again at the end, because a log may be cut off at its beginning.
        self.failures.iter().for_each(|failure| println!("\n{failure}"));
        if !self.failed_programs.is_empty() {
            println!("failed programs: {}", self.failed_programs.join(", "));
        }
        println!("{}", self.result());
    }

    /// Returns a line in the style of cargo. A program that crashes counts as one failed test.
    fn result(&self) -> String {
        let Self { passed, ignored, .. } = self;
        let failed = self.failed.max(self.failed_programs.len() as u64);
        let result = if failed == 0 { "ok" } else { "FAILED" };
        format!("test result: {result}. {passed} passed, {failed} failed, {ignored} ignored")
    }
}

/// Returns the messages of the failed tests in the output of a test program, without the frames of
/// backtraces.
fn shorten(output: &str) -> String {
    let messages = output.split_once("failures:").map_or(output, |(_, messages)| messages);
    let is_frame = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("at ")
            || line.split_once(": ").is_some_and(|(n, _)| n.parse::<u32>().is_ok())
    };
    let lines = messages.lines().filter(|line| !line.trim().is_empty() && !is_frame(line));
    lines.take(SUMMARY_LINES).collect::<Vec<_>>().join("\n")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_found_in_the_messages_of_cargo() {
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

    #[test]
    fn a_failure_is_repeated_without_its_backtrace() {
        let output = "running 1 test\ntest x ... FAILED\n\nfailures:\n\n---- x stdout ----\n\
                      thread 'x' panicked at src/x.rs:1:2:\nleft is not right\nstack backtrace:\n   \
                      0: std::panicking\n             at /rustc/panicking.rs:1:1\n\nfailures:\n    x\n";
        let short = "---- x stdout ----\nthread 'x' panicked at src/x.rs:1:2:\nleft is not right\n\
                     stack backtrace:\nfailures:\n    x";
        assert_eq!(shorten(output), short);
    }

    #[test]
    fn tests_are_counted_and_the_last_line_is_like_cargos() {
        let line = "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; \
                    finished in 1.23s";
        let counts = Counts::parse(line).unwrap();
        assert_eq!(counts, Counts { passed: 12, failed: 0, ignored: 3 });
        assert_eq!(Counts::parse("running 12 tests"), None);
        let mut totals = Totals::default();
        totals.count(counts);
        assert_eq!(totals.result(), "test result: ok. 12 passed, 0 failed, 3 ignored");
        // A crash prints no counts.
        totals.failed_programs.push("dedupe".to_owned());
        assert_eq!(totals.result(), "test result: FAILED. 12 passed, 1 failed, 3 ignored");
    }
}
