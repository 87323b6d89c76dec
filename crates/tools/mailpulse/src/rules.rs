//! `mailpulse rules`: prints, checks, explains and tests the rules of alerts.

mod plot;
mod replay;
mod test;

use std::io::{self, Write};
use std::path::Path;

use alerting::rule::Rule;
use alerting::{Explanation, Facts, Override, RuleSet};
use serde::{Deserialize, Serialize};
use service::Settings;
use window::{Scope, ScopeKind};

use crate::args::{ExplainRules, RulesCommand};
use crate::text::escape_line;
use crate::{InputError, Outcome};

/// The keys of `[monitor]` that concern rules.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Monitor {
    #[serde(default)]
    rule: Vec<Rule>,
    #[serde(default, rename = "override")]
    pub(crate) overrides: Vec<Override>,
    #[serde(default, skip_serializing)]
    pub(crate) scopes: Option<Vec<ScopeKind>>,
}

/// A file with rules. A settings file has further sections.
#[derive(Debug, Serialize, Deserialize)]
struct RuleFile {
    #[serde(default)]
    monitor: Monitor,
}

impl Monitor {
    /// Returns the rules, or the default rules if there are none.
    ///
    /// # Errors
    /// If a rule or an override is invalid.
    pub(crate) fn rule_set(&self) -> anyhow::Result<RuleSet> {
        let defaults =
            || RuleSet::defaults().rules().iter().map(|rule| Rule::clone(rule)).collect();
        let rules = if self.rule.is_empty() { defaults() } else { self.rule.clone() };
        RuleSet::new(rules, self.overrides.clone())
            .map_err(|error| InputError(error.to_string()).into())
    }

    fn of_settings(config: Option<&Path>) -> anyhow::Result<Self> {
        Self::of(&Settings::discover(config)?)
    }

    /// Reads the settings of the services.
    ///
    /// # Errors
    /// If a rule or override is invalid.
    pub(crate) fn of(settings: &Settings) -> anyhow::Result<Self> {
        Ok(settings.section("monitor")?)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or a rule or override is invalid. The error names the line.
    fn of_file(path: &Path) -> anyhow::Result<Self> {
        let invalid = |error: &dyn std::fmt::Display| {
            InputError(format!("{} is not a valid file of rules: {error}", path.display()))
        };
        let text = std::fs::read_to_string(path).map_err(|error| invalid(&error))?;
        let file: RuleFile = toml::from_str(&text).map_err(|error| invalid(&error))?;
        Ok(file.monitor)
    }
}

/// Runs a subcommand.
///
/// # Errors
/// If the settings, the file or the arguments are invalid, or ClickHouse cannot be reached.
pub(crate) fn run(config: Option<&Path>, command: &RulesCommand) -> anyhow::Result<Outcome> {
    match command {
        RulesCommand::Ls => list(config),
        RulesCommand::Check(args) => check(&args.file),
        RulesCommand::Explain(args) => explain(config, args),
        RulesCommand::Test(args) => test::run(config, args),
    }
}

fn list(config: Option<&Path>) -> anyhow::Result<Outcome> {
    let settings = Monitor::of_settings(config)?;
    let rule = settings.rule_set()?.rules().iter().map(|rule| Rule::clone(rule)).collect();
    let monitor = Monitor { rule, overrides: settings.overrides, scopes: None };
    write!(io::stdout(), "{}", toml::to_string(&RuleFile { monitor })?)?;
    Ok(Outcome::Done)
}

fn check(path: &Path) -> anyhow::Result<Outcome> {
    let monitor = Monitor::of_file(path)?;
    let rules = monitor.rule_set()?;
    let which = if monitor.rule.is_empty() { "default rules (the file has none)" } else { "rules" };
    let (count, overrides) = (rules.rules().len(), monitor.overrides.len());
    writeln!(io::stdout(), "{count} {which} and {overrides} overrides are valid")?;
    Ok(Outcome::Done)
}

fn explain(config: Option<&Path>, args: &ExplainRules) -> anyhow::Result<Outcome> {
    let scope = Scope::parse(&args.scope).map_err(|error| InputError(error.to_string()))?;
    let rules = Monitor::of_settings(config)?.rule_set()?;
    let facts = Facts { tenant: args.tenant.as_deref() };
    let mut out = io::stdout().lock();
    for Explanation { rule, skipped, values } in rules.explain(&scope, facts) {
        let rule = escape_line(rule.as_bytes());
        if let Some(reason) = skipped {
            writeln!(out, "{rule}: not judged, because {reason}")?;
            continue;
        }
        writeln!(out, "{rule}: judged")?;
        for (key, value, origin) in values {
            let (value, origin) = (escape_line(value.as_bytes()), origin.to_string());
            writeln!(out, "  {key:<12} {value:<24} {}", escape_line(origin.as_bytes()))?;
        }
    }
    Ok(Outcome::Done)
}
