//! `mailpulse`: the operator's tool.
//!
//! `mailpulse send` posts a test event and follows it, and `mailpulse load` posts many. `mailpulse tail`, `mailpulse trace`
//! and `mailpulse top` show what passes, and `mailpulse sources` what is configured. `mailpulse plan` computes how large an
//! installation must be.
//! `mailpulse verify` verifies the signature of a captured webhook, `mailpulse parse` converts it
//! to canonical events, and `mailpulse sign` makes a signed request. `mailpulse dead-letters`
//! lists, explains and redrives dead letters, and `mailpulse spool` does the same with what an
//! ingress has in its spool. `mailpulse positions` repairs the offset of a partition that is held.
//! `mailpulse alerts` lists, handles and verifies incidents, `mailpulse recompute` computes alerts again, and
//! `mailpulse rules` explains and tests rules.
//! `mailpulse report` reports what happened on some days, and `mailpulse predict` predicts what recipients will do.
//! `mailpulse doctor` connects to Kafka and ClickHouse. `mailpulse topics` prints how the topics must be created.
//! `mailpulse migrate` creates tables and sets how long rows are
//! kept, `mailpulse erase` and `mailpulse export` remove and read what is stored about a recipient, and `mailpulse heal`
//! and `mailpulse reclassify` correct sums and classifications. `mailpulse suppressions` shows and changes who must not be
//! mailed. Results go to standard output, counts and
//! errors to standard error.
//!
//! Exit status: 0 if everything succeeded (`verify`: authentic), 1 if something failed (not
//! authentic), 2 if the arguments, the input or the settings are invalid.

mod alerts;
mod args;
mod audit;
mod automation;
mod backup;
mod canary;
mod configured;
mod database;
mod dead_letter_id;
mod dead_letters;
mod doctor;
mod erase;
mod export;
mod heal;
mod history;
mod input;
mod installation;
mod interrupt;
mod load;
mod man;
mod migrate;
mod parse;
mod plan;
mod positions;
mod post;
mod predict;
mod reclassify;
mod recompute;
mod report;
mod request;
mod rights;
mod rules;
mod send;
mod sign;
mod source;
mod sources;
mod spool;
mod suppressions;
mod tail;
mod text;
mod top;
mod topics;
mod trace;
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
        Command::Send(args) => send::run(cli.config.as_deref(), &args),
        Command::Sources(command) => sources::run(cli.config.as_deref(), &command),
        Command::Load(args) => load::run(cli.config.as_deref(), &args),
        Command::Tail(args) => tail::run(cli.config.as_deref(), &args),
        Command::Trace(args) => trace::run(cli.config.as_deref(), &args),
        Command::Spool(command) => spool::run(cli.config.as_deref(), command),
        Command::DeadLetters(command) => dead_letters::run(cli.config.as_deref(), command),
        Command::Alerts(command) => alerts::run(cli.config.as_deref(), &command),
        Command::Rules(command) => rules::run(cli.config.as_deref(), &command),
        Command::Automation(command) => automation::run(cli.config.as_deref(), &command),
        Command::Recompute(args) => recompute::run(cli.config.as_deref(), &args),
        Command::Positions(command) => positions::run(cli.config.as_deref(), &command),
        Command::Migrate(args) => migrate::run(cli.config.as_deref(), &args),
        Command::Erase(args) => erase::run(cli.config.as_deref(), &args),
        Command::Export(args) => export::run(cli.config.as_deref(), &args),
        Command::Reclassify(args) => reclassify::run(cli.config.as_deref(), &args),
        Command::Heal(args) => heal::run(cli.config.as_deref(), &args),
        Command::Suppressions(command) => suppressions::run(cli.config.as_deref(), &command),
        Command::Predict(args) => predict::run(cli.config.as_deref(), &args),
        Command::Report(args) => report::run(cli.config.as_deref(), &args),
        Command::Top(args) => top::run(cli.config.as_deref(), &args),
        Command::Plan(args) => plan::run(cli.config.as_deref(), &args),
        Command::Topics(args) => topics::run(cli.config.as_deref(), &args),
        Command::Canary(args) => canary::run(cli.config.as_deref(), &args),
        Command::Backup(args) => backup::backup(cli.config.as_deref(), &args),
        Command::Restore(args) => backup::restore(cli.config.as_deref(), &args),
        Command::Rights(args) => rights::run(cli.config.as_deref(), &args),
        Command::Doctor(args) => doctor::run(cli.config.as_deref(), &args),
        Command::Completions { shell } => completions(shell),
        Command::Man { command, directory } => man::run(&command, directory.as_deref()),
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
