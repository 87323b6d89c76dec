//! `mailpulse automation report`: what each rule did, from the table `actions`.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};
use std::path::Path;

use clickhouse::Row;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use service::Settings;

use crate::args::{AutomationFormat, ReportAutomation};
use crate::database::{Database, and_source, literal, time_literal};
use crate::report::number::{count, seconds};
use crate::text::{escape_line, truncate_line};
use crate::{InputError, Outcome};

/// The greatest number of rules of a report. Installations have far fewer, also of those that were removed since.
const MOST_RULES: usize = 1_000;
/// The longest name in the table, in characters.
const NAME: usize = 64;
/// The headings of the columns with numbers.
const NUMBERS: [&str; 6] = ["actions", "recipients", "follow-ups", "average", "minimum", "maximum"];

/// What is asked about.
#[derive(Debug)]
struct Period<'a> {
    from: Timestamp,
    /// The first moment after it.
    to: Timestamp,
    rule: Option<&'a str>,
    source: Option<&'a str>,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Report<'a> {
    /// RFC 3339, as all times.
    from: String,
    to: String,
    rule: Option<&'a str>,
    source: Option<&'a str>,
    /// Those with the most actions first.
    rules: Vec<RuleReport>,
}

/// What a rule did.
#[derive(Debug, Serialize)]
struct RuleReport {
    rule: String,
    actions: u64,
    /// The number of actions of each type.
    types: BTreeMap<String, u64>,
    /// The number of different ones.
    recipients: u64,
    /// The number of actions that belong to a follow-up.
    follow_ups: u64,
    /// From the receipt of the event, or from when the follow-up was due, to the decision. `None`: not known.
    seconds_to_decision_avg: Option<f64>,
    seconds_to_decision_min: Option<f64>,
    seconds_to_decision_max: Option<f64>,
    /// The receipt of the first event, or when the first follow-up was due.
    first_at: String,
    last_at: String,
}

#[derive(Debug, Row, Deserialize)]
struct RuleRow {
    rule: String,
    actions: u64,
    types: Vec<(String, u64)>,
    recipients: u64,
    follow_ups: u64,
    seconds_avg: Option<f64>,
    seconds_min: Option<f64>,
    seconds_max: Option<f64>,
    /// UTC microseconds.
    first_at: i64,
    last_at: i64,
}

/// Prints the report.
///
/// # Errors
/// If the period is empty, too many rules acted in it, or ClickHouse does not answer.
pub(super) fn run(config: Option<&Path>, args: &ReportAutomation) -> anyhow::Result<Outcome> {
    let period = Period::new(args, crate::now())?;
    let database = Database::open(&Settings::discover(config)?)?;
    let report = period.report(&database)?;
    let mut out = io::stdout().lock();
    match args.format {
        AutomationFormat::Text => write!(out, "{report}")?,
        AutomationFormat::Json => writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?,
    }
    Ok(Outcome::Done)
}

impl<'a> Period<'a> {
    fn new(args: &'a ReportAutomation, now: Timestamp) -> Result<Self, InputError> {
        let (from, to) = (args.from, args.to.unwrap_or(now));
        if from >= to {
            return Err(InputError(format!(
                "--from {} is not before --to {}; choose an earlier beginning",
                time(from),
                time(to)
            )));
        }
        Ok(Self { from, to, rule: args.rule.as_deref(), source: args.source.as_deref() })
    }

