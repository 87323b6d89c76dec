//! `mailpulse`: the operator's tool.
//!
//! `mailpulse verify` verifies the signature of a captured webhook, `mailpulse parse` converts it
//! to canonical events, and `mailpulse sign` makes a signed request. `mailpulse dead-letters`
//! lists, explains and redrives dead letters, and `mailpulse spool` does the same with what an
//! ingress has in its spool. `mailpulse positions` repairs the offset of a partition that is held.
//! `mailpulse alerts` lists, handles and verifies incidents, and `mailpulse rules` explains and tests rules.
//! `mailpulse doctor` connects to Kafka and ClickHouse. Results go to standard output, counts and
//! errors to standard error.
//!
//! Exit status: 0 if everything succeeded (`verify`: authentic), 1 if something failed (not
//! authentic), 2 if the arguments, the input or the settings are invalid.

mod alerts;
mod args;
mod database;
mod dead_letter_id;
mod dead_letters;
mod doctor;
mod history;
mod input;
mod parse;
mod positions;
mod request;
mod rules;
mod sign;
mod source;
mod spool;
mod text;
mod verify;

use std::io::{self, Write};
use std::process::ExitCode;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use enrich::OpenError;
use jiff::Timestamp;
use service::SettingsError;

/// The result of a command that ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// Something failed and was reported.
    Incomplete,
}

/// The arguments or the input are invalid.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InputError(pub(crate) String);

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Incomplete) => ExitCode::from(1),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // An error of standard error cannot be reported.
            let code = code(&error).map_or_else(String::new, |code| format!("{code}: "));
            let _ = writeln!(io::stderr(), "mailpulse: {code}{error}");
            ExitCode::from(if is_input_error(&error) { 2 } else { 1 })
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<Outcome> {
    match cli.command {
        Command::Verify(args) => verify::run(cli.config.as_deref(), &args),
        Command::Parse(args) => parse::run(cli.config.as_deref(), &args),
        Command::Sign(args) => sign::run(&args),
        Command::Spool(command) => spool::run(cli.config.as_deref(), command),
        Command::DeadLetters(command) => dead_letters::run(cli.config.as_deref(), command),
        Command::Alerts(command) => alerts::run(cli.config.as_deref(), &command),
        Command::Rules(command) => rules::run(cli.config.as_deref(), &command),
        Command::Positions(command) => positions::run(cli.config.as_deref(), &command),
        Command::Doctor(args) => doctor::run(cli.config.as_deref(), &args),
        Command::Completions { shell } => completions(shell),
    }
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "mailpulse", &mut script);
    io::stdout().write_all(&script)?;
    Ok(Outcome::Done)
}

#[expect(clippy::disallowed_methods, reason = "the default of options that take a time")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// Whether the reader of our output ended, like `head`. That is not an error.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
}

fn is_input_error(error: &anyhow::Error) -> bool {
    error.is::<InputError>()
        || error.is::<SettingsError>()
        || error.is::<OpenError>()
        || matches!(error.downcast_ref::<kafka::Error>(), Some(kafka::Error::Settings(_)))
}

/// Returns the stable code of a configuration error.
fn code(error: &anyhow::Error) -> Option<&'static str> {
    let settings = error.downcast_ref().map(SettingsError::code);
    settings.or_else(|| error.downcast_ref().map(OpenError::code))
}
