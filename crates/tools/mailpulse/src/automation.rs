//! `mailpulse automation`: checks and tests the rules of `automate`, and reports what they did.

mod report;
mod stored;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use automation::{AutomationSettings, Outcome as Followed, Replay, RuleSet, Subject};
use jiff::Timestamp;
use serde::Deserialize;
use service::Settings;

use crate::args::{AutomationCommand, TestAutomation};
use crate::database::Database;
use crate::text::escape_line;
use crate::{InputError, Outcome};

/// How far before `--from` events are read at most, in microseconds.
const LONGEST_LEAD: i64 = 90 * 86_400_000_000;

/// A file with rules. A settings file has further sections.
#[derive(Debug, Deserialize)]
struct RuleFile {
    #[serde(default)]
    automation: AutomationSettings,
}

/// Runs a subcommand.
///
/// # Errors
/// If the file, the settings or the times are invalid, or ClickHouse cannot be reached.
pub(crate) fn run(config: Option<&Path>, command: &AutomationCommand) -> anyhow::Result<Outcome> {
    match command {
        AutomationCommand::Check(args) => {
            let rules = read(&args.file)?;
            writeln!(io::stdout(), "{} rules are valid", rules.rules().len())?;
            Ok(Outcome::Done)
        }
        AutomationCommand::Test(args) => test(config, args),
        AutomationCommand::Report(args) => report::run(config, args),
    }
}

fn read(path: &Path) -> anyhow::Result<RuleSet> {
    let invalid = |error: &dyn std::fmt::Display| {
        InputError(format!("{} is not a valid file of rules: {error}", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|error| invalid(&error))?;
    let file: RuleFile = toml::from_str(&text).map_err(|error| invalid(&error))?;
    Ok(RuleSet::new(&file.automation).map_err(|error| invalid(&error))?)
}

/// How often a rule acted, and how often it was refused.
#[derive(Default)]
struct Count {
    acted: u64,
    refused: u64,
}

fn test(config: Option<&Path>, args: &TestAutomation) -> anyhow::Result<Outcome> {
    let rules = read(&args.file)?;
    let (from, to) =
        (args.from.as_microsecond(), args.to.unwrap_or_else(crate::now).as_microsecond());
    if from >= to {
        return Err(InputError("--from must be before --to".to_owned()).into());
    }
    let database = Database::open(&Settings::discover(config)?)?;
    let lead = rules.memory().min(LONGEST_LEAD);
    let mut replay = Replay::new(&rules);
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    let mut out = io::stdout().lock();
    let mut report = |outcomes: Vec<Followed>| -> io::Result<()> {
        for outcome in outcomes {
            print(&outcome, from, args.rule.as_deref(), &mut counts, &mut out)?;
        }
        Ok(())
    };
    let begin = from.saturating_sub(lead);
    let incidents = stored::incidents(&database, &rules, begin, to)?;
    let (mut events, mut changes) = (0_u64, incidents.iter().peekable());
    stored::for_each(&database, &rules, begin, to, |facts| {
        let received_at = facts.received_at.micros();
        while let Some(incident) = changes.next_if(|incident| incident.at <= received_at) {
            report(replay.receive_incident(incident))?;
        }
        events += u64::from(received_at >= from);
        Ok(report(replay.receive(facts))?)
    })?;
    for incident in changes {
        report(replay.receive_incident(incident))?;
    }
    report(replay.pass_time(to))?;
    let mut error = io::stderr().lock();
    writeln!(error, "{events} events")?;
    if rules.uses_campaign_rate() {
        writeln!(
            error,
            "rates of campaigns are not stored, so conditions about them were not met; intents of `automate` have the rates"
        )?;
    }
    if rules.reads_incidents() {
        let changes = incidents.iter().filter(|incident| incident.at >= from).count();
        writeln!(error, "{changes} changes of incidents")?;
    }
    for (rule, Count { acted, refused }) in counts {
        let rule = escape_line(rule.as_bytes());
        writeln!(error, "{rule}: acted {acted} times, refused {refused} times")?;
    }
    Ok(Outcome::Done)
}

fn print(
    outcome: &Followed,
    from: i64,
    only: Option<&str>,
    counts: &mut BTreeMap<String, Count>,
    out: &mut impl Write,
) -> io::Result<()> {
    let is_wanted = |rule: &str, at: i64| at >= from && only.is_none_or(|only| only == rule);
    let line = |at: i64, rule: &str, index: &str, what: &str, subject: &Subject| {
        let at = Timestamp::from_microsecond(at).unwrap_or(Timestamp::UNIX_EPOCH);
        let (about, id) = match subject {
            Subject::Event(event) => (&event.recipient, event.event_id.to_string()),
            Subject::Incident(incident) => (&incident.group, incident.id.to_string()),
        };
        let about = escape_line(about.as_bytes());
        format!("{at}\t{rule}\t{index}\t{what}\t{about}\t{id}")
    };
    match outcome {
        Followed::Acted(records) => {
            let Some(first) = records.first().filter(|it| is_wanted(&it.rule, it.at)) else {
                return Ok(());
            };
            counts.entry(first.rule.clone()).or_default().acted += 1;
            for it in records {
                writeln!(out, "{}", line(it.at, &it.rule, &it.index, &it.action, &it.subject))?;
            }
        }
        Followed::Refused(intent, refusal) => {
            if is_wanted(&intent.rule, intent.at) {
                counts.entry(intent.rule.clone()).or_default().refused += 1;
                let what = format!("refused:{}", refusal.as_str());
                writeln!(out, "{}", line(intent.at, &intent.rule, "-", &what, &intent.subject))?;
            }
        }
    }
    Ok(())
}
