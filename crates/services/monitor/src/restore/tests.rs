mod cases;
mod histories;
mod order;

use std::collections::BTreeMap;

use alerting::rule::Rule;
use alerting::{Alert, AsOf, RuleSet};
use event::Counter::{BouncedHard, Delivered, Opened};
use event::OccurredAt;
use proptest::prelude::*;
use serde_json::json;
use window::{Counts, HourStart, PaneStart, Scope, ScopeError, ScopeRate, Width};

use super::*;
use crate::clock::ClockSettings;
use crate::commit::KeyedDelta;
use crate::history::Zones;
use crate::scope_state::Counted;
use crate::settings::Publish;
use crate::shard::{DeltaOutcome, Transitions};
use crate::watermarks::{Activity, PartitionProgress, Watermarks};

const SECOND: i64 = 1_000_000;

/// The sources and campaigns of the property test.
const SCOPES: [&str; 3] = ["source/ses/s0", "source/ses/s1", "campaign/ses/s0/sale"];

fn settings(rules: Vec<Rule>) -> ShardSettings {
    let clock =
        ClockSettings { event_partitions: 2, slack: 60 * SECOND, out_of_orderness: 5 * SECOND };
    ShardSettings {
        rules: RuleSet::new(rules, Vec::new()).unwrap(),
        publish: Publish::All,
        clock,
        zones: Zones::default(),
        scopes_per_source: 2,
        memory_is_full: false,
    }
}

/// Returns a rule for which a few messages are enough evidence.
fn rule(name: &str) -> Rule {
    let rule = json!({
        "name": name, "metric": "bounce", "warning": 0.4, "critical": 0.6, "min_volume": 2,
        "windows": ["1m", "5m"], "confidence": 0.5,
        "hold": {"warning": "0s", "critical": "0s", "page": "0s"},
        "resolve": {"below": 1.0, "for": "45s"},
    });
    serde_json::from_value(rule).unwrap()
}

/// Returns rules of every basis that the counts of a shard decide, with and without a hold.
fn rules() -> Vec<Rule> {
    let held = json!({
        "name": "held", "metric": "bounce", "warning": 0.3, "page": 0.8, "min_volume": 3,
        "windows": ["1m", "60m"], "confidence": 0.5,
        "hold": {"warning": "20s", "critical": "20s", "page": "0s"},
        "resolve": {"below": 0.8, "for": "2m"},
    });
    let stop = json!({
        "name": "stop", "metric": "hard_bounce", "basis": "campaign", "test": "e_value",
        "warning": 0.05, "critical": 0.2, "confidence": 0.1,
        "resolve": {"below": 0.8, "for": "5m"},
    });
    let opens = json!({
        "name": "opens", "metric": "open", "basis": "cohort", "windows": ["2h"], "direction": "under",
        "warning": 0.5, "min_volume": 4, "confidence": 0.5, "resolve": {"below": 0.8, "for": "1m"},
    });
    let others = [held, stop, opens].map(|rule| serde_json::from_value(rule).unwrap());
    [rule("bounces")].into_iter().chain(others).collect()
}

fn watermark(partition: i32, second: i64, activity: Activity) -> Watermarks {
    let progress = PartitionProgress { watermark: Some(second * SECOND), activity };
    Watermarks([(partition, progress)].into())
}

/// Returns deliveries and bounces of a second; fewer than 0 are corrections.
fn delta(scope: &str, second: i64, delivered: i64, bounced: i64) -> KeyedDelta {
    let counts = Counts::of([(Delivered, delivered), (BouncedHard, bounced)]);
    keyed(scope, second, second, counts)
}

fn keyed(scope: &str, second: i64, sent: i64, counts: Counts) -> KeyedDelta {
    KeyedDelta {
        scope: scope.to_owned(),
        pane: PaneStart::of(OccurredAt(second * SECOND)),
        cohort: Some(HourStart::of(OccurredAt(sent * SECOND))),
        counts,
    }
}

/// A record of `mail.panes`.
#[derive(Debug, Clone)]
enum Input {
    /// A part of a commit.
    Part(CommitPart),
    /// A record of an earlier release: counts.
    Delta(KeyedDelta),
    /// A record of an earlier release: an event partition, its watermark in seconds and its activity.
    Watermark(i32, i64, Activity),
}

