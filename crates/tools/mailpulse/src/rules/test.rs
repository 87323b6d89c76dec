//! `mailpulse rules test`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use alerting::rule::{Rule, Test};
use alerting::{Alert, AlertState, Facts, RuleSet, Severity};
use service::Settings;
use window::Scope;

use super::plot::{Plot, Plots};
use super::{Monitor, plot, replay};
use crate::args::TestRules;
use crate::database::Database;
use crate::history::{History, Wanted, kinds_with_source};
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
    let (rules, left_out) = testable(&file, args.rule.as_deref().unwrap_or(""))?;
    let kinds = file.scopes.or(of_settings.scopes).unwrap_or_default();
    let database = Database::open(&settings)?;
    let only = args.scope.as_deref().map(Scope::parse).transpose();
    let only = only.map_err(|error| InputError(error.to_string()))?;
    let tested = Tested { rules, from, to, is_chosen: only.is_some() || args.rule.is_some() };
    let mut alerts = Vec::new();
    let mut scopes = 0_usize;
    let mut plots = Plots::default();
    let wanted = Wanted { from, to, source: args.source.as_deref(), bound: None };
    for kind in kinds_with_source(&kinds) {
        if only.as_ref().is_some_and(|only| only.kind() != kind) {
            continue;
        }
        History::for_each_scope(&database, kind, &wanted, |scope, history| {
            if only.as_ref().is_some_and(|only| *only != scope) {
                return;
            }
            scopes += 1;
            let of_scope = tested.judge(&scope, &history);
            if args.plot.is_some() {
                tested.plot(&scope, &history, &of_scope, &mut plots);
            }
            alerts.extend(of_scope);
        })?;
    }
    alerts.sort_by(|a, b| (a.at, a.scope.key(), &a.rule).cmp(&(b.at, b.scope.key(), &b.rule)));
    report(&alerts, scopes, &left_out)?;
    if let Some(file) = &args.plot {
        plots.draw(file.as_deref())?;
    }
    Ok(Outcome::Done)
}

/// The rules and the time of a test.
struct Tested {
    rules: RuleSet,
    from: i64,
    to: i64,
    /// Whether a rule or scope was named, which is then plotted although it has not fired.
    is_chosen: bool,
}

impl Tested {
    fn judge(&self, scope: &Scope, history: &History) -> Vec<Alert> {
        let rules = self.rules.for_scope(scope, Facts::default());
        let mut alerts = replay::replay(scope, &rules, history, self.to);
        alerts.retain(|alert| alert.at >= self.from);
        alerts
    }

    /// Plots the rules that have fired in a scope, each in the window of its first episode.
    fn plot(&self, scope: &Scope, history: &History, alerts: &[Alert], plots: &mut Plots) {
        let (from, to) = (self.from, self.to);
        for rule in self.rules.for_scope(scope, Facts::default()) {
            let of_rule: Vec<&Alert> = alerts.iter().filter(|it| it.rule == rule.name).collect();
            let fired = of_rule.first().map(|alert| &*alert.width);
            let of_alert = rule.windows.iter().find(|it| Some(&*it.to_string()) == fired);
            let chosen = rule.windows.first().filter(|_| self.is_chosen);
            let Some(window) = of_alert.or(chosen).copied() else { continue };
            plots.add(|| {
                let mut looks = replay::looks(scope, &rule, window, history, to);
                looks.retain(|look| look.at >= from);
                let episodes = plot::episodes(&of_rule, to);
                Plot { rule: rule.clone(), scope: scope.clone(), window, looks, episodes, from, to }
            });
        }
    }
}

/// Returns the rules whose name contains `name` and that the stored counts suffice for, and the names of the others.
fn testable(file: &Monitor, name: &str) -> anyhow::Result<(RuleSet, Vec<String>)> {
    let needs_history = |rule: &Rule| {
        matches!(rule.test, Test::Burst | Test::Gap | Test::Missing)
            || rule.baseline.is_some_and(|baseline| baseline.factor.is_none())
    };
    let all = file.rule_set()?;
    let named = all.rules().iter().filter(|rule| rule.name.contains(name));
    let (left_out, rules): (Vec<Rule>, Vec<Rule>) =
        named.map(|rule| Rule::clone(rule)).partition(needs_history);
    let left_out = left_out.into_iter().map(|rule| rule.name).collect();
    let rules = RuleSet::new(rules, file.overrides.clone());
    Ok((rules.map_err(|error| InputError(error.to_string()))?, left_out))
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
