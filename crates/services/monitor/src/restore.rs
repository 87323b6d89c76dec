//! Restores a shard from its changelog.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use window::{OpenEpisodes, Pane, PaneStart};

use crate::changelog::{ChangelogKey, LastCommit};
use crate::shard::{Shard, ShardSettings};

/// The state of a shard as of the changelog records read so far.
#[derive(Default)]
pub(crate) struct ShardRestore {
    /// By scope key.
    scopes: BTreeMap<String, ScopeState>,
    last_commit: LastCommit,
}

#[derive(Default)]
struct ScopeState {
    panes: BTreeMap<PaneStart, Pane>,
    episodes: OpenEpisodes,
}

impl ShardRestore {
    /// Applies one record of the changelog. A record without a value is a tombstone.
    pub(crate) fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), kafka::Error> {
        match ChangelogKey::parse(key).map_err(kafka::Error::state)? {
            ChangelogKey::Pane(start, scope) => {
                let panes = &mut self.scope_state(scope).panes;
                match read(value)? {
                    Some(pane) => panes.insert(start, pane),
                    None => panes.remove(&start),
                };
            }
            ChangelogKey::Episodes(scope) => {
                self.scope_state(scope).episodes = read(value)?.unwrap_or_default()
            }
            ChangelogKey::LastCommit => self.last_commit = read(value)?.unwrap_or_default(),
        }
        Ok(())
    }

    fn scope_state(&mut self, key: &str) -> &mut ScopeState {
        self.scopes.entry(key.to_owned()).or_default()
    }

    /// Returns the number of commits; see [`LastCommit::commits`].
    pub(crate) fn commits(&self) -> u64 {
        self.last_commit.commits
    }

    /// Returns the shard as of its last commit.
    pub(crate) fn finish(self, settings: &ShardSettings) -> Result<Shard, kafka::Error> {
        let mut shard = Shard::new(self.last_commit);
        for (key, ScopeState { panes, episodes }) in self.scopes {
            if !(panes.is_empty() && episodes.is_empty()) {
                let panes = panes.into_values();
                shard
                    .restore_scope(&key, panes, episodes, settings)
                    .map_err(kafka::Error::state)?;
            }
        }
        Ok(shard)
    }
}