/// A shard, everything it has published, and its compacted changelog.
#[derive(Default)]
struct Run {
    shard: Shard,
    rates: Vec<ScopeRate>,
    alerts: Vec<Alert>,
    late: [u64; 3],
    changelog: BTreeMap<String, Vec<u8>>,
}

impl Run {
    fn process_batch(&mut self, records: &[Input], settings: &ShardSettings) {
        let mut transitions = Transitions::default();
        let late = &mut self.late;
        let mut count = |outcome: DeltaOutcome| {
            if let DeltaOutcome::Counted(Counted { late: events, .. }) = outcome {
                late.iter_mut().zip(events).for_each(|(all, late)| *all += late);
            }
        };
        for record in records {
            match record {
                Input::Part(part) => {
                    let counted = |outcome, _: &KeyedDelta| {
                        count(outcome);
                        Ok::<_, ScopeError>(())
                    };
                    let (part, out) = (part.clone(), &mut transitions);
                    self.shard.receive_part(part, settings, out, counted).unwrap();
                }
                Input::Delta(KeyedDelta { scope, pane, cohort, counts }) => {
                    count(self.shard.apply(scope, *pane, *cohort, counts, settings).unwrap());
                    self.shard.receive(&Watermarks::default(), settings, &mut transitions);
                }
                Input::Watermark(partition, second, activity) => {
                    let watermarks = watermark(*partition, *second, *activity);
                    self.shard.receive(&watermarks, settings, &mut transitions);
                }
            }
        }
        self.shard.advance_due(settings, &mut transitions);
        self.rates.extend(transitions.windows.into_iter().map(|(key, rate)| {
            assert_eq!(*key, rate.scope.key());
            rate
        }));
        self.alerts.extend(transitions.alerts);
        for (key, value) in self.shard.changelog_records().unwrap() {
            match value {
                Some(value) => self.changelog.insert(key, value),
                None => self.changelog.remove(&key),
            };
        }
    }

    /// Returns what was published, sorted by scope, because only the order within a scope is
    /// defined.
    fn published(&self) -> (Vec<&ScopeRate>, Vec<&Alert>) {
        let mut published: (Vec<_>, Vec<_>) =
            (self.rates.iter().collect(), self.alerts.iter().collect());
        published.0.sort_by_key(|rate| &rate.scope);
        published.1.sort_by_key(|alert| &alert.scope);
        published
    }

    fn restart(&mut self, settings: &ShardSettings) {
        let mut restore = ShardRestore::default();
        for (key, value) in &self.changelog {
            restore.apply(key.as_bytes(), Some(value)).unwrap();
        }
        assert_eq!(restore.commits(), self.shard.commits());
        self.shard = restore.finish(settings).unwrap();
    }
}

fn deltas() -> impl Strategy<Value = Vec<KeyedDelta>> {
    let sent = (prop::sample::select(&SCOPES), 0..900_i64, 0..6_i64, -2..6_i64)
        .prop_map(|(scope, at, good, bad)| delta(scope, at, good, bad));
    let opened = (prop::sample::select(&SCOPES), 0..900_i64, -9000..900_i64)
        .prop_map(|(scope, at, sent)| keyed(scope, at, sent, Counts::of([(Opened, 1)])));
    prop::collection::vec(prop_oneof![4 => sent, 1 => opened], 0..4)
}

fn activity() -> impl Strategy<Value = Activity> {
    prop_oneof![4 => Just(Activity::Active), 1 => Just(Activity::Idle), 1 => Just(Activity::Gone)]
}

/// Returns the records of a member of fold that owns one event partition: commits of one to three parts, some
/// of them without an event or without a watermark.
fn member(partition: i32) -> impl Strategy<Value = Vec<Input>> {
    let watermark = (0..900_i64, activity())
        .prop_map(move |(second, activity)| watermark(partition, second, activity));
    let watermark = prop_oneof![2 => watermark, 1 => Just(Watermarks::default())];
    let commit = (prop::collection::vec(deltas(), 1..4), 0..3_i64, watermark);
    prop::collection::vec(commit, 0..12).prop_map(move |commits| {
        let mut next_offset = 0;
        commits
            .into_iter()
            .flat_map(|(parts, events, watermarks)| {
                next_offset += events;
                let as_of =
                    AsOf((events > 0).then_some((partition, next_offset)).into_iter().collect());
                let last =
                    CommitPart { from: partition, as_of, watermarks, ..CommitPart::default() };
                parts_of(parts, &last)
            })
            .collect()
    })
}

