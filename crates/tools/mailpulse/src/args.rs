//! The command line.

mod webhooks;

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use event::Provider;
use jiff::Timestamp;
use record::{DEAD_LETTER_REASONS, Reason, Stage};

pub(crate) use webhooks::{Parse, Scheme, Sign, Verify};

use crate::letter_id::LetterId;

/// The operator's tool of Mailpulse.
#[derive(Debug, Parser)]
#[command(name = "mailpulse", version)]
pub(crate) struct Cli {
    /// The configuration file of the services. Without it `mailpulse.toml` is read if it is there;
    /// by `parse` it is not.
    #[arg(long, value_name = "PATH", global = true)]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Whether a captured webhook is its provider's: every step, and what would mend a failure.
    ///
    /// The exit status is 0 for authentic, 1 for not, and 2 where that cannot be told: no request,
    /// no secret that can be used, a certificate that is not at hand. Nothing is fetched.
    #[command(after_help = "Examples:\n  \
        mailpulse verify --provider mailgun --secret-file key.txt request.http\n  \
        mailpulse verify --provider mandrill --secret-file key.txt \\\n      \
        --url https://hooks.example.com/webhooks/mandrill/press --at 2026-11-21T10:00:00Z -\n  \
        mailpulse verify --provider ses --source news --config mailpulse.toml request.http")]
    Verify(Verify),
    /// The canonical events of a body, one JSON line per recipient, and what would be given up on.
    ///
    /// They are what enrich publishes, made by its code: with --config by the databases, look-up
    /// tables, rules, name server and pseudonyms that are configured, without it by the built-in
    /// tables alone.
    ///
    /// The exit status is 0 when all became events, 1 when something would go to the dead letters
    /// (a line `{"dead_letter": …}` says why), and 2 for what cannot be read at all.
    #[command(after_help = "Examples:\n  \
        mailpulse parse --provider sendgrid body.json | jq -r '[.kind, .recipient] | @tsv'\n  \
        mailpulse parse --provider ses --received-at 2026-11-21T10:00:00Z request.http\n  \
        mailpulse dead-letters show 3/1042 --raw | \\\n      \
        mailpulse parse --provider ses --source news --config mailpulse.toml --published -")]
    Parse(Parse),
    /// A valid request for any scheme, to test with: as an HTTP request, or as a curl command.
    #[command(after_help = "Examples:\n  \
        mailpulse sign --provider mailgun --secret-file key.txt event.json > request.http\n  \
        mailpulse sign --provider sendgrid --generate-key keys/ body.json > request.http\n  \
        mailpulse sign --provider resend --secret-file secret.txt --curl \\\n      \
        --url http://127.0.0.1:8080/webhooks/resend/app body.json | sh")]
    Sign(Sign),
    /// What the services gave up on: list it, explain it, send it back on its way.
    #[command(subcommand)]
    DeadLetters(Verb),
    /// Print the completions of a shell.
    #[command(after_help = "Example:\n  mailpulse completions bash \
        > /usr/share/bash-completion/completions/mailpulse")]
    Completions {
        /// Whose.
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// One line per letter: id, time (UTC), reason, stage, provider/source, key, bytes, origin,
    /// detail.
    #[command(after_help = "Examples:\n  \
        mailpulse dead-letters ls --stage enrich --since 2h\n  \
        mailpulse dead-letters ls --provider postmark --json | jq -r .detail | sort | uniq -c")]
    Ls(Ls),
    /// Everything about one letter: what it means, what mends it, its headers and bytes.
    #[command(after_help = "Examples:\n  \
        mailpulse dead-letters show 3/1042\n  \
        mailpulse dead-letters show 3/1042 --raw > crates/libraries/providers/src/postmark/fixtures/new.json")]
    Show(Show),
    /// Send letters back to where they can be processed, each at most once.
    ///
    /// Bodies of the ingress are split again; events of enrich and dedupe go back to the topic they
    /// came from, and so do those of the archive, which alone reads them there. A letter that
    /// cannot go anywhere stays and is reported; the exit status is 1 then. May be interrupted and
    /// run again at any time.
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
    /// Letters that were redriven too, and further copies of a letter.
    #[arg(long)]
    pub(crate) all: bool,
    /// One JSON object per line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Of the letter, as `ls` prints it: partition/offset.
    pub(crate) id: LetterId,
    /// The bytes of the value and nothing else.
    #[arg(long)]
    pub(crate) raw: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Redrive {
    /// Of the letters, as `ls` prints them: partition/offset. Or say which by the filters.
    #[arg(value_name = "ID", conflicts_with = "Filters", required_unless_present = "Filters")]
    pub(crate) ids: Vec<LetterId>,
    #[command(flatten)]
    pub(crate) filters: Filters,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Which letters: those that every given filter lets pass, and of a repeated one any.
#[derive(Debug, Clone, Default, Args)]
#[group(id = "Filters", multiple = true)]
pub(crate) struct Filters {
    /// Why the letter was given up on; repeatable.
    #[arg(long = "reason", value_name = "CODE", value_parser = reasons())]
    pub(crate) reasons: Vec<Reason>,
    /// Who posted it; repeatable.
    #[arg(long = "provider", value_name = "PROVIDER", value_parser = providers())]
    pub(crate) providers: Vec<Provider>,
    /// Under which configured source; repeatable.
    #[arg(long = "source", value_name = "NAME")]
    pub(crate) sources: Vec<String>,
    /// Who gave up on it; repeatable.
    #[arg(long = "stage", value_name = "STAGE", value_parser = stages())]
    pub(crate) stages: Vec<Stage>,
    /// Written at this time or later: RFC 3339, or back from now such as 2h or 3d.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) since: Option<Timestamp>,
    /// Written before this time.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<Timestamp>,
}

/// Codes of letters; those of the markers, which are none, are left out.
fn reasons() -> impl TypedValueParser<Value = Reason> {
    let letters = DEAD_LETTER_REASONS.iter().filter(|reason| **reason != Reason::Redriven);
    let codes = PossibleValuesParser::new(letters.map(|reason| reason.code()));
    codes.try_map(|code| Reason::from_code(&code).ok_or("not a reason"))
}

fn stages() -> impl TypedValueParser<Value = Stage> {
    let letters = Stage::ALL.into_iter().filter(|stage| *stage != Stage::Redrive);
    let codes = PossibleValuesParser::new(letters.map(Stage::code));
    codes.try_map(|code| Stage::from_code(&code).ok_or("not a stage"))
}

/// By its name or any other that people know it by.
fn providers() -> impl TypedValueParser<Value = Provider> {
    let value = |provider: Provider| {
        PossibleValue::new(provider.as_str()).aliases(provider.aliases().iter().copied())
    };
    PossibleValuesParser::new(Provider::ALL.map(value)).try_map(|name| name.parse())
}

fn moment(text: &str) -> Result<Timestamp, String> {
    moment_before(text, Timestamp::now())
}

/// Reads `2026-11-21T10:00:00Z`, or `2h` as so long before `now`.
fn moment_before(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    const FORMS: &str = "write it like 2026-11-21T10:00:00Z, or like 2h or 3d for so long ago";
    match service::units::parse_duration(text) {
        Ok(back) => now.checked_sub(back).map_err(|_| format!("too long ago; {FORMS}")),
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

    #[test]
    fn moments_are_absolute_or_back_from_now() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let of = |text| moment_before(text, now).map(|moment| moment.to_string());
        assert_eq!(of("2h").unwrap(), "2026-11-21T10:00:00Z");
        assert_eq!(of("3d").unwrap(), "2026-11-18T12:00:00Z");
        assert_eq!(of("2026-11-21T10:00:00+02:00").unwrap(), "2026-11-21T08:00:00Z");
        for text in ["yesterday", "2026-11-21", "5", "99999999999d"] {
            assert!(of(text).unwrap_err().contains("2h or 3d"), "{text}");
        }
    }

    #[test]
    fn letters_are_named_or_filtered_and_one_of_it_has_to_be() {
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
