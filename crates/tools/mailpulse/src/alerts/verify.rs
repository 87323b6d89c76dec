//! `mailpulse alerts verify`: recomputes the numbers of alerts from the stored events.
//!
//! The counts come from SQL over the table `events`, not from the code of `monitor`: a fault of both would have to be
//! made twice to stay hidden.

mod counts;
mod formula;
mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use alerting::rule::Same;
use alerting::{RuleInForce, RuleSet};
use clickhouse::Row;
use serde::{Deserialize, Serialize};

use super::Stack;
use super::find::{Found, find};
use super::show::episodes_of;
use crate::Outcome;
use crate::args::VerifyAlerts;
use crate::database::{literal, time_literal};
use crate::rules::Monitor;
use crate::text::escape_line;
pub(crate) use counts::{CORRECTED_AT, COUNTED_AT, SENT_AT};
use stored::StoredEvents;

/// A row of the table `alerts`.
#[derive(Debug, Clone, Default, Row, Deserialize)]
struct Transition {
    episode_id: String,
    seq: u32,
    state: String,
    rule: String,
    scope: String,
    provider: String,
    source: String,
    mailbox_provider: String,
    campaign: String,
    sender_domain: String,
    sending_ip: String,
    tenant: String,
    basis: String,
    metric: String,
    window: String,
    numerator: u64,
    volume: u64,
    /// UTC microseconds.
    window_from: i64,
    /// UTC microseconds.
    window_to: i64,
    as_of: Vec<(u16, u64)>,
}

/// The result for one transition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
enum Verdict {
    /// The stored events give the numbers of the alert.
    Equal,
    /// They give other numbers.
    Different { numerator: u64, volume: u64 },
    /// The stored events cannot tell.
    Unverifiable { reason: String },
}

/// One line of the output in JSON. The field names are stable.
#[derive(Debug, Serialize)]
struct Line<'a> {
    episode_id: &'a str,
    seq: u32,
    rule: &'a str,
    alert_numerator: u64,
    alert_volume: u64,
    #[serde(flatten)]
    verdict: &'a Verdict,
}

/// How many transitions are read at once.
const PAGE: usize = 1000;

/// Verifies the transitions and prints one line for each.
///
/// # Errors
/// If nothing has the id, or a server cannot be reached.
pub(super) fn run(stack: &Stack, args: &VerifyAlerts) -> anyhow::Result<Outcome> {
    let condition = match &args.id {
        Some(id) => {
            let episodes = match find(stack, id)? {
                Found::Episode(id) => vec![id],
                Found::Incident(id) => episodes_of(stack, &id)?,
            };
            let ids: Vec<String> = episodes.iter().map(|id| literal(id)).collect();
            format!("episode_id IN ({})", ids.join(", "))
        }
        None => match args.since {
            Some(since) => format!("alerts.at >= {}", time_literal(since.as_microsecond())),
            None => "1".to_owned(),
        },
    };
    let stored = StoredEvents::read(stack)?;
    let by_weekday = rules_by_weekday(stack)?;
    let mut results: BTreeMap<&str, u64> = BTreeMap::new();
    let mut offset = 0;
    loop {
        let transitions = read(stack, &condition, offset)?;
        for transition in &transitions {
            let verdict = verify(stack, &stored, &by_weekday, transition)?;
            print(transition, &verdict, args.json)?;
            *results.entry(verdict.name()).or_default() += 1;
        }
        if transitions.len() < PAGE {
            break;
        }
        offset += PAGE;
    }
    let count = |name| results.get(name).copied().unwrap_or(0);
    let different = count("different");
    writeln!(
        io::stderr(),
        "{} equal, {different} different, {} unverifiable",
        count("equal"),
        count("unverifiable")
    )?;
    Ok(if different > 0 { Outcome::Incomplete } else { Outcome::Done })
}

fn read(stack: &Stack, condition: &str, offset: usize) -> anyhow::Result<Vec<Transition>> {
    let sql = format!(
        "SELECT episode_id, seq, state, rule, scope, provider, source, \
         mailbox_provider, campaign, sender_domain, sending_ip, tenant, basis, metric, window, \
         numerator, volume, toUnixTimestamp64Micro(alerts.window_from) AS window_from, \
         toUnixTimestamp64Micro(alerts.window_to) AS window_to, \
         CAST(alerts.as_of AS Array(Tuple(UInt16, UInt64))) AS as_of FROM alerts WHERE {condition} \
         ORDER BY kafka_partition, kafka_offset LIMIT {PAGE} OFFSET {offset}"
    );
    Ok(stack.database.rows(&sql, &[])?)
}

