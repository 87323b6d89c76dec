//! `mailpulse doctor`: connects to Kafka and ClickHouse as the services do, and states what works, what
//! does not, and what to do. It changes nothing.

mod clickhouse;

use std::io::{self, Write};
use std::path::Path;

use kafka::survey::{Finding, survey};
use kafka::{ClusterSettings, Connection, TopicSettings};
use record::TopicSpec;
use serde::Serialize;
use service::{ServiceSettings, Settings, SettingsError};

use crate::args::Doctor;
use crate::{InputError, Outcome, text};

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// It works.
    Ok,
    /// The services correct this when they start.
    Note,
    /// Somebody must act.
    Problem,
}

/// One line of the output. The field names and codes are stable.
#[derive(Debug, Serialize)]
struct Line {
    status: Status,
    code: &'static str,
    text: String,
}

impl Line {
    fn ok(code: &'static str, text: impl Into<String>) -> Self {
        Self { status: Status::Ok, code, text: text.into() }
    }

    fn problem(code: &'static str, text: impl Into<String>) -> Self {
        Self { status: Status::Problem, code, text: text.into() }
    }
}

/// Examines Kafka, then ClickHouse. Prints each line as soon as it is known.
///
/// # Errors
/// If the settings are invalid, or the output cannot be written.
pub(crate) fn run(config: Option<&Path>, args: &Doctor) -> anyhow::Result<Outcome> {
    let settings = Settings::discover(config)?;
    let service: ServiceSettings = settings.section("service")?;
    service::init_log(&service).map_err(|error| InputError(format!("{error:#}")))?;
    settings.warn_about_old_names();
    let mut has_problem = false;
    for examine in [examine_kafka, clickhouse::examine] {
        for line in examine(&settings)? {
            has_problem |= line.status == Status::Problem;
            print(&line, args.json)?;
        }
    }
    Ok(if has_problem { Outcome::Incomplete } else { Outcome::Done })
}

fn print(line: &Line, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, line)?;
        return writeln!(out);
    }
    let status = match line.status {
        Status::Ok => "ok",
        Status::Note => "note",
        Status::Problem => "problem",
    };
    writeln!(out, "{status:<8} {:<26} {}", line.code, text::escape_line(line.text.as_bytes()))
}

fn examine_kafka(settings: &Settings) -> Result<Vec<Line>, SettingsError> {
    let kafka: ClusterSettings = settings.section("kafka")?;
    let topics: TopicSettings = settings.section("topics")?;
    let specs = crate::topics::specs(settings)?;
    Ok(kafka_lines(&kafka.connection("doctor", false), &specs, topics.create))
}

fn kafka_lines(connection: &Connection, specs: &[TopicSpec], create: bool) -> Vec<Line> {
    let survey = match connection.check().and_then(|()| survey(connection, specs)) {
        Ok(survey) => survey,
        Err(error) => return vec![Line::problem(error.code(), error.to_string())],
    };
    let brokers = survey.brokers.join(", ");
    let mut lines = vec![Line::ok(
        "kafka_reachable",
        format!("Kafka answers at {}; its brokers are {brokers}", connection.bootstrap),
    )];
    if survey.findings.is_empty() {
        let count = survey.topics;
        let text = format!("{count} topics have the partitions and settings that are needed");
        lines.push(Line::ok("topics_ready", text));
    }
    lines.extend(survey.findings.into_iter().map(|finding| line_of(finding, create)));
    lines
}

fn line_of(Finding { code, text }: Finding, create: bool) -> Line {
    if code == "topic_missing" && create {
        let text = format!("{text} (topics.create is set: the first service creates it)");
        return Line { status: Status::Note, code, text };
    }
    Line::problem(code, text)
}
