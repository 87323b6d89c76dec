//! Tells whether a difference proves that something is wrong.

use std::collections::BTreeMap;
use std::rc::Rc;

use alerting::rule::{Rule, RuleWindow, Test};
use alerting::{AlertState, EpisodeId, ResolveReason};
use kafka::positions::Position;
use monitor::Recomputation;
use window::Scope;

use super::comparison::{Comparison, Difference};
use super::recorded::Transition;
use crate::alerts::utc;

/// In microseconds.
const HOUR: i64 = 3_600_000_000;

/// Whether a source delivers is known from the last 25 hours, and complaints are compared with the mail of a day. One
/// hour more is for events whose time was ahead when they came.
const KNOWN_AFTER: i64 = 26 * HOUR;

/// What was read of `mail.panes`.
pub(super) struct PaneLog {
    topic: String,
    partitions: BTreeMap<i32, PanePartition>,
}

#[derive(Debug, Default)]
struct PanePartition {
    /// How far monitor had read the partition.
    position: Option<Position>,
    records: u64,
    records_before_position: u64,
    last_offset: i64,
    /// The first offset before the reading, and after it.
    first_offsets: (i64, i64),
}

impl PanePartition {
    fn next(&self) -> i64 {
        self.position.as_ref().map_or(0, |it| it.next.0)
    }
}

impl PaneLog {
    pub(super) fn new(topic: String, positions: BTreeMap<i32, Position>) -> Self {
        let partition = |position| PanePartition { position: Some(position), ..Default::default() };
        let partitions = positions.into_iter().map(|(number, it)| (number, partition(it)));
        Self { topic, partitions: partitions.collect() }
    }

    pub(super) fn count(&mut self, partition: i32, offset: i64) {
        let of_partition = self.partitions.entry(partition).or_default();
        of_partition.records += 1;
        of_partition.last_offset = offset;
        if offset < of_partition.next() {
            of_partition.records_before_position += 1;
        }
    }

    pub(super) fn last_offset(&self, partition: i32) -> i64 {
        self.partitions.get(&partition).map_or(0, |it| it.last_offset)
    }

    pub(super) fn set_first_offsets(&mut self, partition: i32, before: i64, after: i64) {
        self.partitions.entry(partition).or_default().first_offsets = (before, after);
    }

    pub(super) fn records(&self) -> u64 {
        self.partitions.values().map(|it| it.records).sum()
    }
}

/// What is known about the alerts and panes that were read.
pub(super) struct Grounds {
    pub(super) recomputation: Recomputation,
    pub(super) panes: PaneLog,
    /// See [`RecordedAlerts::clocks`](super::recorded::RecordedAlerts::clocks).
    pub(super) clocks: Option<BTreeMap<i32, i64>>,
}

impl Grounds {
    /// Returns why a difference proves nothing, or `None` if the alert should be the same.
    pub(super) fn doubt(&self, difference: &Difference<'_>, all: &Comparison) -> Option<String> {
        let Difference { scope, recorded, recomputed, .. } = *difference;
        let number = self.recomputation.partition_of(scope);
        let unread = PanePartition::default();
        let partition = self.panes.partitions.get(&number).unwrap_or(&unread);
        let name = format!("{}/{number}", self.panes.topic);
        let transition = match (recorded, recomputed) {
            // No release has written anything but alerts there.
            (Some(recorded), _) => recorded.transition.clone()?,
            (None, Some(unequal)) => {
                if unequal.offset >= partition.next() {
                    return Some(format!(
                        "monitor had not read {name} up to offset {}, from which the alert follows",
                        unequal.offset
                    ));
                }
                if self.may_have_expired(number, unequal.alert.clock) {
                    return Some("mail.alerts no longer has the alerts of that time".to_owned());
                }
                unequal.transition()
            }
            (None, None) => return None,
        };
        if !transition.has_offsets {
            return Some(
                "an earlier release wrote the alert, without the offsets of its events".to_owned(),
            );
        }
        let rule = Scope::parse(scope)
            .ok()
            .and_then(|scope| self.recomputation.rule(&scope, &transition.rule));
        let Some(rule) = rule else {
            return Some(format!("the settings have no rule `{}` for this scope", transition.rule));
        };
        if self.recomputation.has_joined(scope) {
            return Some(
                "monitor has joined scopes beyond monitor.max_scopes_per_source, and which ones depends on the \
                 memory of its members"
                    .to_owned(),
            );
        }
        let (first, after) = partition.first_offsets;
        if first != after {
            return Some(format!("records of {name} expired while it was read; run this again"));
        }
        if first == 0 {
            return partition.rests_on_others(&name);
        }
        let gone = format!("{name} no longer has the records before offset {first}");
        match self.verifiable_after(number, scope, &rule, all) {
            None => Some(format!(
                "{gone}, and the rule needs what happened before, or its episode was open then"
            )),
            Some(time) if transition.started_at <= time => Some(format!(
                "{gone}; episodes of this rule that begin after {} can be verified",
                utc(time)
            )),
            Some(_) => None,
        }
    }