fn verify(
    stack: &Stack,
    stored: &StoredEvents,
    by_weekday: &BTreeSet<String>,
    transition: &Transition,
) -> anyhow::Result<Verdict> {
    if let Some(reason) =
        cannot_verify(transition, by_weekday).or_else(|| stored.not_yet(transition))
    {
        return Ok(Verdict::Unverifiable { reason });
    }
    let Some(sql) = counts::query(transition) else {
        let reason = format!("this release does not know the metric `{}`", transition.metric);
        return Ok(Verdict::Unverifiable { reason });
    };
    let rows: Vec<(u64, u64)> = stack.database.rows(&sql, &[])?;
    let (numerator, volume) = rows.first().copied().unwrap_or_default();
    let is_equal = (numerator, volume) == (transition.numerator, transition.volume);
    Ok(match stored.missing(transition, is_equal) {
        Some(reason) => Verdict::Unverifiable { reason },
        None if is_equal => Verdict::Equal,
        None => Verdict::Different { numerator, volume },
    })
}

/// Returns the names of the rules that compare with the same weekday: those of the settings, and the default rule,
/// which older alerts can be about.
fn rules_by_weekday(stack: &Stack) -> anyhow::Result<BTreeSet<String>> {
    let of_settings = Monitor::of(&stack.settings)?.rule_set()?;
    let defaults = RuleSet::defaults();
    let all = of_settings.rules().iter().chain(defaults.rules());
    let is_by_weekday =
        |rule: &&RuleInForce| rule.baseline.is_some_and(|baseline| baseline.same == Same::Weekday);
    Ok(all.filter(is_by_weekday).map(|rule| rule.name.clone()).collect())
}

/// Returns why the events of a transition are not known, whatever is stored.
fn cannot_verify(transition: &Transition, by_weekday: &BTreeSet<String>) -> Option<String> {
    let names = [
        &transition.mailbox_provider,
        &transition.campaign,
        &transition.sender_domain,
        &transition.sending_ip,
        &transition.tenant,
    ];
    let reason = if transition.as_of.is_empty() {
        "an earlier release wrote the alert, without the offsets of its events"
    } else if transition.basis == "gap" {
        "a silence has no events to count, and whether it is unusual depends on the four weeks before, of which monitor \
         keeps the counts"
    } else if by_weekday.contains(&transition.rule) {
        "the rule counts what happened within two hours after the hour of sending, in hours that monitor has added up \
         at their time, and compares that with four weeks of which monitor keeps the counts"
    } else if names.into_iter().any(|name| name == window::Scope::OTHER) {
        "the scope has the events of all scopes beyond monitor.max_scopes_per_source, which are not marked"
    } else {
        return None;
    };
    Some(reason.to_owned())
}

fn print(transition: &Transition, verdict: &Verdict, json: bool) -> io::Result<()> {
    let Transition { episode_id, seq, rule, numerator, volume, .. } = transition;
    let mut out = io::stdout().lock();
    if json {
        let (alert_numerator, alert_volume) = (*numerator, *volume);
        let line = Line { episode_id, seq: *seq, rule, alert_numerator, alert_volume, verdict };
        serde_json::to_writer(&mut out, &line)?;
        return writeln!(out);
    }
    let what = match verdict {
        Verdict::Equal => format!("{numerator} of {volume}"),
        Verdict::Different { numerator: stored, volume: of } => {
            format!("the alert has {numerator} of {volume}, the stored events {stored} of {of}")
        }
        Verdict::Unverifiable { reason } => format!("{numerator} of {volume}: {reason}"),
    };
    writeln!(
        out,
        "{}\t{}\t{seq}\t{}\t{}\t{}\t{}\t{what}",
        verdict.name(),
        episode_id.get(..16).unwrap_or(episode_id),
        transition.state,
        escape_line(rule.as_bytes()),
        escape_line(transition.scope_text().as_bytes()),
        transition.window,
    )
}

impl Verdict {
    const fn name(&self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Different { .. } => "different",
            Self::Unverifiable { .. } => "unverifiable",
        }
    }
}

impl Transition {
    /// Returns the columns of `events` whose values the scope demands, with the values.
    fn dimensions(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("provider", &self.provider),
            ("source", &self.source),
            ("mailbox_provider", &self.mailbox_provider),
            ("campaign", &self.campaign),
            ("sender_domain", &self.sender_domain),
            ("sending_ip", &self.sending_ip),
            ("tenant", &self.tenant),
        ];
        all.into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name, &**value))
            .collect()
    }

    /// Returns the kind and the values of the scope.
    fn scope_text(&self) -> String {
        let values = self.dimensions().into_iter().map(|(_, value)| value);
        std::iter::once(&*self.scope).chain(values).collect::<Vec<_>>().join("/")
    }
}
