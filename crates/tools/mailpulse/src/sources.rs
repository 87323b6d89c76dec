//! `mailpulse sources`.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

use clickhouse::Row;
use event::Provider;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use service::{ServiceSettings, Settings};

use crate::args::{SourcesCommand, SourcesLs};
use crate::configured::ConfiguredSource;
use crate::database::Database;
use crate::installation::note;
use crate::{InputError, Outcome, text};

/// How far back ClickHouse looks for the last event, in days.
const DAYS: u32 = 90;

/// Runs a subcommand.
///
/// # Errors
/// If the settings are invalid, or the output cannot be written.
pub(crate) fn run(config: Option<&Path>, command: &SourcesCommand) -> anyhow::Result<Outcome> {
    let settings = Settings::discover(config)?;
    let service: ServiceSettings = settings.section("service")?;
    service::init_log(&service).map_err(|error| InputError(format!("{error:#}")))?;
    settings.warn_about_old_names();
    match command {
        SourcesCommand::Ls(args) => list(&settings, args),
    }
}

/// A line of the output. The field names are stable.
#[derive(Debug, Serialize)]
struct Line {
    provider: Provider,
    source: String,
    /// With `--base`, otherwise only the path.
    url: String,
    /// `ready`, `disabled`, `shadow` or `no_secret`.
    state: &'static str,
    secrets: usize,
    /// Those of them that are there.
    secrets_there: usize,
    /// UTC; null if there was none in the last days, or if it is not known.
    last_event: Option<String>,
    /// Whether ClickHouse was asked.
    last_event_known: bool,
}

#[derive(Debug, Row, Deserialize)]
struct LastEvent {
    provider: String,
    source: String,
    /// UTC microseconds.
    at: i64,
}

fn list(settings: &Settings, args: &SourcesLs) -> anyhow::Result<Outcome> {
    let sources = ConfiguredSource::all(settings)?;
    let base = base(&args.base)?;
    let last_events = match last_events(settings) {
        Ok(last_events) => Some(last_events),
        Err(problem) => {
            note(&format!("note: the last events are not known: {problem}"))?;
            None
        }
    };
    let mut outcome = Outcome::Done;
    let mut lines = Vec::with_capacity(sources.len());
    for source in &sources {
        let (there, problems): (Vec<_>, Vec<_>) = source.secrets().partition(Result::is_ok);
        for problem in problems.iter().filter_map(|result| result.as_ref().err()) {
            note(&format!("{}: {problem}", source.label()))?;
            outcome = Outcome::Incomplete;
        }
        let secrets = there.len() + problems.len();
        let key = (source.provider.as_str().to_owned(), source.name.clone());
        let last = last_events.as_ref().and_then(|all| all.get(&key));
        let last = last.and_then(|micros| Timestamp::from_microsecond(*micros).ok());
        lines.push(Line {
            provider: source.provider,
            source: source.name.clone(),
            url: format!("{base}{}", source.path()),
            state: state(source, there.len()),
            secrets,
            secrets_there: there.len(),
            last_event: last.map(|at| format!("{at:.0}")),
            last_event_known: last_events.is_some(),
        });
    }
    print(&lines, args.json)?;
    Ok(outcome)
}

fn state(source: &ConfiguredSource, secrets_there: usize) -> &'static str {
    let accepts_without = source.provider == Provider::Ses
        || source.options.contains_key("unverified")
        || source.options.contains_key("allow_ips");
    if source.disabled {
        "disabled"
    } else if source.shadow {
        "shadow"
    } else if secrets_there == 0 && !accepts_without {
        "no_secret"
    } else {
        "ready"
    }
}

/// Returns the base without a slash at its end.
fn base(given: &str) -> Result<&str, InputError> {
    let is_url = given.is_empty() || given.starts_with("https://") || given.starts_with("http://");
    if !is_url {
        return Err(InputError(format!(
            "--base {given} is not a URL; write it as https://hooks.example.com"
        )));
    }
    Ok(given.trim_end_matches('/'))
}

/// Returns when the newest event of each provider and source was received.
fn last_events(settings: &Settings) -> Result<HashMap<(String, String), i64>, String> {
    let database = Database::open(settings).map_err(|error| error.to_string())?;
    let sql = format!(
        "SELECT toString(provider) AS provider, toString(source) AS source, \
         toUnixTimestamp64Micro(max(received_at)) AS at FROM events \
         WHERE received_at > now() - INTERVAL {DAYS} DAY GROUP BY provider, source LIMIT 100000"
    );
    let rows: Vec<LastEvent> =
        database.rows(&sql, &[]).map_err(|error| format!("{}: {error}", error.code()))?;
    Ok(rows.into_iter().map(|row| ((row.provider, row.source), row.at)).collect())
}

fn print(lines: &[Line], json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        for line in lines {
            serde_json::to_writer(&mut out, line)?;
            writeln!(out)?;
        }
        return Ok(());
    }
    let name = |line: &Line| format!("{}/{}", line.provider, line.source);
    let width = lines.iter().map(|line| name(line).len()).max().unwrap_or_default().max(6);
    writeln!(
        out,
        "{:<width$}  {:<9}  {:<7}  {:<20}  url",
        "source", "state", "secrets", "last event"
    )?;
    for line in lines {
        let last = match &line.last_event {
            Some(at) => at.as_str(),
            None if line.last_event_known => "-",
            None => "not known",
        };
        let secrets = format!("{} of {}", line.secrets_there, line.secrets);
        let text = format!(
            "{:<width$}  {:<9}  {secrets:<7}  {last:<20}  {}",
            name(line),
            line.state,
            line.url
        );
        writeln!(out, "{}", text::escape_line(text.as_bytes()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_a_url() {
        assert_eq!(base("https://hooks.example.com/").unwrap(), "https://hooks.example.com");
        assert_eq!(base("").unwrap(), "");
        assert!(base("hooks.example.com").unwrap_err().to_string().contains("https://"));
    }
}