/// Returns the records of a commit.
fn parts_of(parts: Vec<Vec<KeyedDelta>>, last: &CommitPart) -> Vec<Input> {
    let number = u32::try_from(parts.len()).unwrap();
    let parts = (0..).zip(parts).map(|(part, deltas)| match part + 1 == number {
        true => CommitPart { part, parts: number, deltas, ..last.clone() },
        false => {
            CommitPart { from: last.from, part, parts: number, deltas, ..CommitPart::default() }
        }
    });
    parts.map(Input::Part).collect()
}

/// Returns records that belong to no commit of a member: those of an earlier release, and deltas that another
/// shard has passed on.
fn others() -> impl Strategy<Value = Vec<Input>> {
    let passed_on = deltas().prop_map(|deltas| {
        Input::Part(CommitPart { from: -1, parts: 1, deltas, ..CommitPart::default() })
    });
    let old =
        deltas().prop_filter_map("a delta", |deltas| deltas.into_iter().next().map(Input::Delta));
    let old_watermark = (0..2_i32, 0..900_i64, activity())
        .prop_map(|(partition, at, activity)| Input::Watermark(partition, at, activity));
    prop::collection::vec(prop_oneof![passed_on, old, old_watermark], 0..12)
}

/// Returns the records of a partition of `mail.panes`: those of two members of fold and others, each in their
/// order, mixed as `turns` tells.
fn log() -> impl Strategy<Value = Vec<Input>> {
    let turns = prop::collection::vec(0..3_usize, 100);
    (member(0), member(1), others(), turns).prop_map(|(first, second, others, turns)| {
        let mut streams = [first, second, others].map(std::collections::VecDeque::from);
        let mut log: Vec<_> =
            turns.into_iter().filter_map(|turn| streams[turn].pop_front()).collect();
        log.extend(streams.into_iter().flatten());
        log
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A crash after any commit of rate, also between the parts of a commit of fold, does not change what is
    /// published afterwards for any scope, and all state expires in the end.
    #[test]
    fn published_records_do_not_depend_on_restarts(
        log in log(),
        sizes in prop::collection::vec((1..8_usize, any::<bool>()), 1..100),
        publish in prop_oneof![Just(Publish::All), Just(Publish::Changes)],
    ) {
        let settings = ShardSettings { publish, scopes_per_source: 9, ..settings(rules()) };
        let mut rest = &log[..];
        let mut batches = Vec::new();
        for (size, crashes) in sizes.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (batch, after) = rest.split_at(size.min(rest.len()));
            batches.push((batch.to_vec(), crashes));
            rest = after;
        }
        // Close all windows, end all episodes, and expire all panes, cohorts and histories.
        for end in [900, 6000, 10 * 86_400, 20 * 86_400, 60 * 86_400] {
            let watermarks = (0..2).map(|p| Input::Watermark(p, end, Activity::Active));
            batches.push((watermarks.collect(), true));
        }
        let (mut steady, mut crashing) = (Run::default(), Run::default());
        for (records, crashes) in batches {
            steady.process_batch(&records, &settings);
            crashing.process_batch(&records, &settings);
            prop_assert_eq!(steady.published(), crashing.published());
            prop_assert_eq!(steady.late, crashing.late);
            prop_assert_eq!(&steady.changelog, &crashing.changelog);
            if crashes {
                crashing.restart(&settings);
            }
        }
        let texts = |(key, value): (&String, &Vec<u8>)| format!("{key}: {}", String::from_utf8_lossy(value));
        let left: Vec<_> = steady.changelog.iter().map(texts).collect();
        prop_assert_eq!(steady.shard.len(), 0, "{:#?}", left);
        prop_assert_eq!(steady.shard.bytes(), 0);
        let left = steady.changelog.keys().filter(|key| !key.starts_with("deliveries/"));
        prop_assert_eq!(left.collect::<Vec<_>>(), ["mark"]);
    }
}
