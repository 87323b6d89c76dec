use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print one JSON object per line: `status`, `code` and `text`.
    #[arg(long)]
    pub(crate) json: bool,
}
