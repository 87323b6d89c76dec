//! `mailpulse dead-letters`.
//!
//! A dead letter is a record of `mail.dead-letters`: the original key, bytes and headers, with
//! further headers for stage, reason, detail and origin. A redriven dead letter stays in the topic.
//! The transaction that redrives it also writes a *marker* to the same partition, whose origin is
//! the dead letter.

mod dead_letter_record;
mod explain;
mod ls;
mod redrive;
mod redrive_states;
mod route;
mod show;

use std::path::Path;

use kafka::{ClusterSettings, Connection};
use providers::Mappings;
use record::Topics;
use service::{ServiceSettings, Settings};

use crate::args::DeadLettersCommand;
use crate::{InputError, Outcome};

/// The Kafka cluster and the topics of one installation.
pub(crate) struct Installation {
    pub(crate) connection: Connection,
    pub(crate) topics: Topics,
    /// Bodies are split again with the mappings of the ingress.
    pub(crate) mappings: Mappings,
}

impl Installation {
    /// Reads the settings and starts logging.
    pub(crate) fn open(config: Option<&Path>) -> anyhow::Result<Self> {
        let settings = Settings::discover(config)?;
        let service: ServiceSettings = settings.section("service")?;
        service::init_log(&service).map_err(|error| InputError(format!("{error:#}")))?;
        settings.warn_about_old_names();
        let kafka: ClusterSettings = settings.section("kafka")?;
        let mappings = Mappings::new(settings.list("source")?)?;
        let connection = kafka.connection("operator", false);
        Ok(Self { connection, topics: kafka.topics(), mappings })
    }
}

/// Runs a subcommand.
///
/// # Errors
/// If the settings are invalid, or Kafka cannot be read or written.
pub(crate) fn run(config: Option<&Path>, command: DeadLettersCommand) -> anyhow::Result<Outcome> {
    let installation = Installation::open(config)?;
    match command {
        DeadLettersCommand::Ls(args) => ls::run(&installation, &args),
        DeadLettersCommand::Show(args) => show::run(&installation, &args),
        DeadLettersCommand::Redrive(args) => redrive::run(&installation, &args),
    }
}
