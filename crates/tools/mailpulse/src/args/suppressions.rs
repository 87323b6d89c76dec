//! The arguments of `mailpulse suppressions`.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use suppression::formats::Format;
use suppression::{Purpose, Reason};

#[derive(Debug, Subcommand)]
pub(crate) enum SuppressionsCommand {
    /// List entries: list, recipient (a digest), reason, scope, state, since, author, evidence.
    #[command(after_help = "Examples:\n  \
        mailpulse suppressions ls --reason complaint --since 7d\n  \
        mailpulse suppressions ls --list ses/news --json | jq -r .wording | sort | uniq -c")]
    Ls(ListSuppressions),
    /// Show everything that is known of one address, and whether it may be mailed.
    #[command(
        after_help = "Example:\n  mailpulse suppressions show ada@example.com --list ses/news"
    )]
    Show(ShowSuppression),
    /// Add an entry.
    #[command(after_help = "Example:\n  \
        mailpulse suppressions add ada@example.com --list ses/news --note 'asked by phone'")]
    Add(AddSuppression),
    /// Lift the entries of one address, or a batch of entries that a mailbox provider has caused by mistake.
    ///
    /// A batch lifts what events with the given evidence have suppressed: by default hard bounces. Entries that have
    /// other reasons too stay. Evidence that comes after the lift suppresses again.
    #[command(after_help = "Examples:\n  \
        mailpulse suppressions lift ada@example.com --list ses/news --reason hard_bounce\n  \
        mailpulse suppressions lift --incident 9f2c1b7e04d35a86 --dry-run\n  \
        mailpulse suppressions lift --provider gmail --since 2020-12-14T00:00:00Z \\\n      \
        --until 2020-12-16T00:00:00Z --wording 'does not exist' --dry-run")]
    Lift(LiftSuppressions),
    /// Add the entries of a list that a provider has exported.
    ///
    /// An entry has the time at which the provider added it, so that a later lift or subscription counts. The file is
    /// read as a whole before anything is written.
    #[command(after_help = "Examples:\n  \
        mailpulse suppressions import bounces.json --format mailgun --list mailgun/acme\n  \
        mailpulse suppressions import bounces.csv --format sendgrid --reason hard_bounce --list sendgrid/acme")]
    Import(ImportSuppressions),
    /// Write the suppressed addresses in the form that a provider imports.
    ///
    /// Entries have digests and no addresses. The addresses to look at come from a file, one in each line, or else from
    /// the recipients of the table `events`.
    #[command(after_help = "Examples:\n  \
        mailpulse suppressions export --format ses --list ses/news > list.csv\n  \
        mailpulse suppressions export --format mailgun --reason complaint --addresses recipients.txt")]
    Export(ExportSuppressions),
    /// Compare a provider's list with ours. The exit status is 1 if they differ.
    ///
    /// Prints `only theirs`, `lifted here` or `only ours` for each difference. Entries that only we have are named by
    /// their digests.
    #[command(after_help = "Example:\n  \
        mailpulse suppressions drift bounces.json --format mailgun --list mailgun/acme")]
    Drift(DriftSuppressions),
}

#[derive(Debug, Args)]
pub(crate) struct ListSuppressions {
    /// Only this list: provider/source, tenant/name or global.
    #[arg(long, value_name = "LIST")]
    pub(crate) list: Option<String>,
    /// Only this reason.
    #[arg(long, value_parser = reasons())]
    pub(crate) reason: Option<Reason>,
    /// Only entries whose newest evidence, addition or lift happened at this time or later: RFC 3339, or an age such as 2h.
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    pub(crate) since: Option<Timestamp>,
    /// Only before this time.
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    pub(crate) until: Option<Timestamp>,
    /// Only entries that the answer of a server of this mailbox provider has caused, such as gmail.
    #[arg(long, value_name = "NAME")]
    pub(crate) provider: Option<String>,
    /// Include what was lifted, and lifts.
    #[arg(long)]
    pub(crate) all: bool,
    /// Print one JSON object per line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowSuppression {
    /// The address.
    pub(crate) address: String,
    /// Only this list, with the global one. Without it, every list.
    #[arg(long, value_name = "LIST")]
    pub(crate) list: Option<String>,
    /// What the mail is for.
    #[arg(long, default_value = "marketing", value_parser = purposes())]
    pub(crate) purpose: Purpose,
}

