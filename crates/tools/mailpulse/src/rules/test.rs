//! `mailpulse rules test`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use alerting::rule::{Rule, Test};
use alerting::{Alert, AlertState, Facts, RuleSet, Severity};
use service::Settings;
use window::{Scope, ScopeKind};

use super::history::History;
use super::{Monitor, replay};
use crate::args::TestRules;
use crate::database::Database;
use crate::text::escape_line;
use crate::{InputError, Outcome};

/// Prints every transition that the rules of the file would have had.
///
/// # Errors
/// If the file or the times are invalid, or ClickHouse cannot be reached.
pub(super) fn run(config: Option<&Path>, args: &TestRules) -> anyhow::Result<Outcome> {
    let (from, to) =
        (args.from.as_microsecond(), args.to.unwrap_or_else(crate::now).as_microsecond());
    if from >= to {
        return Err(InputError("--from must be before --to".to_owned()).into());
    }
    let settings = Settings::discover(config)?;
    let of_settings: Monitor = settings.section("monitor")?;
    let file = Monitor::of_file(&args.file)?;
    let (rules, left_out) = testable(&file)?;
    let kinds = file.scopes.or(of_settings.scopes).unwrap_or_default();
    let database = Database::open(&settings)?;
    let mut alerts = Vec::new();
    let mut scopes = 0_usize;
    for kind in kinds_with_source(&kinds) {
        History::for_each_scope(
            &database,
            kind,
            from,
            to,
            args.source.as_deref(),
            |scope, history| {
                scopes += 1;
                alerts.extend(judge(&rules, &scope, &history, from, to));
            },
        )?;
    }
    alerts.sort_by(|a, b| (a.at, a.scope.key(), &a.rule).cmp(&(b.at, b.scope.key(), &b.rule)));
    report(&alerts, scopes, &left_out)?;
    Ok(Outcome::Done)
}

/// Returns the rules that the stored counts suffice for, and the names of the others.
fn testable(file: &Monitor) -> anyhow::Result<(RuleSet, Vec<String>)> {
    let needs_history = |rule: &Rule| {
        matches!(rule.test, Test::Burst | Test::Gap | Test::Missing)
            || rule.baseline.is_some_and(|baseline| baseline.factor.is_none())
    };
    let all = file.rule_set()?;
    let (left_out, rules): (Vec<Rule>, Vec<Rule>) =
        all.rules().iter().map(|rule| Rule::clone(rule)).partition(needs_history);
    let left_out = left_out.into_iter().map(|rule| rule.name).collect();
    let rules = RuleSet::new(rules, file.overrides.clone());
    Ok((rules.map_err(|error| InputError(error.to_string()))?, left_out))
}

/// Returns the kinds of scopes that monitor counts: sources always.
fn kinds_with_source(kinds: &[ScopeKind]) -> Vec<ScopeKind> {
    let others = kinds.iter().copied().filter(|kind| *kind != ScopeKind::Source);
    std::iter::once(ScopeKind::Source).chain(others).collect()
}

fn judge(rules: &RuleSet, scope: &Scope, history: &History, from: i64, to: i64) -> Vec<Alert> {
    let rules = rules.for_scope(scope, Facts::default());
    let mut alerts = replay::replay(scope, &rules, history, to);
    alerts.retain(|alert| alert.at >= from);
    alerts
}

fn report(alerts: &[Alert], scopes: usize, left_out: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for alert in alerts {
        let severity = match alert.severity {
            Severity::Warning => "warning",
            Severity::Critical => "critical",
            Severity::Page => "page",
        };
        writeln!(
            out,
            "{}\t{}\t{severity}\t{}",
            crate::alerts::utc(alert.at),
            alert.state.as_str(),
            escape_line(alert.summary.as_bytes())
        )?;
    }
    let mut fired: BTreeMap<&str, u64> = BTreeMap::new();
    for alert in alerts.iter().filter(|it| it.seq == 1 && it.state == AlertState::Firing) {
        *fired.entry(&alert.rule).or_default() += 1;
    }
    let mut error = io::stderr().lock();
    for (rule, episodes) in &fired {
        writeln!(error, "{rule}: {episodes} episodes")?;
    }
    writeln!(error, "{} episodes in {scopes} scopes", fired.values().sum::<u64>())?;
    if !left_out.is_empty() {
        writeln!(error, "not tested, because they need a history: {}", left_out.join(", "))?;
    }
    Ok(())
}
