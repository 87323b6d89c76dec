//! `mailpulse report`: what happened in a period.

mod chart;
mod data;
mod html;
pub(crate) mod number;
mod period;
mod queries;
mod terminal;

use std::io::{self, Write};
use std::path::Path;

use service::Settings;

use crate::Outcome;
use crate::args::{ReportArgs, ReportFormat};
use crate::database::Database;
use period::Period;

/// Prints the report.
///
/// # Errors
/// If the period is empty or too long, or if ClickHouse does not answer.
pub(crate) fn run(config: Option<&Path>, args: &ReportArgs) -> anyhow::Result<Outcome> {
    let period = Period::new(args, crate::now())?;
    let database = Database::open(&Settings::discover(config)?)?;
    let report = queries::report(&database, &period)?;
    let mut out = io::stdout().lock();
    match args.format {
        ReportFormat::Text => write!(out, "{}", terminal::Page(&report))?,
        ReportFormat::Json => writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?,
        ReportFormat::Html => writeln!(out, "{}", html::page(&report)?)?,
    }
    Ok(Outcome::Done)
}
