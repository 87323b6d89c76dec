mod alerts;
mod automation;
mod backup;
mod canary;
mod data;
mod doctor;
mod predict;
mod report;
mod rights;
mod rules;
mod send;
mod spool;
mod suppressions;
mod topics;
mod watch;
mod webhooks;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use event::{Kind, Provider};
use jiff::Timestamp;
use record::{DEAD_LETTER_REASONS, Reason, Stage};

pub(crate) use alerts::{
    AlertsCommand, Assign, Handle, Judge, Judgement, ListIncidents, PlanSend, Recompute, Snooze,
    VerifyAlerts,
};
pub(crate) use automation::{
    AutomationCommand, AutomationFormat, ReportAutomation, TestAutomation,
};
pub(crate) use backup::{Backup, Restore};
pub(crate) use canary::Canary;
pub(crate) use data::{Erase, Export, Heal, Migrate, Reclassify};
pub(crate) use doctor::Doctor;
pub(crate) use predict::Predict;
pub(crate) use report::{ReportArgs, ReportFormat};
pub(crate) use rights::{RightFormat, RightsArgs};
pub(crate) use rules::{ExplainRules, RulesCommand, TestRules};
pub(crate) use send::{Load, Send, SignWith};
pub(crate) use spool::{SpoolCommand, SpoolDrain, SpoolLs, SpoolRedrive, SpoolShow};
pub(crate) use suppressions::{
    AddSuppression, DriftSuppressions, ExportSuppressions, ImportSuppressions, LiftSuppressions,
    ListSuppressions, ProviderFile, ShowSuppression, SuppressionsCommand,
};
pub(crate) use topics::{TopicFormat, TopicsArgs};
pub(crate) use watch::{Plan, SourcesCommand, SourcesLs, Tail, Top, Trace};
pub(crate) use webhooks::{Parse, Scheme, Sign, Verify};

use crate::dead_letter_id::DeadLetterId;

