//! `mailpulse alerts`: lists, shows, handles and verifies incidents and the alerts of their episodes.

mod complete;
mod find;
mod handle;
mod ls;
mod show;
mod verify;

use std::path::Path;

use kafka::{ClusterSettings, Connection};
use record::Topics;
use service::{ServiceSettings, Settings};

use crate::args::AlertsCommand;
use crate::database::Database;
use crate::{InputError, Outcome};

pub(crate) use show::utc;

/// The servers of one installation.
struct Stack {
    settings: Settings,
    database: Database,
    connection: Connection,
    topics: Topics,
}

impl Stack {
    /// Reads the settings and starts logging. Connects to nothing yet.
    fn open(config: Option<&Path>) -> anyhow::Result<Self> {
        let settings = Settings::discover(config)?;
        let service: ServiceSettings = settings.section("service")?;
        service::init_log(&service).map_err(|error| InputError(format!("{error:#}")))?;
        settings.warn_about_old_names();
        let database = Database::open(&settings)?;
        let kafka: ClusterSettings = settings.section("kafka")?;
        let connection = kafka.connection("operator", false);
        Ok(Self { settings, database, connection, topics: kafka.topics() })
    }
}

/// Runs a subcommand.
///
/// # Errors
/// If the settings are invalid, no or more than one incident has the id, or a server cannot be reached.
pub(crate) fn run(config: Option<&Path>, command: &AlertsCommand) -> anyhow::Result<Outcome> {
    let stack = Stack::open(config)?;
    match command {
        AlertsCommand::Ls(args) => ls::run(&stack, args),
        AlertsCommand::Show(args) => show::run(&stack, &args.id),
        AlertsCommand::Verify(args) if args.complete => complete::run(&stack, args),
        AlertsCommand::Verify(args) => verify::run(&stack, args),
        _ => handle::run(&stack, command),
    }
}