    fn report(&self, database: &Database) -> anyhow::Result<Report<'a>> {
        let rows: Vec<RuleRow> = database.rows_with(&self.sql(), &[])?;
        if rows.len() > MOST_RULES {
            return Err(InputError(format!(
                "more than {MOST_RULES} rules acted in this time; choose one with --rule, or a shorter time"
            ))
            .into());
        }
        Ok(Report {
            from: time(self.from),
            to: time(self.to),
            rule: self.rule,
            source: self.source,
            rules: rows.into_iter().map(RuleReport::from).collect(),
        })
    }

    fn sql(&self) -> String {
        let of_rule = self.rule.map(|rule| format!(" AND a.rule = {}", literal(rule)));
        format!(
            "WITH (toUnixTimestamp64Micro(a.decided_at) - toUnixTimestamp64Micro(a.at)) / 1000000 AS seconds \
             SELECT toString(a.rule) AS rule, count() AS actions, \
             CAST(sumMap(map(toString(a.type), toUInt64(1))) AS Array(Tuple(String, UInt64))) AS types, \
             uniqExactIf(a.recipient, a.recipient != '') AS recipients, countIf(a.follow_up) AS follow_ups, \
             avg(seconds) AS seconds_avg, min(seconds) AS seconds_min, max(seconds) AS seconds_max, \
             toUnixTimestamp64Micro(min(a.at)) AS first_at, toUnixTimestamp64Micro(max(a.at)) AS last_at \
             FROM actions AS a WHERE a.at >= {} AND a.at < {}{}{} \
             GROUP BY a.rule ORDER BY count() DESC, a.rule LIMIT {}",
            time_literal(self.from.as_microsecond()),
            time_literal(self.to.as_microsecond()),
            of_rule.unwrap_or_default(),
            self.source.map_or_else(String::new, and_source),
            MOST_RULES + 1
        )
    }
}

impl From<RuleRow> for RuleReport {
    fn from(row: RuleRow) -> Self {
        let at =
            |micros| Timestamp::from_microsecond(micros).map_or_else(|_| micros.to_string(), time);
        Self {
            rule: row.rule,
            actions: row.actions,
            types: row.types.into_iter().collect(),
            recipients: row.recipients,
            follow_ups: row.follow_ups,
            seconds_to_decision_avg: row.seconds_avg,
            seconds_to_decision_min: row.seconds_min,
            seconds_to_decision_max: row.seconds_max,
            first_at: at(row.first_at),
            last_at: at(row.last_at),
        }
    }
}

/// Returns a time to the second.
fn time(time: Timestamp) -> String {
    format!("{time:.0}")
}

impl Display for Report<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let of = |what: &str, name: Option<&str>| match name {
            Some(name) => format!("{what} {}", escape_line(name.as_bytes())),
            None => format!("all {what}s"),
        };
        let (rules, sources) = (of("rule", self.rule), of("source", self.source));
        writeln!(f, "Actions of {rules} for {sources}")?;
        writeln!(f, "from {} until before {}", self.from, self.to)?;
        if self.rules.is_empty() {
            return writeln!(f, "\nNo rule acted in this time.");
        }
        writeln!(
            f,
            "The times are from the receipt of the event, or from when the follow-up was due, to the decision.\n"
        )?;
        let names = self.rules.iter().flat_map(RuleReport::names);
        let width = names.map(|name| name.chars().count()).max().unwrap_or_default();
        line(f, width, "rule", &NUMBERS.map(str::to_owned), ["first", "last"])?;
        self.rules.iter().try_for_each(|rule| rule.write(f, width))
    }
}

impl RuleReport {
    /// Returns the beginnings of the lines about the rule.
    fn names(&self) -> impl Iterator<Item = String> {
        let types = self.types.keys().map(|name| format!("  {}", short(name)));
        std::iter::once(short(&self.rule)).chain(types)
    }

    fn write(&self, f: &mut Formatter<'_>, width: usize) -> fmt::Result {
        let known = |it: Option<f64>| it.map_or_else(|| "–".to_owned(), seconds);
        let numbers = [
            count(self.actions),
            count(self.recipients),
            count(self.follow_ups),
            known(self.seconds_to_decision_avg),
            known(self.seconds_to_decision_min),
            known(self.seconds_to_decision_max),
        ];
        let mut names = self.names();
        let name = names.next().unwrap_or_default();
        line(f, width, &name, &numbers, [&self.first_at, &self.last_at])?;
        for (name, actions) in names.zip(self.types.values()) {
            writeln!(f, "{name:<width$}  {:>12}", count(*actions))?;
        }
        Ok(())
    }
}

fn line(
    f: &mut Formatter<'_>,
    width: usize,
    name: &str,
    numbers: &[String],
    [first, last]: [&str; 2],
) -> fmt::Result {
    write!(f, "{name:<width$}  ")?;
    for number in numbers {
        write!(f, "{number:>12}")?;
    }
    writeln!(f, "  {first:<20}  {last}")
}

fn short(text: &str) -> String {
    truncate_line(text.as_bytes(), NAME)
}
