use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The file, which must not exist. Only its owner may read it, because it can contain addresses.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The file that `backup` wrote.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Check the file, print how many records would be restored, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
