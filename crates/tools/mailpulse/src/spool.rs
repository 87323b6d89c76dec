//! `mailpulse spool`.
//!
//! A spool is a directory of segments, each with the entries of requests that an ingress has accepted
//! and not published. What the ingress could not read is in quarantine: a damaged part of a segment, or
//! an entry whose headers this release does not understand.

mod drain;
mod item;
mod ls;
mod redrive;
mod show;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use service::{Secret, ServiceSettings, Settings};
use spool::SpoolKeys;

use crate::args::SpoolCommand;
use crate::{InputError, Outcome};

/// The position of an entry or of an item in quarantine, written as `segment/offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SpoolId {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

impl fmt::Display for SpoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad` applies the width of a format string.
        f.pad(&format!("{}/{}", self.segment, self.offset))
    }
}

/// The text is not the id of an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write the id as `ls` does: segment/offset, such as 12/345")]
pub(crate) struct InvalidSpoolId;

impl FromStr for SpoolId {
    type Err = InvalidSpoolId;

    fn from_str(text: &str) -> Result<Self, InvalidSpoolId> {
        let (segment, offset) = text.split_once('/').ok_or(InvalidSpoolId)?;
        let segment = segment.parse().map_err(|_| InvalidSpoolId)?;
        let offset = offset.parse().map_err(|_| InvalidSpoolId)?;
        Ok(Self { segment, offset })
    }
}

/// The only keys of `[ingress]` that the command needs.
#[derive(Deserialize)]
struct IngressSpool {
    spool_directory: PathBuf,
    spool_keys: Vec<Secret>,
}

/// Runs a subcommand.
///
/// # Errors
/// If the settings are invalid, or a file cannot be read or written.
pub(crate) fn run(config: Option<&Path>, command: SpoolCommand) -> anyhow::Result<Outcome> {
    let settings = Settings::discover(config)?;
    let service: ServiceSettings = settings.section("service")?;
    service::init_log(&service).map_err(|error| InputError(format!("{error:#}")))?;
    let directory = match &command {
        SpoolCommand::Ls(args) => &args.directory,
        SpoolCommand::Show(args) => &args.directory,
        SpoolCommand::Redrive(args) => &args.directory,
        SpoolCommand::Drain(args) => &args.directory,
    };
    let ingress: IngressSpool = settings.section("ingress")?;
    let keys = SpoolKeys::new(ingress.spool_keys.iter().map(Secret::expose))
        .map_err(|error| settings.invalid("ingress.spool_keys", error.to_string()))?;
    let directory = directory.path.clone().unwrap_or(ingress.spool_directory);
    if !directory.is_dir() {
        let directory = directory.display();
        let text = format!(
            "there is no spool in {directory}; give --directory, or --config with the ingress's settings"
        );
        return Err(InputError(text).into());
    }
    match command {
        SpoolCommand::Ls(args) => ls::run(&directory, &keys, &args),
        SpoolCommand::Show(args) => show::run(&directory, &keys, &args),
        SpoolCommand::Redrive(args) => redrive::run(&directory, keys, &args),
        SpoolCommand::Drain(args) => drain::run(&directory, &args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip() {
        let id = SpoolId { segment: 12, offset: 345 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "12", "12/", "/345", "-1/2", "1/2/3", "a/b"] {
            assert_eq!(text.parse::<SpoolId>(), Err(InvalidSpoolId), "{text}");
        }
    }
}
