//! `cargo xtask TASK`: prepares this machine, compiles the workspace once, and starts the program
//! `tasks`, which runs the task.
//!
//! This program has no dependencies outside of the workspace. It compiles in seconds, so that the
//! terminal shows at once what will happen. It selects the whole workspace in one cargo command, so
//! that cargo compiles every dependency once, with one set of features.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod needs;
mod prefetch;
mod setup;
mod task;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use needs::Needs;
use task::{Invocation, Task};

const HELP: &str = "\
Usage: cargo xtask TASK [OPTIONS]

Tasks:
  demo    Start everything, post signed webhooks of all thirteen providers, and compare what arrives
          in ClickHouse with the known truth. Keeps running until Ctrl-C; --once ends by itself
  up      Start everything without traffic. Keeps running until Ctrl-C
  test    Run all tests on real Kafka and ClickHouse, and then short runs of chaos, truth, day, questions
          and automate. With arguments for `cargo test` (for example -p dedupe), run these tests only
  chaos   Kill, freeze and stop everything by a seeded schedule while mail flows, and prove that no
          event, sum, window or alert is affected
  truth   Post mail of which everything is known, and compare every metric with the truth
  day     Play a scripted day of mail, and compare what people are told with the expectation
  questions
          Ask the questions of analysts, and compare the answers with the truth
  predict Score predictions about simulated recipients
  automate
          Kill members of automate, and compare decisions and deliveries with a model
  noise   Simulate how often healthy mail opens an episode
  record  Run an installation, stop it in the middle of its work, and pack what it leaves on its disks
          into DIRECTORY. Done once for each release; see crates/dev/tasks/recordings
  upgrade Start the services on recorded installations of earlier releases (all, or one ARCHIVE), and
          compare the results with what is known
  bench   Measure each service alone, then all of them together, in a release build
  dist    Pack a release into target/dist: programs, completions, man pages, units, schemas, licences
  setup   Install and fetch everything that these tasks need, and end

Options:
  --yes   Install missing system packages without a question
  --help  After a task: print the options of the task
";

fn main() -> ExitCode {
    let Some(invocation) = Invocation::parse(std::env::args().skip(1)) else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    if invocation.task == Task::Help {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match run(&invocation) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns only if the task cannot be started, or for `setup`.
fn run(invocation: &Invocation) -> Result<ExitCode, String> {
    let needs = Needs::of(invocation);
    eprintln!("{}", invocation.announcement(&needs));
    let agreed = setup::install_missing(&needs.tools(), invocation.yes)?;
    let downloads = prefetch::start(&needs);
    if invocation.task != Task::Setup && !compile(invocation)? {
        return Err("the workspace does not compile; see above".to_owned());
    }
    prefetch::finish(downloads)?;
    if invocation.task == Task::Setup {
        eprintln!("Everything is installed.");
        return Ok(ExitCode::SUCCESS);
    }
    let program = program(invocation)?;
    let mut command = Command::new(&program);
    command.args(&invocation.arguments);
    if agreed {
        fetch::Permission::pass_to(&mut command);
    }
    Err(format!("cannot start {}: {}", program.display(), command.exec()))
}

/// Compiles the workspace; cargo shows its progress.
fn compile(invocation: &Invocation) -> Result<bool, String> {
    let started = Instant::now();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(fetch::workspace()).args(invocation.cargo_arguments());
    eprintln!("==> {}", fetch::command_line(&cargo));
    let status = cargo.status().map_err(|error| format!("cannot start cargo: {error}"))?;
    eprintln!("==> compiled in {} s", started.elapsed().as_secs());
    Ok(status.success())
}

/// Returns the path of the program `tasks` that [`compile`] has built.
fn program(invocation: &Invocation) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("cannot find xtask: {error}"))?;
    // .../target/debug/xtask
    let target = own.ancestors().nth(2).ok_or("xtask is not in a target directory")?;
    Ok(target.join(invocation.profile_directory()).join("tasks"))
}