#[derive(Debug, Args)]
pub(crate) struct AddSuppression {
    /// The address.
    pub(crate) address: String,
    /// The list: provider/source, tenant/name or global.
    #[arg(long, value_name = "LIST", default_value = "global")]
    pub(crate) list: String,
    #[arg(long, default_value = "manual", value_parser = reasons())]
    pub(crate) reason: Reason,
    /// The provider's group or stream, of an unsubscription.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) scope: String,
    /// The mail that it stops. Without it, all mail.
    #[arg(long, value_parser = purposes())]
    pub(crate) purpose: Option<Purpose>,
    /// When it ends by itself: RFC 3339.
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<Timestamp>,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LiftSuppressions {
    /// The address. Alternatively describe a batch with --incident, or with --provider, --since and --until.
    #[arg(
        required_unless_present_any = ["provider", "incident"],
        conflicts_with_all = ["provider", "incident"]
    )]
    pub(crate) address: Option<String>,
    /// Only this list.
    #[arg(long, value_name = "LIST")]
    pub(crate) list: Option<String>,
    /// Only this reason. Of a batch: hard_bounce, unless another one is given.
    #[arg(long, value_parser = reasons())]
    pub(crate) reason: Option<Reason>,
    /// Only this group or stream.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["provider", "incident"])]
    pub(crate) scope: Option<String>,
    /// The incident during which the answers of the mailbox provider were wrong: its id, or the beginning of it. Lifts
    /// the entries that began meanwhile, also after its end, and also those of incidents that are part of it.
    #[arg(long, value_name = "ID", conflicts_with_all = ["provider", "reason"], value_parser = incident_id)]
    pub(crate) incident: Option<String>,
    /// The mailbox provider whose answers were wrong, such as gmail.
    #[arg(long, value_name = "NAME", requires = "since", requires = "until")]
    pub(crate) provider: Option<String>,
    /// The evidence happened at this time or later: RFC 3339, or an age such as 2h.
    #[arg(long, value_name = "TIME", value_parser = super::time, requires = "provider")]
    pub(crate) since: Option<Timestamp>,
    /// The evidence happened before this time.
    #[arg(long, value_name = "TIME", value_parser = super::time, requires = "provider")]
    pub(crate) until: Option<Timestamp>,
    /// Of a batch: the answer of the server contains this text, in any case.
    #[arg(long, value_name = "TEXT", conflicts_with = "address")]
    pub(crate) wording: Option<String>,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
    /// Only print what would be lifted.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportSuppressions {
    #[command(flatten)]
    pub(crate) file: ProviderFile,
    /// Only print how many entries would be added.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DriftSuppressions {
    #[command(flatten)]
    pub(crate) file: ProviderFile,
}

/// A list that a provider has exported.
#[derive(Debug, Args)]
pub(crate) struct ProviderFile {
    /// The file, JSON or CSV. `-` is standard input.
    pub(crate) file: PathBuf,
    /// The provider: sendgrid, mailgun, ses or postmark.
    #[arg(long, value_parser = formats())]
    pub(crate) format: Format,
    /// Our list: provider/source, tenant/name or global.
    #[arg(long, value_name = "LIST")]
    pub(crate) list: String,
    /// The reason of entries that do not tell theirs.
    #[arg(long, value_parser = reasons())]
    pub(crate) reason: Option<Reason>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportSuppressions {
    /// The provider: sendgrid, mailgun or ses.
    #[arg(long, value_parser = formats())]
    pub(crate) format: Format,
    /// Only this list, with the global one. Without it, every list.
    #[arg(long, value_name = "LIST")]
    pub(crate) list: Option<String>,
    /// Only this reason.
    #[arg(long, value_parser = reasons())]
    pub(crate) reason: Option<Reason>,
    /// A file with the addresses to look at, one in each line. `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) addresses: Option<PathBuf>,
}

/// Reads the id of an incident, or the beginning of one.
fn incident_id(text: &str) -> Result<String, String> {
    const SHORTEST: usize = 4;
    let is_hex = text.chars().all(|c| c.is_ascii_hexdigit());
    if is_hex && (SHORTEST..=32).contains(&text.len()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("give at least {SHORTEST} of the 32 hexadecimal digits of its id"))
    }
}

fn reasons() -> impl TypedValueParser<Value = Reason> {
    let names = PossibleValuesParser::new(Reason::ALL.iter().map(|reason| reason.as_str()));
    names.try_map(|name| Reason::from_name(&name).ok_or("not a reason"))
}

fn purposes() -> impl TypedValueParser<Value = Purpose> {
    let names = PossibleValuesParser::new(Purpose::ALL.iter().map(|purpose| purpose.as_str()));
    names.try_map(|name| Purpose::from_name(&name).ok_or("not a purpose"))
}

fn formats() -> impl TypedValueParser<Value = Format> {
    let names = PossibleValuesParser::new(Format::ALL.map(Format::as_str));
    names.try_map(|name| Format::from_name(&name).ok_or("not a format"))
}
