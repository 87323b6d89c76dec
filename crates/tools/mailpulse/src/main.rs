//! `mailpulse`: the operator's tool.
//!
//! `mailpulse verify` says whether a captured webhook is its provider's, `mailpulse parse` what the
//! pipeline makes of it, and `mailpulse sign` makes one that is genuine. `mailpulse dead-letters`
//! lists what the services gave up on, explains it, and sends it back on its way. What a command
//! found goes to standard output, what it says about it to standard error.
//!
//! Exit status: 0 when all was done (of `verify`: authentic), 1 when something could not be (not
//! authentic), 2 when the arguments, the input or the settings cannot be used.

mod args;
mod dead_letters;
mod input;
mod letter_id;
mod parse;
mod request;
mod sign;
mod source;
mod text;
mod verify;

use std::io::{self, Write};
use std::process::ExitCode;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use enrich::OpenError;
use service::SettingsError;
use kafka::StreamError;

/// How a command ended that ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All that was asked for.
    Done,
    /// Some of it could not be done; standard error says what.
    Incomplete,
}

/// The command line is well formed and cannot be carried out as it stands.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unusable(pub(crate) String);

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Incomplete) => ExitCode::from(1),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if standard error is gone too.
            let code = code(&error).map_or_else(String::new, |code| format!("{code}: "));
            let _ = writeln!(io::stderr(), "mailpulse: {code}{error}");
            ExitCode::from(if is_unusable(&error) { 2 } else { 1 })
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<Outcome> {
    match cli.command {
        Command::Verify(how) => verify::run(cli.config.as_deref(), &how),
        Command::Parse(how) => parse::run(cli.config.as_deref(), &how),
        Command::Sign(how) => sign::run(&how),
        Command::DeadLetters(verb) => dead_letters::run(cli.config.as_deref(), verb),
        Command::Completions { shell } => completions(shell),
    }
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "mailpulse", &mut script);
    io::stdout().write_all(&script)?;
    Ok(Outcome::Done)
}

/// Whoever read our output has seen enough, as `head` has.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
}

fn is_unusable(error: &anyhow::Error) -> bool {
    error.is::<Unusable>()
        || error.is::<SettingsError>()
        || error.is::<OpenError>()
        || matches!(error.downcast_ref::<StreamError>(), Some(StreamError::Settings(_)))
}

/// The stable code of a configuration that cannot be used.
fn code(error: &anyhow::Error) -> Option<&'static str> {
    let settings = error.downcast_ref().map(SettingsError::code);
    settings.or_else(|| error.downcast_ref().map(OpenError::code))
}
