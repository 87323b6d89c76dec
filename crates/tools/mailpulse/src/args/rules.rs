use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;

#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// Print the rules and overrides in force as TOML: those of the settings, or the default rules if the settings
    /// have none.
    ///
    /// The output can be a settings file's [[monitor.rule]] and [[monitor.override]].
    #[command(after_help = "Example:\n  mailpulse rules ls > rules.toml")]
    Ls,
    /// Check the rules and overrides of a file, without starting anything.
    ///
    /// The file is a settings file, or what `rules ls` prints. The exit status is 2 if a rule is invalid.
    #[command(after_help = "Example:\n  mailpulse rules check rules.toml")]
    Check(CheckRules),
    /// Explain which rules judge a scope, and where each of their values comes from.
    #[command(after_help = "Examples:\n  \
        mailpulse rules explain --scope campaign/sendgrid/acme/spring%20sale\n  \
        mailpulse rules explain --scope source/ses/acme --tenant acme")]
    Explain(ExplainRules),
    /// Judge the rules of a file by the stored events of a time, and print what would have fired.
    ///
    /// The counts come from ClickHouse in steps of ten seconds, and the code of `monitor` judges them as if every
    /// event had arrived at once. Rules that need a history (silence, missing deliveries, bursts and spam
    /// folders) are left out. Nothing is published.
    ///
    /// With --plot, the rate, the bound that decides, the thresholds and the episodes of each rule and scope that
    /// fired are drawn over time, at most eight of them; --rule and --scope choose others.
    #[command(after_help = "Examples:\n  \
        mailpulse rules test new.toml --from 7d --to 1h --source acme\n  \
        mailpulse rules test new.toml --from 1d --plot\n  \
        mailpulse rules test new.toml --from 1d --rule hard_bounces --scope source/ses/acme --plot acme.svg")]
    Test(TestRules),
}

#[derive(Debug, Args)]
pub(crate) struct CheckRules {
    /// The file.
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainRules {
    /// The key of the scope, as in alerts and logs: source/sendgrid/acme, mailbox/sendgrid/acme/gmail,
    /// campaign/sendgrid/acme/spring%20sale.
    #[arg(long, value_name = "KEY")]
    pub(crate) scope: String,
    /// The tenant of the scope's mail, for rules and overrides that match one.
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TestRules {
    /// The file: a settings file, or what `rules ls` prints.
    pub(crate) file: PathBuf,
    /// The beginning: RFC 3339, or an age such as 2h or 3d.
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    pub(crate) from: Timestamp,
    /// The end: RFC 3339, or an age such as 2h or 3d. Without it, the present.
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    pub(crate) to: Option<Timestamp>,
    /// Only scopes of the source with this name. Scopes of tenants are left out then.
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// Only rules whose name contains this text.
    #[arg(long, value_name = "TEXT")]
    pub(crate) rule: Option<String>,
    /// Only the scope with this key, as in alerts and logs: source/sendgrid/acme.
    #[arg(long, value_name = "KEY")]
    pub(crate) scope: Option<String>,
    /// Also plot in the terminal, and into an SVG file if one is named.
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub(crate) plot: Option<Option<PathBuf>>,
}
