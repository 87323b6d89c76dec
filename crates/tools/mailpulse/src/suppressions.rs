//! `mailpulse suppressions`: who must not be mailed, and why.

mod change;
mod list;
mod stored;
mod transfer;

use std::path::Path;

use privacy::ErasureKey;
use suppression::{RecipientDigest, RecipientKey};

use crate::args::SuppressionsCommand;
use crate::installation::Installation;
use crate::{InputError, Outcome};

/// Runs a subcommand.
///
/// # Errors
/// If the arguments, a file or the settings are invalid, or Kafka or ClickHouse cannot be reached.
pub(crate) fn run(config: Option<&Path>, command: &SuppressionsCommand) -> anyhow::Result<Outcome> {
    let installation = Installation::open(config)?;
    let keys = Keys::read(&installation)?;
    match command {
        SuppressionsCommand::Ls(args) => list::ls(&installation, args),
        SuppressionsCommand::Show(args) => list::show(&installation, &keys, args),
        SuppressionsCommand::Add(args) => change::add(&installation, &keys, args),
        SuppressionsCommand::Lift(args) => change::lift(&installation, &keys, args),
        SuppressionsCommand::Import(args) => transfer::import(&installation, &keys, args),
        SuppressionsCommand::Export(args) => transfer::export(&installation, &keys, args),
        SuppressionsCommand::Drift(args) => transfer::drift(&installation, &keys, args),
    }
}

/// The keys by which recipients are named.
struct Keys {
    erasure: ErasureKey,
    recipients: RecipientKey,
}

impl Keys {
    fn read(installation: &Installation) -> anyhow::Result<Self> {
        let erasure = installation.erasure_key()?;
        let recipients = RecipientKey::new(erasure.clone(), installation.pseudonymizer()?);
        Ok(Self { erasure, recipients })
    }

    fn digest(&self, address: &str) -> anyhow::Result<RecipientDigest> {
        self.recipients.of_address(address).ok_or_else(|| {
            InputError(format!("`{address}` is not an address; write it as ada@example.com")).into()
        })
    }
}
