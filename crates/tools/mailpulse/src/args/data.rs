//! The arguments of the commands that change or read stored data as a whole.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Print the statements and run none. They are what would run: in a new database, `events` is divided by the month
    /// of received_at, unlike in the file.
    #[arg(long)]
    pub(crate) print: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Erase {
    /// The address. Repeat it to erase several recipients at once.
    #[arg(long = "recipient", value_name = "ADDRESS", required_unless_present = "reapply")]
    pub(crate) recipients: Vec<String>,
    /// Print how many rows name the recipient, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Erase again everybody who was erased before, for example after a backup was restored.
    #[arg(long, conflicts_with = "recipients")]
    pub(crate) reapply: bool,
    /// How long to wait for archive, and for ClickHouse to remove old parts.
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = super::duration)]
    pub(crate) wait: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The address.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) recipient: String,
}

#[derive(Debug, Args)]
pub(crate) struct Heal {
    /// Correct the sums. Stop every archive first. Without it, they are only compared.
    #[arg(long)]
    pub(crate) repair: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Reclassify {
    /// The beginning, by the time of receipt: RFC 3339, or an age such as 2h or 3d.
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    pub(crate) from: Timestamp,
    /// The end, by the time of receipt. Without it, the present.
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    pub(crate) to: Option<Timestamp>,
    /// Only events of the source with this name.
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// Print what would change, and change nothing.
    #[arg(long)]
    pub(crate) diff: bool,
}
