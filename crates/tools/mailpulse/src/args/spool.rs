use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::spool::SpoolId;

#[derive(Debug, Subcommand)]
pub(crate) enum SpoolCommand {
    /// List the pending segments and everything in quarantine. Changes nothing; the ingress may run.
    #[command(after_help = "Examples:\n  \
        mailpulse spool ls\n  \
        mailpulse spool ls --entries --json | jq -r .source | sort | uniq -c")]
    Ls(SpoolLs),
    /// Show one entry or item: why it is there, the fix, its headers and first bytes. Changes nothing;
    /// the ingress may run.
    #[command(after_help = "Examples:\n  \
        mailpulse spool show 12/345\n  \
        mailpulse spool show 12/345 --raw > item")]
    Show(SpoolShow),
    /// Move items from the quarantine to the end of the spool, from which the ingress publishes them.
    ///
    /// Stop the ingress first: only one process can use a spool. An item leaves the quarantine when it
    /// is durable in the spool. If the command is interrupted, repeat it; an item that was moved twice
    /// is published twice, and dedupe drops the second. Items that cannot be redriven are reported, and
    /// the exit status is 1.
    #[command(after_help = "Examples:\n  \
        mailpulse spool redrive --all --dry-run\n  \
        mailpulse spool redrive 12/345 --accept-damage")]
    Redrive(SpoolRedrive),
    /// Wait until the ingress has published every entry of its spool, before its host or its volume goes away.
    ///
    /// Changes nothing: the running ingress publishes. The exit status is 1 if entries are left when the time is over,
    /// or if something is in quarantine, which is never published by itself.
    #[command(after_help = "Examples:\n  \
        mailpulse spool drain\n  \
        mailpulse spool drain --wait 10m --directory /var/lib/mailpulse/spool")]
    Drain(SpoolDrain),
}

#[derive(Debug, Args)]
pub(crate) struct SpoolDrain {
    #[command(flatten)]
    pub(crate) directory: SpoolDirectory,
    /// How long to wait.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = service::units::parse_duration)]
    pub(crate) wait: std::time::Duration,
}

#[derive(Debug, Args)]
pub(crate) struct SpoolDirectory {
    /// The directory of the spool. The default is `ingress.spool_directory` of the configuration.
    #[arg(long = "directory", value_name = "DIRECTORY")]
    pub(crate) path: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SpoolLs {
    #[command(flatten)]
    pub(crate) directory: SpoolDirectory,
    /// List every pending entry instead of only the segments.
    #[arg(long)]
    pub(crate) entries: bool,
    /// Print one JSON object per line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SpoolShow {
    #[command(flatten)]
    pub(crate) directory: SpoolDirectory,
    /// The id that `ls` prints: segment/offset.
    pub(crate) id: SpoolId,
    /// Print only the bytes: the body of an entry, or everything if its headers cannot be read.
    #[arg(long)]
    pub(crate) raw: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SpoolRedrive {
    #[command(flatten)]
    pub(crate) directory: SpoolDirectory,
    /// The ids of items in quarantine that `ls` prints: segment/offset.
    #[arg(value_name = "ID", conflicts_with = "all", required_unless_present = "all")]
    pub(crate) ids: Vec<SpoolId>,
    /// Everything in quarantine.
    #[arg(long)]
    pub(crate) all: bool,
    /// Also redrive items whose bytes the disk has changed. Look at them first with `show`.
    #[arg(long)]
    pub(crate) accept_damage: bool,
    /// Only print what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
