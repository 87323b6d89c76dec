//! `mailpulse dead-letters`.
//!
//! A letter is a record of `mail.dead-letters`: the original key, bytes and headers, and behind
//! them who gave up on it, why, and where it came from. A letter that was redriven stays where it
//! is; a *marker* behind it on its partition says so, written in the transaction that sent it back.

mod book;
mod explain;
mod letter;
mod ls;
mod redrive;
mod route;
mod show;

use std::path::Path;

use record::Topics;
use service::{ServiceSettings, Settings};
use kafka::{ClusterSettings, Connection};

use crate::args::Verb;
use crate::{Outcome, Unusable};

/// The installation the letters belong to.
struct Site {
    connection: Connection,
    topics: Topics,
}

impl Site {
    /// Reads the settings and starts the log.
    fn read(config: Option<&Path>) -> anyhow::Result<Self> {
        let settings = Settings::discover(config)?;
        let service: ServiceSettings = settings.section("service")?;
        service::init_log(&service).map_err(|error| Unusable(format!("{error:#}")))?;
        let kafka: ClusterSettings = settings.section("kafka")?;
        Ok(Self { connection: kafka.connect("operator", false), topics: kafka.topics() })
    }
}

/// Carries a verb out.
///
/// # Errors
/// When the settings cannot be used, or Kafka cannot be read or written.
pub(crate) fn run(config: Option<&Path>, verb: Verb) -> anyhow::Result<Outcome> {
    let site = Site::read(config)?;
    match verb {
        Verb::Ls(how) => ls::run(&site, &how),
        Verb::Show(what) => show::run(&site, &what),
        Verb::Redrive(what) => redrive::run(&site, &what),
    }
}