/// The operator's tool of Mailpulse.
#[derive(Debug, Parser)]
#[command(name = "mailpulse", version)]
pub(crate) struct Cli {
    /// The configuration file of the services. The default is `mailpulse.toml`, if it exists;
    /// `parse` has no default.
    #[arg(long, value_name = "PATH", global = true)]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the configured sources.
    #[command(subcommand)]
    Sources(SourcesCommand),
    /// Verify the signature of a captured webhook, and explain every step and how to fix a failure.
    ///
    /// The exit status is 0 if the request is authentic, 1 if it is not, and 2 if it cannot be
    /// verified: there is no request, no valid secret, or no certificate. Nothing is downloaded.
    #[command(after_help = "Examples:\n  \
        mailpulse verify --provider mailgun --secret-file key.txt request.http\n  \
        mailpulse verify --provider mandrill --secret-file key.txt \\\n      \
        --url https://hooks.example.com/webhooks/mandrill/press --at 2026-11-21T10:00:00Z -\n  \
        mailpulse verify --provider ses --source news --config mailpulse.toml request.http")]
    Verify(Verify),
    /// Convert a body to canonical events, one JSON line per event and recipient.
    ///
    /// The lines are what enrich publishes, because they are made by its code. With --config it
    /// uses the configured databases, lookup tables, rules, name server and pseudonyms, otherwise
    /// only its built-in tables.
    ///
    /// The exit status is 0 if everything became events, 1 if something would become a dead letter
    /// (a line `{"dead_letter": …}` has the reason), and 2 if the input or the settings are
    /// invalid.
    #[command(after_help = "Examples:\n  \
        mailpulse parse --provider sendgrid body.json | jq -r '[.kind, .recipient] | @tsv'\n  \
        mailpulse parse --provider ses --received-at 2026-11-21T10:00:00Z request.http\n  \
        mailpulse dead-letters show 3/1042 --raw | \\\n      \
        mailpulse parse --provider ses --source news --config mailpulse.toml --published -")]
    Parse(Parse),
    /// Sign a request for tests, with the scheme of any provider. Prints HTTP or a curl command.
    #[command(after_help = "Examples:\n  \
        mailpulse sign --provider mailgun --secret-file key.txt event.json > request.http\n  \
        mailpulse sign --provider sendgrid --generate-key keys/ body.json > request.http\n  \
        mailpulse sign --provider resend --secret-file secret.txt --curl \\\n      \
        --url http://127.0.0.1:8080/webhooks/resend/app body.json | sh")]
    Sign(Sign),
    /// Post a signed test event to a running ingress, and follow it until it is a row in ClickHouse.
    ///
    /// Prints each step with the time since the request: the answer of the ingress, the record in mail.raw.<kind>, the
    /// record in mail.events, and the row. The event counts like a real one. By default its recipient is
    /// mailpulse-test@mailpulse.invalid; its message id begins with mailpulse-test- (Mailjet: 7777777), and its campaign
    /// is mailpulse-test.
    ///
    /// The exit status is 0 if the event is a row, 1 if it was refused, became a dead letter or is no row within --wait,
    /// and 2 if the arguments or the settings are invalid, for example if there is no secret to sign with.
    #[command(after_help = "Examples:\n  \
        mailpulse send acme\n  \
        mailpulse send mailgun/shop --kind bounced --url https://hooks.example.com --wait 1m\n  \
        mailpulse send sendgrid/acme --secret-file keys/sendgrid-private-key.pem --json")]
    Send(Send),
    /// Post signed test events to a running ingress at a rate, and measure its answers.
    ///
    /// Prints a line every second, and at the end the answers by status and code, and the latencies. The events count like
    /// real ones in rates and alerts; their recipients are mailpulse-test-0@mailpulse.invalid and so on. Do not aim it at
    /// an installation whose rates somebody is watching.
    ///
    /// The exit status is 0 if every event was accepted, 1 if one was not, and 2 if the arguments or the settings are
    /// invalid.
    #[command(after_help = "Examples:\n  \
        mailpulse load --source acme --rate 100 --duration 1m\n  \
        mailpulse load --source mailgun/shop --rate 2000 --url https://hooks.example.com --connections 512")]
    Load(Load),
    /// Follow mail.events: one line for each event, until Ctrl-C.
    ///
    /// A line has the time of the event, kind, provider/source, recipient, mailbox provider, campaign, event id, and
    /// what a bounce or a machine was found to be. Events of one recipient come in their order. Reads without a group
    /// and keeps nothing, so no service and no second tail is disturbed.
    #[command(after_help = "Examples:\n  \
        mailpulse tail --source acme --kind bounced --kind complained\n  \
        mailpulse tail --since 10m --no-follow --json | jq -r .campaign | sort | uniq -c\n  \
        mailpulse tail --recipient ada@example.com --from-beginning --addresses")]
    Tail(Tail),
    /// Print the whole way of an event with times, by the id of the event, of its request or of its message.
    ///
    /// The steps are: it occurred, the ingress received it, its raw record, enriched, passed by dedupe, the row in
    /// ClickHouse, and then what repeats it (duplicates, which dedupe drops), dead letters, suppressions and actions of
    /// rules. Each has its place and its time after the receipt. ClickHouse and the topics are asked; a note says what
    /// could not be.
    ///
    /// The exit status is 0 if every event of the id is a row, and 1 if one is not, or if nothing was found.
    #[command(after_help = "Examples:\n  \
        mailpulse trace 895b4dbac24d829aca5da856bf83ac90\n  \
        mailpulse trace 14c5d75ce93.dfd.64b469 --addresses\n  \
        mailpulse trace 01980f5c6a1b7c3d9e2f4a5b6c7d8e9f --since 7d --json | jq -r '[.step, .text] | @tsv'")]
    Trace(Trace),
    /// List, explain and redrive dead letters.
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// List, show, handle and verify incidents and alerts.
    #[command(subcommand)]
    Alerts(AlertsCommand),
    /// Compute the alerts of mail.alerts again from mail.panes, and compare them byte for byte.
    ///
    /// Reads mail.panes from the earliest record to its present end, without a group and without writing anything,
    /// with the code and the rules of monitor. Prints each alert that is not the same: `different` with both values,
    /// or `unverifiable` with the reason, for example that the records before are gone. Standard error has the
    /// numbers of equal, different and unverifiable alerts.
    ///
    /// The exit status is 1 if one is different.
    #[command(after_help = "Examples:\n  \
        mailpulse recompute\n  \
        mailpulse recompute --json | jq -r 'select(.result == \"different\") | [.scope, .seq] | @tsv'")]
    Recompute(Recompute),
    /// Print, check, explain and test the rules of alerts.
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Repair the offset of a partition that a stage holds.
    #[command(subcommand)]
    Positions(PositionsCommand),
    /// Connect to Kafka and ClickHouse as the services do, and say what works and what does not.
    ///
    /// Each line has a status (ok, note, problem), a code, and a sentence that says what to do. Nothing
    /// is changed. The exit status is 0 if there is no problem, 1 if there is one, and 2 if the settings
    /// are invalid.
    #[command(after_help = "Examples:\n  \
        mailpulse doctor --config mailpulse.toml\n  \
        mailpulse doctor --json | jq -r 'select(.status == \"problem\") | .code'")]
    Doctor(Doctor),
    /// Show what the installation does now: events per second, rates, lag, incidents, the state of the services.
    ///
    /// Reads mail.events, mail.rates and mail.incidents, the offsets of all groups, and the admin ports of the settings
    /// and of --member. It draws over the terminal until Ctrl-C, and changes nothing.
    #[command(after_help = "Examples:\n  \
        mailpulse top\n  \
        mailpulse top --member dedupe=10.0.0.7:9103 --member dedupe=10.0.0.8:9103\n  \
        mailpulse top --once")]
    Top(Top),
    /// Print how large an installation must be for a rate of events: partitions, members, brokers, shards, and the cost.
    ///
    /// Everything follows from the figures of docs/benchmarks.md and archive.batch_wait of the settings; docs/scaling.md
    /// says what breaks first. Nothing is connected.
    #[command(after_help = "Examples:\n  \
        mailpulse plan --events-per-second 1000\n  \
        mailpulse plan --events-per-second 100000 --events-per-request 20 --json | jq .cost")]
    Plan(Plan),
    /// Print how the topics must be created, for those who create them with tools of their own.
    ///
    /// The names, partitions, replication and settings are those with which services create missing topics if
    /// topics.create is set. Nothing is connected. `doctor` says how existing topics differ.
    #[command(after_help = "Examples:\n  \
        mailpulse topics\n  \
        mailpulse topics --format kafka-topics | KAFKA=kafka-1.example.com:9092 sh -e\n  \
        mailpulse topics --format strimzi --strimzi-cluster events > topics.yaml\n  \
        mailpulse topics --format terraform > topics.tf")]
    Topics(TopicsArgs),
    /// Send a test event at intervals, from outside, and wait until it is a row.
    ///
    /// Run it on another host, so that the events pass DNS, TLS and the load balancer. /metrics has the time of the last
    /// success and of each step; the rules of deploy/prometheus/rules.yml watch it. Test events have the recipient
    /// domain mailpulse.invalid, so analysts can leave them out.
    #[command(after_help = "Example:\n  \
        mailpulse canary sendgrid/acme --url https://hooks.example.com --secret-file key.pem \\\n      \
        --heartbeat env:DEAD_MAN_URL")]
    Canary(Canary),
    /// Write what nothing else can bring back to a file: who was erased, who must not be mailed, and the segments.
    ///
    /// These are the topics mail.erased, mail.suppressions and mail.segments. Services may run. ClickHouse has tools of its
    /// own; docs/operations.md says how the two go together.
    #[command(after_help = "Example:\n  \
        mailpulse backup mailpulse-backup.jsonl")]
    Backup(Backup),
    /// Write the records of a backup whose keys the topics do not have.
    ///
    /// Only for new topics, before the services start: a topic that was not lost may have removed a key on purpose. The topics
    /// must exist with as many partitions as before. A key that a topic has is left alone, so an interrupted restore can be
    /// repeated. Nothing of a damaged file is written.
    #[command(after_help = "Examples:\n  \
        mailpulse restore mailpulse-backup.jsonl --dry-run\n  \
        mailpulse restore mailpulse-backup.jsonl")]
    Restore(Restore),
    /// Print what each service may do in Kafka: the entries of access control lists that they need.
    ///
    /// The names follow from kafka.prefix. Nothing is connected.
    #[command(after_help = "Examples:\n  \
        mailpulse rights\n  \
        mailpulse rights --format kafka-acls | KAFKA=kafka-1.example.com:9092 sh -e\n  \
        mailpulse rights --principal mailpulse-{service} --format strimzi > users.yaml")]
    Rights(RightsArgs),
    /// Create and change the tables of ClickHouse, and set how long rows are kept.
    ///
    /// Applies the files of schemas/clickhouse that have not been applied, and [archive.retention] as TTL. `archive` does
    /// the same at start if archive.migrate is set.
    #[command(after_help = "Examples:\n  \
        mailpulse migrate --print\n  \
        mailpulse migrate --config mailpulse.toml")]
    Migrate(Migrate),
    /// Erase recipients from everything that is stored, and prove it.
    ///
    /// Writes a tombstone for each to mail.erased, waits for archive, overwrites the address in ClickHouse, looks for what
    /// is left in every part, and writes a row to the table audit. Standard output has the number of changed rows by
    /// table. The exit status is 1 if something is left, which standard error tells; the command can be repeated.
    #[command(after_help = "Examples:\n  \
        mailpulse erase --recipient ada@example.com --dry-run\n  \
        mailpulse erase --recipient ada@example.com\n  \
        mailpulse erase --reapply")]
    Erase(Erase),
    /// Write everything that is stored about a recipient as JSON lines.
    #[command(after_help = "Example:\n  \
        mailpulse export --recipient ada@example.com > ada.jsonl")]
    Export(Export),
    /// Compare the sums by time with the events, and correct them.
    ///
    /// The exit status is 1 if sums differ (with --repair: still differ).
    #[command(after_help = "Examples:\n  \
        mailpulse heal\n  \
        mailpulse heal --repair")]
    Heal(Heal),
    /// Classify stored events again from the provider's bytes, and correct rows, sums and lives of messages.
    ///
    /// For a fix of a parser, of a table or of a lookup: bounces, machines and signals are recomputed with the code of
    /// `enrich`, and messages are counted again by the rules of `dedupe`. Events whose bytes have expired stay as they
    /// are. Without --diff, stop every archive first. The exit status is 1 if something could not be corrected.
    #[command(after_help = "Examples:\n  \
        mailpulse reclassify --from 7d --diff\n  \
        mailpulse reclassify --from 2026-11-01T00:00:00Z --to 2026-11-08T00:00:00Z --source acme")]
    Reclassify(Reclassify),
    /// List, show and redrive what an ingress has in its spool.
    ///
    /// The spool is a directory on the disk of one ingress, so run the command there, as the user of
    /// the ingress.
    #[command(subcommand)]
    Spool(SpoolCommand),
    /// Check and test the rules of automate.
    #[command(subcommand)]
    Automation(AutomationCommand),
    /// List, show, add, lift, import, export and compare who must not be mailed.
    #[command(subcommand)]
    Suppressions(SuppressionsCommand),
    /// Report what happened on some days: totals, rates, incidents, and what stands out.
    ///
    /// The numbers come from ClickHouse. The report is a page for the terminal, one JSON object, or one HTML page
    /// with charts that needs no other file and no network.
    #[command(after_help = "Examples:\n  \
        mailpulse report --from 2026-11-21\n  \
        mailpulse report --from 2026-11-01 --to 2026-11-30 --zone Europe/Berlin --format html > november.html\n  \
        mailpulse report --from 2026-11-21 --source acme --format json | jq .totals")]
    Report(ReportArgs),
    /// Predict the next engagement and the best time of every recipient, and score earlier predictions.
    ///
    /// Reads message_life and events, and writes the tables fits, engagement_histories, odds, best_times and scores, which
    /// the view `predictions` reads. Run it every night. Prints for each source which models were fitted, or why nothing
    /// is known, and how good the predictions of 30 days ago were. The exit status is 1 if a source failed.
    #[command(after_help = "Examples:\n  \
        mailpulse predict\n  \
        mailpulse predict --every 24h\n  \
        mailpulse predict --source acme --at 2026-11-01T00:00:00Z --print")]
    Predict(Predict),
    /// Print shell completions.
    #[command(after_help = "Example:\n  mailpulse completions bash > mailpulse.bash")]
    Completions { shell: Shell },
    /// Print the man page of the tool or of a command, or write all of them into a directory.
    #[command(after_help = "Examples:\n  \
        mailpulse man dead-letters redrive > mailpulse-dead-letters-redrive.1\n  \
        mailpulse man --directory man1")]
    Man {
        /// The command, such as `dead-letters redrive`. Without it, the page of the tool.
        #[arg(value_name = "COMMAND")]
        command: Vec<String>,
        /// Write the pages of all commands into this directory, which must exist.
        #[arg(long, value_name = "DIRECTORY", conflicts_with = "command")]
        directory: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PositionsCommand {
    /// List the committed offset and the position of every partition, and which of them are held.
    ///
    /// The exit status is 1 if a partition is held. `archive` has no positions: it compares its offsets
    /// with its tables.
    #[command(after_help = "Example:\n  \
        mailpulse positions ls --stage dedupe")]
    Ls(ListPositions),
    /// Make a stage continue at an offset. Stop all instances of the stage first.
    ///
    /// Commits the offset, and writes it to `mail.positions` with the id of the topic, in one
    /// transaction. Records before the offset are not read, and records from it on are read again.
    #[command(after_help = "Examples:\n  \
        mailpulse positions accept dedupe --all-held\n  \
        mailpulse positions accept enrich mail.raw.bounced/3 --offset 10427")]
    Accept(Accept),
}

#[derive(Debug, Args)]
pub(crate) struct ListPositions {
    /// List this stage only: enrich, dedupe, monitor-fold, monitor-rate, monitor-incidents, notify, suppress,
    /// automate-match, automate-limit, automate-deliver or forward.
    #[arg(long, value_parser = stages())]
    pub(crate) stage: Option<Stage>,
}

#[derive(Debug, Args)]
pub(crate) struct Accept {
    /// The stage: enrich, dedupe, monitor-fold, monitor-rate, monitor-incidents, archive, notify, suppress,
    /// automate-match, automate-limit, automate-deliver or forward.
    #[arg(value_parser = stages())]
    pub(crate) stage: Stage,
    /// The partition, as the log names it: topic/partition.
    #[arg(
        value_name = "TOPIC/PARTITION",
        requires = "offset",
        required_unless_present = "all_held"
    )]
    pub(crate) partition: Option<String>,
    /// The offset of the record to read next.
    #[arg(long, requires = "partition")]
    pub(crate) offset: Option<i64>,
    /// Of the stage forward: only the [[forward]] of this name. Without it, --all-held is about all of them.
    #[arg(long, value_name = "NAME")]
    pub(crate) forward: Option<String>,
    /// Accept the offset that `positions ls` shows as `continue at`, for every partition that is held.
    /// Not for archive.
    #[arg(long, conflicts_with = "partition")]
    pub(crate) all_held: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// List dead letters: id, time (UTC), reason, stage, provider/source, key, bytes, origin,
    /// detail.
    #[command(after_help = "Examples:\n  \
        mailpulse dead-letters ls --stage enrich --since 2h\n  \
        mailpulse dead-letters ls --provider postmark --json | jq -r .detail | sort | uniq -c")]
    Ls(Ls),
    /// Show one dead letter: its meaning, the fix, its headers and bytes.
    #[command(after_help = "Examples:\n  \
        mailpulse dead-letters show 3/1042\n  \
        mailpulse dead-letters show 3/1042 --raw > crates/libraries/providers/src/postmark/fixtures/new.json")]
    Show(Show),
    /// Send dead letters back to the stage that gave up on them, each at most once.
    ///
    /// Request bodies that the ingress could not split are split again. Records of enrich, dedupe,
    /// monitor-incidents, archive and notify go back to their topic, where only that stage processes them. Dead letters that
    /// cannot be redriven are reported, and the exit status is 1. The command can be interrupted
    /// and repeated at any time.
    #[command(after_help = "Examples:\n  \
        mailpulse dead-letters redrive --stage enrich --reason wrong_shape --dry-run\n  \
        mailpulse dead-letters redrive --stage enrich --reason wrong_shape --yes\n  \
        mailpulse dead-letters redrive 3/1042 3/1043")]
    Redrive(Redrive),
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    pub(crate) filters: Filters,
    /// Include redriven dead letters and copies.
    #[arg(long)]
    pub(crate) all: bool,
    /// Print one JSON object per line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The id that `ls` prints: partition/offset.
    pub(crate) id: DeadLetterId,
    /// Print only the bytes of the value.
    #[arg(long)]
    pub(crate) raw: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Redrive {
    /// The ids that `ls` prints: partition/offset. Alternatively give filters.
    #[arg(value_name = "ID", conflicts_with = "Filters", required_unless_present = "Filters")]
    pub(crate) ids: Vec<DeadLetterId>,
    #[command(flatten)]
    pub(crate) filters: Filters,
    /// Only print what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Selects the dead letters that match every given filter, and any value of a repeated one.
#[derive(Debug, Clone, Default, Args)]
#[group(id = "Filters", multiple = true)]
pub(crate) struct Filters {
    /// The reason code; repeatable.
    #[arg(long = "reason", value_name = "CODE", value_parser = reasons())]
    pub(crate) reasons: Vec<Reason>,
    /// The provider; repeatable.
    #[arg(long = "provider", value_name = "PROVIDER", value_parser = providers())]
    pub(crate) providers: Vec<Provider>,
    /// The configured source; repeatable.
    #[arg(long = "source", value_name = "NAME")]
    pub(crate) sources: Vec<String>,
    /// The stage that gave up on the record; repeatable.
    #[arg(long = "stage", value_name = "STAGE", value_parser = stages())]
    pub(crate) stages: Vec<Stage>,
    /// Written at this time or later: RFC 3339, or an age such as 2h or 3d.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) since: Option<Timestamp>,
    /// Written before this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) until: Option<Timestamp>,
}

/// The codes of dead letters. Markers are excluded.
fn reasons() -> impl TypedValueParser<Value = Reason> {
    let reasons = DEAD_LETTER_REASONS.iter().filter(|reason| **reason != Reason::Redriven);
    let codes = PossibleValuesParser::new(reasons.map(|reason| reason.code()));
    codes.try_map(|code| Reason::from_code(&code).ok_or("not a reason"))
}

fn stages() -> impl TypedValueParser<Value = Stage> {
    let stages = Stage::ALL.into_iter().filter(|stage| *stage != Stage::Redrive);
    let codes = PossibleValuesParser::new(stages.map(Stage::code));
    codes.try_map(|code| Stage::from_code(&code).ok_or("not a stage"))
}

/// Accepts the names and aliases of providers.
fn providers() -> impl TypedValueParser<Value = Provider> {
    let value = |provider: Provider| {
        PossibleValue::new(provider.as_str()).aliases(provider.aliases().iter().copied())
    };
    PossibleValuesParser::new(Provider::ALL.map(value)).try_map(|name| name.parse())
}

fn kinds() -> impl TypedValueParser<Value = Kind> {
    PossibleValuesParser::new(Kind::ALL.map(Kind::as_str)).try_map(|name| name.parse::<Kind>())
}

fn duration(text: &str) -> Result<Duration, String> {
    service::units::parse_duration(text).map_err(|error| error.to_string())
}

fn time(text: &str) -> Result<Timestamp, String> {
    time_before(text, crate::now())
}

/// Parses `2026-11-21T10:00:00Z`, or an age such as `2h` relative to `now`.
fn time_before(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    const FORMS: &str = "write a time such as 2026-11-21T10:00:00Z, or an age such as 2h or 3d";
    match service::units::parse_duration(text) {
        Ok(age) => now.checked_sub(age).map_err(|_| format!("the age is too large; {FORMS}")),
        Err(_) => text.parse().map_err(|_| FORMS.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    /// Returns the commands below one that have none below them, with their words.
    fn leaves<'c>(
        command: &'c clap::Command,
        words: &[&'c str],
    ) -> Vec<(Vec<&'c str>, &'c clap::Command)> {
        if !command.has_subcommands() {
            return vec![(words.to_vec(), command)];
        }
        let inner = command.get_subcommands();
        inner.flat_map(|inner| leaves(inner, &[words, &[inner.get_name()]].concat())).collect()
    }

    /// Splits a line as a shell does. The examples have no other quotes than these.
    fn words(line: &str) -> Vec<String> {
        let quoted = line.split('\'').enumerate();
        let mut words = vec![String::new()];
        for (number, part) in quoted {
            let mut pieces =
                if number % 2 == 1 { vec![part] } else { part.split(' ').collect::<Vec<_>>() };
            let first = pieces.remove(0);
            words.last_mut().unwrap().push_str(first);
            words.extend(pieces.into_iter().map(str::to_owned));
        }
        words.retain(|word| !word.is_empty());
        words
    }

    /// Those that need no server are also run: tests/examples.rs.
    #[test]
    fn every_command_has_examples_that_it_accepts() {
        use clap::CommandFactory;
        let tool = Cli::command();
        let commands = leaves(&tool, &[]);
        assert!(commands.len() > 40, "{}", commands.len());
        for (names, command) in commands {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let begin = help.lines().next().unwrap_or_default();
            assert!(matches!(begin, "Example:" | "Examples:"), "{names:?} has no example");
            let text: String =
                help.lines().skip(1).collect::<Vec<_>>().join("\n").replace("\\\n", "");
            let mut own = 0;
            for segment in text.lines().flat_map(|line| line.split(" | ")) {
                let segment = segment.split(" > ").next().unwrap().split(" # ").next().unwrap();
                let words = words(segment.trim());
                if words.first().is_none_or(|first| first != "mailpulse") {
                    continue;
                }
                let parsed = Cli::try_parse_from(&words);
                assert!(parsed.is_ok(), "{names:?}: {words:?}: {}", parsed.unwrap_err());
                own +=
                    usize::from(words[1..].starts_with(
                        &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(),
                    ));
            }
            assert!(own > 0, "no example of {names:?} uses it: {help}");
        }
    }

    #[test]
    fn times_are_absolute_or_ages() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let of = |text| time_before(text, now).map(|time| time.to_string());
        assert_eq!(of("2h").unwrap(), "2026-11-21T10:00:00Z");
        assert_eq!(of("3d").unwrap(), "2026-11-18T12:00:00Z");
        assert_eq!(of("2026-11-21T10:00:00+02:00").unwrap(), "2026-11-21T08:00:00Z");
        for text in ["yesterday", "2026-11-21", "5", "99999999999d"] {
            assert!(of(text).unwrap_err().contains("2h or 3d"), "{text}");
        }
    }

    #[test]
    fn redrive_needs_either_ids_or_filters() {
        let redrive = |rest: &[&str]| {
            let line = ["mailpulse", "dead-letters", "redrive"].iter().chain(rest);
            Cli::try_parse_from(line).map_err(|error| error.kind())
        };
        use clap::error::ErrorKind;
        assert!(redrive(&["0/1", "2/3"]).is_ok());
        assert!(redrive(&["--stage", "enrich", "--reason", "not_json", "--since", "2h"]).is_ok());
        assert_eq!(redrive(&[]).unwrap_err(), ErrorKind::MissingRequiredArgument);
        assert_eq!(redrive(&["--yes"]).unwrap_err(), ErrorKind::MissingRequiredArgument);
        let both = redrive(&["0/1", "--stage", "enrich"]);
        assert_eq!(both.unwrap_err(), ErrorKind::ArgumentConflict);
        assert_eq!(redrive(&["one"]).unwrap_err(), ErrorKind::ValueValidation);
        assert_eq!(redrive(&["--stage", "redrive"]).unwrap_err(), ErrorKind::InvalidValue);
    }
}
