use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

#[derive(Debug, Subcommand)]
pub(crate) enum AlertsCommand {
    /// List incidents, the newest first: id, severity, state, start (UTC), what it is about, its group, and the
    /// summary.
    ///
    /// ClickHouse answers, so the list is as new as what archive has stored.
    #[command(after_help = "Examples:\n  \
        mailpulse alerts ls --open\n  \
        mailpulse alerts ls --source acme --since 7d --json | jq .cause")]
    Ls(ListIncidents),
    /// Show an incident or an episode: the page as people receive it, what people have done, and every
    /// transition with its numbers.
    #[command(after_help = "Example:\n  mailpulse alerts show 6d9631a182317e6f")]
    Show(IncidentOrEpisode),
    /// Say that you have seen an incident. Nobody is reminded of it any more.
    #[command(after_help = "Example:\n  mailpulse alerts acknowledge 6d9631a1 --by ada")]
    Acknowledge(Handle),
    /// Send no notification about an incident for a time. If its severity rises, people are notified again.
    #[command(after_help = "Examples:\n  \
        mailpulse alerts snooze 6d9631a1 --by ada --for 4h\n  \
        mailpulse alerts snooze 6d9631a1 --by ada --for 0s    # ends the snooze")]
    Snooze(Snooze),
    /// Name the person who works on an incident.
    #[command(after_help = "Example:\n  mailpulse alerts assign 6d9631a1 --by ada --to bob")]
    Assign(Assign),
    /// Say whether a page was right. This is also possible after the incident is over.
    #[command(after_help = "Example:\n  mailpulse alerts judge 6d9631a1 --by ada --as false")]
    Judge(Judge),
    /// End an incident. Its episodes open another one only if their severity rises.
    #[command(after_help = "Example:\n  mailpulse alerts close 6d9631a1 --by ada")]
    Close(Handle),
    /// Announce a send of which warnings are expected. Until its end, people are notified about the source only
    /// if the severity is page.
    #[command(after_help = "Example:\n  \
        mailpulse alerts plan-send sendgrid/acme --by ada --campaign win-back --for 6h")]
    PlanSend(PlanSend),
    /// Recompute the numbers of alerts from the stored events, and compare them.
    ///
    /// Every transition names the events that it counts: the offsets in `as_of`, and the window. This command
    /// counts the same events in ClickHouse, with SQL of its own, and prints one line for each transition:
    /// `equal`, `different` with both numbers, or `unverifiable` with the reason, for example that events are no
    /// longer stored.
    ///
    /// The exit status is 1 if one is different.
    ///
    /// With --complete, it looks for alerts that are missing: it recomputes every window of a time from the events
    /// that were received before its end and a bound, and prints each time during which a rule was broken although
    /// it had no open episode. The exit status is 1 if there is one. The rules are those of the settings.
    #[command(after_help = "Examples:\n  \
        mailpulse alerts verify 6d9631a182317e6f\n  \
        mailpulse alerts verify --all --since 24h\n  \
        mailpulse alerts verify --complete --from 24h --to 10m")]
    Verify(VerifyAlerts),
}

#[derive(Debug, Args)]
pub(crate) struct ListIncidents {
    /// List only incidents that are not over.
    #[arg(long)]
    pub(crate) open: bool,
    /// List only incidents of this source: its name, or provider/name.
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// List only incidents that have changed since this time: RFC 3339, or an age such as 2h or 3d.
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    pub(crate) since: Option<Timestamp>,
    /// Print the records as JSON, one per line, in the form of schemas/incident.schema.json.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct IncidentOrEpisode {
    /// The id of an incident or episode, or the beginning of it if no other id begins so.
    pub(crate) id: String,
}

/// An incident, and who does something with it.
#[derive(Debug, Args)]
pub(crate) struct Handle {
    /// The id of the incident, or the beginning of it if no other id begins so.
    pub(crate) id: String,
    /// Your name, as it is shown to others.
    #[arg(long, value_name = "NAME")]
    pub(crate) by: String,
}

#[derive(Debug, Args)]
pub(crate) struct Snooze {
    #[command(flatten)]
    pub(crate) handle: Handle,
    /// How long, such as 4h; at most 30d. 0s ends the snooze.
    #[arg(long = "for", value_name = "DURATION", value_parser = service::units::parse_duration)]
    pub(crate) duration: std::time::Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Assign {
    #[command(flatten)]
    pub(crate) handle: Handle,
    /// Who works on it.
    #[arg(long, value_name = "NAME")]
    pub(crate) to: String,
}

#[derive(Debug, Args)]
pub(crate) struct Judge {
    #[command(flatten)]
    pub(crate) handle: Handle,
    /// Whether the page was right.
    #[arg(long = "as", value_name = "JUDGEMENT")]
    pub(crate) judgement: Judgement,
}

/// Whether a page was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Judgement {
    /// There was something to do.
    True,
    /// There was nothing to do.
    False,
    /// Another page was about the same.
    Duplicate,
}

#[derive(Debug, Args)]
pub(crate) struct PlanSend {
    /// Provider and source, such as sendgrid/acme.
    pub(crate) source: String,
    /// Your name, as it is shown to others.
    #[arg(long, value_name = "NAME")]
    pub(crate) by: String,
    /// Only incidents that this campaign causes are expected.
    #[arg(long, value_name = "NAME")]
    pub(crate) campaign: Option<String>,
    /// The beginning, RFC 3339. Without it, the send begins now.
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<Timestamp>,
    /// How long the send takes from its beginning, such as 6h; at most 30d.
    #[arg(long = "for", value_name = "DURATION", value_parser = service::units::parse_duration)]
    pub(crate) duration: std::time::Duration,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyAlerts {
    /// The id of an episode or of an incident, or the beginning of it if no other id begins so.
    #[arg(required_unless_present_any = ["all", "complete"], conflicts_with_all = ["all", "complete"])]
    pub(crate) id: Option<String>,
    /// Verify all alerts.
    #[arg(long, conflicts_with = "complete")]
    pub(crate) all: bool,
    /// With --all: only transitions since this time: RFC 3339, or an age such as 2h or 3d.
    #[arg(long, value_name = "TIME", value_parser = super::time, requires = "all")]
    pub(crate) since: Option<Timestamp>,
    /// Look for breaches without an episode.
    #[arg(long, requires = "from")]
    pub(crate) complete: bool,
    /// With --complete: the end of the first window: RFC 3339, or an age such as 2h or 3d.
    #[arg(long, value_name = "TIME", value_parser = super::time, requires = "complete")]
    pub(crate) from: Option<Timestamp>,
    /// With --complete: the end of the last window. Without it, the bound before the present.
    #[arg(long, value_name = "TIME", value_parser = super::time, requires = "complete")]
    pub(crate) to: Option<Timestamp>,
    /// With --complete: an event counts if it was received before the end of the window and this much later, and a
    /// rule must have been broken for its `hold` and this much longer.
    #[arg(long, value_name = "DURATION", value_parser = service::units::parse_duration, default_value = "1m")]
    pub(crate) bound: std::time::Duration,
    /// With --complete: only scopes of the source with this name. Scopes of tenants are left out then.
    #[arg(long, value_name = "NAME", requires = "complete")]
    pub(crate) source: Option<String>,
    /// Print one JSON object per line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Recompute {
    /// Print one JSON object per line. The values are strings, because their bytes are compared.
    #[arg(long)]
    pub(crate) json: bool,
}