    /// Returns whether an alert that was published at this time of the shard's clock may be older than `mail.alerts`.
    fn may_have_expired(&self, partition: i32, clock: Option<i64>) -> bool {
        let Some(clocks) = &self.clocks else { return false };
        let first = clocks.get(&partition);
        first.is_none_or(|first| clock.is_none_or(|clock| clock <= *first))
    }

    /// Returns the time after which episodes of a rule follow from the panes that are left: the windows of the rule
    /// have lost what was counted before, and no episode is open that began with other counts. `None` if there is no
    /// such time.
    fn verifiable_after(
        &self,
        partition: i32,
        scope: &str,
        rule: &Rule,
        all: &Comparison,
    ) -> Option<i64> {
        if needs_all(rule) {
            return None;
        }
        let complete = self.recomputation.complete_after(partition)?;
        let hold = Rule::SEVERITIES.into_iter().map(|it| rule.hold.of(it).micros()).max();
        // An episode that was pending has fired by then, or is forgotten.
        let begin = complete + rule.longest().max(KNOWN_AFTER) + hold.unwrap_or(0);
        let mut ends: BTreeMap<EpisodeId, Option<i64>> = BTreeMap::new();
        let of_rule = |it: &Transition| it.rule == Rc::from(rule.name.as_str());
        for it in all.transitions(scope).filter(of_rule).filter(|it| it.started_at <= begin) {
            let end = ends.entry(it.episode).or_default();
            if it.state == AlertState::Resolved {
                *end = Some(end.unwrap_or(i64::MIN).max(free_after(&it, rule)));
            }
        }
        ends.into_values().try_fold(begin, |latest, end| Some(latest.max(end?)))
    }
}

impl PanePartition {
    /// Returns a text if monitor has not read exactly the records that are there.
    fn rests_on_others(&self, name: &str) -> Option<String> {
        let Position { next, ledger, .. } = self.position.as_ref()?;
        let here = self.records_before_position;
        (ledger.read != here).then(|| {
            format!(
                "monitor has read {} records of {name} up to offset {next}, where {here} are: its state rests on \
                 others, or some were skipped",
                ledger.read
            )
        })
    }
}

/// Returns when an episode no longer affects the next one of its rule. One that has not recovered keeps its windows
/// from opening another.
fn free_after(resolved: &Transition, rule: &Rule) -> i64 {
    match resolved.reason {
        Some(ResolveReason::Recovered) => resolved.at,
        _ => resolved.at.saturating_add(rule.longest()),
    }
}

/// Returns whether a rule depends on more than its windows: on a history, or on when a campaign began.
fn needs_all(rule: &Rule) -> bool {
    matches!(rule.test, Test::Burst | Test::Gap | Test::Missing)
        || rule.baseline.is_some()
        || rule.windows.contains(&RuleWindow::Campaign)
}
