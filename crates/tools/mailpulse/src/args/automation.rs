use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

#[derive(Debug, Subcommand)]
pub(crate) enum AutomationCommand {
    /// Check the rules and templates of a file, without starting anything.
    ///
    /// The file is a settings file, or one with only [[automation.rule]] and [[automation.template]]. Secrets are not
    /// read. The exit status is 2 if a rule is invalid; the error names the rule, the field and a code.
    #[command(after_help = "Example:\n  mailpulse automation check new.toml")]
    Check(CheckAutomation),
    /// Show what the rules of a file would have done with the stored events of a time.
    ///
    /// The events come from ClickHouse, in the order of their receipt, and the code of `automate` decides. Events
    /// before --from are read as far as cooldowns, patterns and scores reach, at most 90 days. Segments begin without
    /// members, and no rate of a campaign is known. Rules that start from incidents get the changes of the table incidents.
    /// Nothing is published and nothing is delivered.
    ///
    /// Each line is one action, or one refusal by a limit: time, rule, index, type, recipient and event, or the group and
    /// the id of the incident.
    #[command(after_help = "Examples:\n  \
        mailpulse automation test new.toml --from 7d\n  \
        mailpulse automation test new.toml --from 7d --to 1d --rule vip-clicked | cut -f4 | sort | uniq -c")]
    Test(TestAutomation),
    /// Show how often each rule has acted, for how many recipients, and how long the decisions took.
    ///
    /// The numbers come from the table actions, which archive fills. A time counts from the receipt of the event, or from
    /// when the follow-up was due, to the decision; the delivery is not part of it. An action is counted also if its
    /// delivery has failed.
    #[command(after_help = "Examples:\n  \
        mailpulse automation report --from 30d --source sendgrid/acme\n  \
        mailpulse automation report --format json | jq -r '.rules[] | [.rule, .actions] | @tsv'")]
    Report(ReportAutomation),
}

#[derive(Debug, Args)]
pub(crate) struct CheckAutomation {
    /// The file.
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct TestAutomation {
    /// The file.
    pub(crate) file: PathBuf,
    /// The beginning: RFC 3339, or an age such as 2h or 3d.
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    pub(crate) from: Timestamp,
    /// The end: RFC 3339, or an age such as 2h or 3d. Without it, the present.
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    pub(crate) to: Option<Timestamp>,
    /// Print only the rule with this name. All rules are replayed, because they share segments.
    #[arg(long, value_name = "NAME")]
    pub(crate) rule: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReportAutomation {
    /// The beginning: RFC 3339, or an age such as 2h or 3d.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = super::time)]
    pub(crate) from: Timestamp,
    /// The end, which is not included: RFC 3339, or an age such as 2h or 3d. Without it, the present.
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    pub(crate) to: Option<Timestamp>,
    /// Only the rule with this name.
    #[arg(long, value_name = "NAME")]
    pub(crate) rule: Option<String>,
    /// Only this source, as `acme` or `sendgrid/acme`.
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// How the report is written.
    #[arg(long, value_enum, default_value_t = AutomationFormat::Text)]
    pub(crate) format: AutomationFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AutomationFormat {
    /// An aligned table, for a terminal.
    Text,
    /// One JSON object.
    Json,
}
