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

use dead_letter_record::DeadLetterRecord;
use kafka::{ClusterSettings, Connection};
use providers::{Mappings, SplitLimits};
use record::Topics;
use route::{NotRedrivable, Route};
use serde::Deserialize;
use service::{ServiceSettings, Settings};

use crate::args::DeadLettersCommand;
use crate::{InputError, Outcome};

/// The Kafka cluster and the topics of one installation.
pub(crate) struct Installation {
    pub(crate) connection: Connection,
    pub(crate) topics: Topics,
    splitting: Splitting,
    /// The names of the tables `[[forward]]`.
    pub(crate) forwards: Vec<String>,
}

/// What the ingress uses to split a body, for bodies that are split again.
#[derive(Debug)]
struct Splitting {
    mappings: Mappings,
    limits: SplitLimits,
}

/// The key of a `[[forward]]` that its consumer group is named after.
#[derive(Deserialize)]
struct ForwardName {
    name: String,
}

/// The keys of `[ingress]` that a redrive needs.
#[derive(Deserialize)]
struct IngressLimits {
    max_events: usize,
    max_recipients: usize,
    max_published_bytes: usize,
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
        let ingress: IngressLimits = settings.section("ingress")?;
        let limits = SplitLimits {
            events: ingress.max_events,
            recipients: ingress.max_recipients,
            published_bytes: ingress.max_published_bytes,
        };
        let connection = kafka.connection("operator", false);
        let forwards: Vec<ForwardName> = settings.list("forward")?;
        let forwards = forwards.into_iter().map(|forward| forward.name).collect();
        let splitting = Splitting { mappings, limits };
        Ok(Self { connection, topics: kafka.topics(), splitting, forwards })
    }

    /// Finds where a dead letter can be redriven to.
    fn route(&self, dead_letter: &DeadLetterRecord<'_>) -> Result<Route, NotRedrivable> {
        Route::of(dead_letter, &self.topics, &self.splitting)
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
