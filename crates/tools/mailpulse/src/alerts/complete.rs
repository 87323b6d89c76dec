//! `mailpulse alerts verify --complete`: looks for breaches without an episode.
//!
//! The windows are recomputed from the table `events` with code of their own, not from what monitor published. The
//! verdict about a window is that of the crate `alerting`.

mod episodes;
mod windows;

use std::collections::BTreeMap;
use std::io::{self, Write};

use alerting::rule::{Rule, RuleWindow, Test};
use alerting::{Facts, RuleInForce, RuleSet, Severity, breach};
use serde::Serialize;
use window::{PANE, Scope, ScopeKind};

use super::{Stack, utc};
use crate::args::VerifyAlerts;
use crate::history::{History, LEAD, Wanted, kinds_with_source};
use crate::rules::Monitor;
use crate::text::escape_line;
use crate::{InputError, Outcome};
use episodes::Episodes;
use windows::Windows;

/// A time during which a rule was broken, and no episode was open. The field names are stable.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Missing {
    rule: String,
    scope: String,
    severity: Severity,
    /// The ends of the first and the last broken window, in UTC microseconds.
    from: i64,
    to: i64,
}

/// What was looked at.
#[derive(Debug, Default)]
struct Seen {
    scopes: u64,
    windows: u64,
    broken: u64,
    missing: Vec<Missing>,
}

/// Prints every breach without an episode.
///
/// # Errors
/// If the times are invalid, or ClickHouse cannot be reached.
pub(super) fn run(stack: &Stack, args: &VerifyAlerts) -> anyhow::Result<Outcome> {
    let bound = i64::try_from(args.bound.as_micros())?;
    let latest = crate::now().as_microsecond().saturating_sub(bound);
    let to = args.to.map_or(latest, |to| to.as_microsecond().min(latest));
    let from = args.from.map_or(to, |from| from.as_microsecond());
    if from >= to {
        let text = "--from must be before --to, and before the present by more than the bound";
        return Err(InputError(text.to_owned()).into());
    }
    let monitor = Monitor::of(&stack.settings)?;
    let (rules, unchecked) = checkable(&monitor)?;
    let episodes = Episodes::read(stack, from)?;
    let check = Check { rules, episodes, from, to, bound };
    let wanted = Wanted { from, to, source: args.source.as_deref(), bound: Some(bound) };
    let mut seen = Seen::default();
    // The rates of a scope are known if its source delivers messages.
    let mut delivered: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for kind in kinds_with_source(&monitor.scopes.unwrap_or_default()) {
        History::for_each_scope(&stack.database, kind, &wanted, |scope, history| {
            let mut windows = Windows::new(&history, kind.has_cohorts());
            let of_source = source_of(&scope);
            if kind == ScopeKind::Source {
                delivered.insert(scope.key(), windows.delivered().to_vec());
            } else if let Some(times) = of_source.and_then(|source| delivered.get(&source)) {
                windows.of_source(times);
            }
            check.scope(&scope, &mut windows, &mut seen);
        })?;
    }
    report(&seen, &unchecked, args.json)?;
    Ok(if seen.missing.is_empty() { Outcome::Done } else { Outcome::Incomplete })
}

/// Returns the key of the source of a scope.
fn source_of(scope: &Scope) -> Option<String> {
    let (provider, source) = (scope.provider()?, scope.source()?);
    Scope::new(ScopeKind::Source, provider, source, |_| None).map(|scope| scope.key())
}

/// Returns the rules whose windows can be recomputed, and the names of the others.
fn checkable(monitor: &Monitor) -> anyhow::Result<(RuleSet, Vec<String>)> {
    let is_unknown = |rule: &Rule| {
        matches!(rule.test, Test::Burst | Test::Gap | Test::Missing)
            || rule.baseline.is_some()
            || rule.windows.contains(&RuleWindow::Campaign)
            || rule.longest() >= LEAD
    };
    let all = monitor.rule_set()?;
    let (unchecked, rules): (Vec<Rule>, Vec<Rule>) =
        all.rules().iter().map(|rule| Rule::clone(rule)).partition(is_unknown);
    let unchecked = unchecked.into_iter().map(|rule| rule.name).collect();
    let rules = RuleSet::new(rules, monitor.overrides.clone());
    Ok((rules.map_err(|error| InputError(error.to_string()))?, unchecked))
}

struct Check {
    rules: RuleSet,
    episodes: Episodes,
    from: i64,
    to: i64,
    bound: i64,
}

/// Since which window end a rule has been broken with at least this severity.
type Since = [Option<i64>; 3];

impl Check {
    /// Judges every window end at which the counts of a scope differ from those before.
    fn scope(&self, scope: &Scope, windows: &mut Windows<'_>, seen: &mut Seen) {
        let rules = self.rules.for_scope(scope, Facts::default());
        if rules.is_empty() {
            return;
        }
        seen.scopes += 1;
        let mut since: Vec<Since> = vec![Since::default(); rules.len()];
        for end in windows.ends(self.from, self.to) {
            windows.advance(end);
            for (rule, since) in rules.iter().zip(&mut since) {
                let level = breach(rule, windows);
                seen.windows += 1;
                seen.broken += u64::from(level.is_some());
                self.step(scope, rule, since, level, end, &mut seen.missing);
            }
        }
        for (rule, since) in rules.iter().zip(&mut since) {
            self.step(scope, rule, since, None, self.to, &mut seen.missing);
        }
    }

    /// Keeps since when the rule has been broken, and at the end of a breach, adds it if it is missing.
    fn step(
        &self,
        scope: &Scope,
        rule: &RuleInForce,
        since: &mut Since,
        level: Option<Severity>,
        end: i64,
        missing: &mut Vec<Missing>,
    ) {
        // The highest severity first: a breach is reported once.
        for severity in Rule::SEVERITIES {
            let Some(since) = since.get_mut(severity as usize) else { continue };
            if level.is_some_and(|level| level >= severity) {
                since.get_or_insert(end);
                continue;
            }
            let Some(first) = since.take() else { continue };
            let last = end - PANE;
            let due = first + rule.hold.of(severity).micros() + self.bound;
            let is_known = || self.episodes.has(rule, scope, first, due);
            let is_new = || {
                missing.last().is_none_or(|it| {
                    it.rule != rule.name || it.scope != scope.key() || it.to < first
                })
            };
            if rule.threshold(severity).is_some() && last >= due && !is_known() && is_new() {
                let (rule, scope) = (rule.name.clone(), scope.key());
                missing.push(Missing { rule, scope, severity, from: first, to: last });
            }
        }
    }
}

fn report(seen: &Seen, unchecked: &[String], json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for missing in &seen.missing {
        if json {
            serde_json::to_writer(&mut out, missing)?;
            writeln!(out)?;
            continue;
        }
        let Missing { rule, scope, severity, from, to } = missing;
        writeln!(
            out,
            "missing\t{}\t{}\t{}\t{}\t{}",
            utc(*from),
            utc(*to),
            severity.as_str(),
            escape_line(rule.as_bytes()),
            escape_line(scope.as_bytes())
        )?;
    }
    let mut error = io::stderr().lock();
    writeln!(
        error,
        "{} windows in {} scopes recomputed: {} are broken, {} breaches have no episode",
        seen.windows,
        seen.scopes,
        seen.broken,
        seen.missing.len()
    )?;
    if !unchecked.is_empty() {
        writeln!(
            error,
            "not checked, because they need a history or the beginning of a campaign: {}",
            unchecked.join(", ")
        )?;
    }
    Ok(())
}