fn read<T: DeserializeOwned>(value: Option<&[u8]>) -> Result<Option<T>, kafka::Error> {
    value.map(serde_json::from_slice).transpose().map_err(kafka::Error::state)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use event::OccurredAt;
    use proptest::prelude::*;
    use window::{Alert, Counts, Direction, Metric, Rule, Scope, ScopeRate, Width};

    use super::*;
    use crate::clock::ClockSettings;
    use crate::shard::{DeltaOutcome, Transitions};
    use crate::watermarks::{Activity, PartitionProgress, Watermarks};

    const SECOND: i64 = 1_000_000;

    fn settings(rules: Vec<Rule>) -> ShardSettings {
        let clock =
            ClockSettings { event_partitions: 2, slack: 60 * SECOND, out_of_orderness: 5 * SECOND };
        ShardSettings { rules, pane_lateness: 120 * SECOND, clock, scopes_per_source: 2 }
    }

    fn rule(name: &str) -> Rule {
        Rule {
            name: name.into(),
            metric: Metric::Bounce,
            direction: Direction::Over,
            threshold: 0.4,
            critical: 0.6,
            min_volume: 2,
            widths: vec![Width::M1, Width::M5],
            resolve_ratio: 1.0,
            resolve_after: 45 * SECOND,
            runbook: String::new(),
        }
    }

    fn watermark(partition: i32, second: i64, activity: Activity) -> Watermarks {
        let progress = PartitionProgress { watermark: Some(second * SECOND), activity };
        Watermarks([(partition, progress)].into())
    }

    /// A record of `mail.panes`.
    #[derive(Debug, Clone)]
    enum Input {
        /// The number of a source, a second, deliveries and bounces.
        Delta(u8, i64, u64, u64),
        /// An event partition, its watermark in seconds and its activity.
        Watermark(i32, i64, Activity),
    }

    /// A shard, everything it has published, and its compacted changelog.
    #[derive(Default)]
    struct Run {
        shard: Shard,
        rates: Vec<ScopeRate>,
        alerts: Vec<Alert>,
        late: u64,
        changelog: BTreeMap<String, Vec<u8>>,
    }

    impl Run {
        fn process_batch(&mut self, records: &[Input], settings: &ShardSettings) {
            let mut transitions = Transitions::default();
            for record in records {
                match *record {
                    Input::Delta(source, second, delivered, bounced) => {
                        let counts =
                            Counts { delivered, bounced_hard: bounced, ..Counts::default() };
                        let pane = PaneStart::of(OccurredAt(second * SECOND));
                        let key = format!("source/ses/s{source}");
                        let applied = self.shard.apply(&key, pane, &counts, settings).unwrap();
                        if let DeltaOutcome::TooLate { events } = applied {
                            self.late += events;
                        }
                    }
                    Input::Watermark(partition, second, activity) => {
                        let watermarks = watermark(partition, second, activity);
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

    fn input() -> impl Strategy<Value = Input> {
        let activity = prop_oneof![
            4 => Just(Activity::Active), 1 => Just(Activity::Idle), 1 => Just(Activity::Gone)
        ];
        prop_oneof![
            3 => (0..2_u8, 0..900_i64, 0..4_u64, 0..4_u64)
                .prop_map(|(source, at, good, bad)| Input::Delta(source, at, good, bad)),
            2 => (0..2_i32, 0..900_i64, activity)
                .prop_map(|(partition, at, activity)| Input::Watermark(partition, at, activity)),
        ]
    }

    proptest! {
        /// A crash after any commit does not change what is published afterwards for any scope, and
        /// all state expires in the end.
        #[test]
        fn published_records_do_not_depend_on_restarts(
            mut batches in prop::collection::vec(
                (prop::collection::vec(input(), 0..8), any::<bool>()),
                0..24,
            ),
        ) {
            let settings = settings(vec![rule("bounces")]);
            // Close all windows and expire all panes.
            for end in [900, 6000] {
                batches.push(((0..2).map(|p| Input::Watermark(p, end, Activity::Active)).collect(), true));
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
            prop_assert_eq!(steady.shard.len(), 0);
            prop_assert_eq!(steady.changelog.keys().collect::<Vec<_>>(), ["mark"]);
        }
    }

    #[test]
    fn a_watermark_that_closes_no_window_is_restored() {
        let settings = settings(Vec::new());
        let mut run = Run::default();
        run.process_batch(
            &[Input::Watermark(0, 50, Activity::Active), Input::Delta(0, 55, 1, 0)],
            &settings,
        );
        run.process_batch(&[Input::Watermark(1, 90, Activity::Active)], &settings);
        run.process_batch(&[Input::Watermark(0, 90, Activity::Active)], &settings);
        let published = run.rates.clone();
        assert!(!published.is_empty());
        run.restart(&settings);
        let later =
            [Input::Watermark(0, 91, Activity::Active), Input::Watermark(1, 91, Activity::Active)];
        run.process_batch(&later, &settings);
        assert_eq!(run.rates, published, "the windows that end at 60 were published twice");
    }

    #[test]
    fn an_episode_resolves_at_once_if_its_rule_was_removed_with_the_restart() {
        let mut run = Run::default();
        let with_rule = settings(vec![rule("bounces")]);
        let start = [
            Input::Delta(0, 5, 0, 9),
            Input::Watermark(0, 10, Activity::Active),
            Input::Watermark(1, 10, Activity::Active),
        ];
        run.process_batch(&start, &with_rule);
        assert_eq!(run.alerts.len(), 1);
        let without = settings(Vec::new());
        run.restart(&without);
        run.process_batch(&[Input::Delta(0, 15, 1, 0)], &without);
        let states: Vec<_> = run.alerts.iter().map(|alert| alert.state.as_str()).collect();
        assert_eq!(states, ["firing", "resolved"]);
        run.restart(&without);
        run.process_batch(&[], &without);
        assert_eq!(run.alerts.len(), 2);
    }

    #[test]
    fn a_source_has_a_limited_number_of_scopes_and_a_restart_forgets_none() {
        let settings = settings(Vec::new());
        let apply = |run: &mut Run, key: &str, second: i64| {
            let counts = Counts { delivered: 1, ..Counts::default() };
            let pane = PaneStart::of(OccurredAt(second * SECOND));
            run.shard.apply(key, pane, &counts, &settings).unwrap()
        };
        let counted = DeltaOutcome::Counted;
        let other = Scope::parse("campaign/ses/acme/%28other%29").unwrap();
        let mut run = Run::default();
        assert_eq!(apply(&mut run, "campaign/ses/acme/a", 5), counted);
        assert_eq!(apply(&mut run, "mailbox/ses/acme/gmail", 5), counted);
        assert_eq!(
            apply(&mut run, "campaign/ses/acme/b", 5),
            DeltaOutcome::BelongsTo(other.clone())
        );
        assert_eq!(apply(&mut run, "campaign/ses/acme/a", 15), counted, "it is known");
        assert_eq!(apply(&mut run, &other.key(), 5), counted, "the rest is always counted");
        assert_eq!(apply(&mut run, "source/ses/acme", 5), counted, "sources are not limited");
        assert_eq!(apply(&mut run, "campaign/ses/bolt/b", 5), counted, "another source");
        run.process_batch(&[], &settings);
        run.restart(&settings);
        assert_eq!(apply(&mut run, "campaign/ses/acme/b", 5), DeltaOutcome::BelongsTo(other));
        let later = [9_000, 9_001].map(|second| {
            [0, 1].map(|partition| Input::Watermark(partition, second, Activity::Active))
        });
        run.process_batch(later.as_flattened(), &settings);
        assert_eq!(run.shard.len(), 0, "the scopes have expired");
        assert_eq!(apply(&mut run, "campaign/ses/acme/b", 9_000), counted, "there is room again");
    }

    #[test]
    fn a_late_delta_counts_as_late_once_and_leaves_no_state() {
        let settings = settings(Vec::new());
        let mut run = Run::default();
        run.process_batch(
            &[
                Input::Watermark(0, 500, Activity::Active),
                Input::Watermark(1, 500, Activity::Active),
            ],
            &settings,
        );
        let before = run.changelog.clone();
        run.process_batch(&[Input::Delta(0, 379, 2, 1)], &settings);
        assert_eq!((run.late, run.shard.len()), (3, 0));
        assert_eq!(run.changelog, before);
        run.process_batch(&[Input::Delta(0, 380, 2, 1)], &settings);
        assert_eq!((run.late, run.shard.len()), (3, 1));
    }
}
