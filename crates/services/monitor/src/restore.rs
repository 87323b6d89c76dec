//! Restores a shard from its changelog.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::changelog::{ChangelogKey, LastCommit};
use crate::deliveries::Deliveries;
use crate::shard::{RestoredScope, Shard, ShardSettings};

/// The state of a shard as of the changelog records read so far.
#[derive(Default)]
pub(crate) struct ShardRestore {
    /// By scope key.
    scopes: BTreeMap<String, RestoredScope>,
    deliveries: Deliveries,
    last_commit: LastCommit,
}

impl ShardRestore {
    /// Applies one record of the changelog. A record without a value is a tombstone.
    pub(crate) fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), kafka::Error> {
        match ChangelogKey::parse(key).map_err(kafka::Error::state)? {
            ChangelogKey::Pane(ring, start, scope) => {
                let panes = &mut self.scope_state(scope).panes;
                match read(value)? {
                    Some(pane) => panes.insert((ring, start), pane),
                    None => panes.remove(&(ring, start)),
                };
            }
            ChangelogKey::Cohort(hour, scope) => {
                let cohorts = &mut self.scope_state(scope).cohorts;
                match read(value)? {
                    Some(cohort) => cohorts.insert(hour, cohort),
                    None => cohorts.remove(&hour),
                };
            }
            ChangelogKey::Episodes(scope) => {
                self.scope_state(scope).episodes = read(value)?.unwrap_or_default()
            }
            ChangelogKey::Waiting(scope) => {
                self.scope_state(scope).waiting = read(value)?.unwrap_or_default()
            }
            ChangelogKey::Deliveries(scope) => {
                match read(value)? {
                    Some(hour) => self.deliveries.0.insert(scope.to_owned(), hour),
                    None => self.deliveries.0.remove(scope),
                };
            }
            ChangelogKey::LastCommit => self.last_commit = read(value)?.unwrap_or_default(),
        }
        Ok(())
    }

    fn scope_state(&mut self, key: &str) -> &mut RestoredScope {
        self.scopes.entry(key.to_owned()).or_default()
    }

    /// Returns the number of commits; see [`LastCommit::commits`].
    pub(crate) fn commits(&self) -> u64 {
        self.last_commit.commits
    }

    /// Returns the shard as of its last commit.
    pub(crate) fn finish(self, settings: &ShardSettings) -> Result<Shard, kafka::Error> {
        let mut shard = Shard::new(self.last_commit, self.deliveries);
        for (key, scope) in self.scopes {
            if !scope.is_empty() {
                shard.restore_scope(&key, scope, settings).map_err(kafka::Error::state)?;
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

    use event::Counter::{BouncedHard, Delivered, Opened};
    use event::OccurredAt;
    use proptest::prelude::*;
    use window::{
        Alert, Counts, Direction, HourStart, Metric, PaneStart, Rule, Scope, ScopeRate, Width,
    };

    use super::*;
    use crate::clock::ClockSettings;
    use crate::settings::Publish;
    use crate::shard::{Counted, DeltaOutcome, Transitions};
    use crate::watermarks::{Activity, PartitionProgress, Watermarks};

    const SECOND: i64 = 1_000_000;

    fn settings(rules: Vec<Rule>) -> ShardSettings {
        let clock =
            ClockSettings { event_partitions: 2, slack: 60 * SECOND, out_of_orderness: 5 * SECOND };
        let publish = Publish::All;
        ShardSettings { rules, publish, clock, scopes_per_source: 2, memory_is_full: false }
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
        /// The number of a source, a second, deliveries and bounces; fewer than 0 are corrections.
        Delta(u8, i64, i64, i64),
        /// A source, and the seconds at which messages were opened and sent.
        Opened(u8, i64, i64),
        /// An event partition, its watermark in seconds and its activity.
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
            for record in records {
                match *record {
                    Input::Delta(source, second, delivered, bounced) => {
                        let counts = Counts::of([(Delivered, delivered), (BouncedHard, bounced)]);
                        self.apply(source, second, second, counts, settings);
                    }
                    Input::Opened(source, second, sent) => {
                        self.apply(source, second, sent, Counts::of([(Opened, 1)]), settings);
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

        fn apply(
            &mut self,
            source: u8,
            second: i64,
            sent: i64,
            counts: Counts,
            settings: &ShardSettings,
        ) {
            let pane = PaneStart::of(OccurredAt(second * SECOND));
            let cohort = Some(HourStart::of(OccurredAt(sent * SECOND)));
            let key = format!("source/ses/s{source}");
            let applied = self.shard.apply(&key, pane, cohort, &counts, settings).unwrap();
            if let DeltaOutcome::Counted(Counted { late, .. }) = applied {
                self.late.iter_mut().zip(late).for_each(|(all, late)| *all += late);
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
            3 => (0..2_u8, 0..900_i64, 0..4_i64, -2..4_i64)
                .prop_map(|(source, at, good, bad)| Input::Delta(source, at, good, bad)),
            1 => (0..2_u8, 0..900_i64, -9000..900_i64)
                .prop_map(|(source, at, sent)| Input::Opened(source, at, sent)),
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
            publish in prop_oneof![Just(Publish::All), Just(Publish::Changes)],
        ) {
            let settings = ShardSettings { publish, ..settings(vec![rule("bounces")]) };
            // Close all windows, and expire all panes and cohorts.
            for end in [900, 6000, 10 * 86_400] {
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
            prop_assert_eq!(steady.shard.bytes(), 0);
            let left = steady.changelog.keys().filter(|key| !key.starts_with("deliveries/"));
            prop_assert_eq!(left.collect::<Vec<_>>(), ["mark"]);
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
            Input::Delta(0, 5, 1, 9),
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
            let counts = Counts::of([(Delivered, 1)]);
            let pane = PaneStart::of(OccurredAt(second * SECOND));
            run.shard.apply(key, pane, None, &counts, &settings).unwrap()
        };
        let counted = DeltaOutcome::Counted(Counted::default());
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
        let later = [99_000, 99_001].map(|second| {
            [0, 1].map(|partition| Input::Watermark(partition, second, Activity::Active))
        });
        run.process_batch(later.as_flattened(), &settings);
        assert_eq!(run.shard.len(), 0, "the scopes have expired");
        assert_eq!(apply(&mut run, "campaign/ses/acme/b", 99_000), counted, "there is room again");
    }

    #[test]
    fn a_late_delta_counts_as_late_once_for_each_ring_and_leaves_no_state() {
        const DAY: i64 = 86_400;
        let settings = settings(Vec::new());
        let mut run = Run::default();
        let now = 20 * DAY;
        run.process_batch(
            &[0, 1].map(|partition| Input::Watermark(partition, now, Activity::Active)),
            &settings,
        );
        let before = run.changelog.clone();
        run.process_batch(&[Input::Delta(0, now - 9 * DAY, 2, 1)], &settings);
        assert_eq!((run.late, run.shard.len()), ([3, 3, 3], 0));
        assert_eq!(run.changelog, before);
        run.process_batch(&[Input::Delta(0, now - 2 * DAY, 2, 1)], &settings);
        assert_eq!((run.late, run.shard.len()), ([6, 6, 3], 1));
        run.process_batch(&[Input::Delta(0, now - 7_200, 2, 1)], &settings);
        assert_eq!(run.late, [9, 6, 3]);
        run.process_batch(&[Input::Delta(0, now - 4_200, 2, 1)], &settings);
        assert_eq!(run.late, [9, 6, 3], "the ring has the pane for 70 minutes");
    }

    #[test]
    fn a_source_without_deliveries_has_no_rates_and_no_alerts_in_any_shard() {
        let settings = settings(vec![rule("bounces")]);
        let mut run = Run::default();
        let to =
            |second| [0, 1].map(|partition| Input::Watermark(partition, second, Activity::Active));
        run.process_batch(&[Input::Delta(0, 5, 0, 9)], &settings);
        run.process_batch(&to(20), &settings);
        assert!(run.alerts.is_empty() && run.rates.len() == 4 + 1);
        assert!(run.rates.iter().all(|rate| rate.window.rates.bounce.is_none()));
        assert_eq!(run.shard.sources_without_deliveries(), 1);
        assert_eq!(run.shard.take_unlogged().len(), 1);

        // Another shard counts a delivery, and fold tells all shards.
        let deliveries = [("source/ses/s0".to_owned(), HourStart::of(OccurredAt(0)))];
        run.shard.receive_deliveries(&crate::deliveries::Deliveries(deliveries.into()));
        run.process_batch(&[Input::Delta(0, 25, 0, 9)], &settings);
        run.restart(&settings);
        run.process_batch(&to(30), &settings);
        assert_eq!(run.alerts.len(), 1);
        assert_eq!(run.rates.last().unwrap().window.rates.bounce, Some(1.0));
        assert_eq!(
            (run.shard.sources_without_deliveries(), run.shard.take_unlogged().len()),
            (0, 0)
        );
        // The hour of the delivery ended 24 hours ago.
        let day = 25 * 3600;
        run.process_batch(&to(day - 100), &settings);
        run.alerts.clear();
        run.process_batch(&[Input::Delta(0, day - 5, 0, 9)], &settings);
        run.process_batch(&to(day), &settings);
        assert_eq!(run.alerts.len(), 1, "just in time");
        run.process_batch(&[Input::Delta(0, day + 5, 0, 9)], &settings);
        run.process_batch(&to(day + 10), &settings);
        run.process_batch(&to(day + 80), &settings);
        let states: Vec<_> = run.alerts.iter().map(|alert| alert.state.as_str()).collect();
        assert_eq!(states, ["firing"], "it stays open");
        assert_eq!(run.shard.sources_without_deliveries(), 1);
    }

    #[test]
    fn if_the_memory_is_full_new_scopes_have_a_common_rate() {
        let full = ShardSettings { memory_is_full: true, ..settings(Vec::new()) };
        let mut shard = Shard::default();
        let mut apply = |key: &str| {
            let pane = PaneStart::of(OccurredAt(0));
            let counts = Counts::of([(Delivered, 1)]);
            shard.apply(key, pane, None, &counts, &full).unwrap()
        };
        let counted = DeltaOutcome::Counted(Counted::default());
        let other = |key| DeltaOutcome::BelongsTo(Scope::parse(key).unwrap());
        assert_eq!(apply("source/ses/acme"), counted);
        assert_eq!(apply("tenant/acme"), counted, "the first of its kind");
        assert_eq!(apply("tenant/globex"), other("tenant/%28other%29"));
        // Only a source, or a kind of tenants, with more scopes than the average is limited.
        assert_eq!(apply("tenant/%28other%29"), counted);
        assert_eq!(apply("ip/ses/acme/192.0.2.1"), counted);
        assert_eq!(apply("tenant/initech"), other("tenant/%28other%29"));
        let bytes = shard.bytes();
        assert!((4 * 2048..4 * 2600).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_commit_writes_a_bounded_number_of_tombstones() {
        let settings = ShardSettings { scopes_per_source: usize::MAX, ..settings(Vec::new()) };
        let mut run = Run::default();
        let pane = PaneStart::of(OccurredAt(0));
        let cohort = Some(HourStart::of(OccurredAt(0)));
        for number in 0..12_000 {
            let key = format!("campaign/ses/acme/{number}");
            let counts = Counts::of([(Delivered, 1)]);
            let _ = run.shard.apply(&key, pane, cohort, &counts, &settings).unwrap();
        }
        let at =
            |second| [0, 1].map(|partition| Input::Watermark(partition, second, Activity::Active));
        run.process_batch(&at(60), &settings);
        assert_eq!(
            run.changelog.len(),
            24_000 + 2,
            "a pane and a cohort each, deliveries and the mark"
        );
        run.process_batch(&at(10 * 86_400), &settings);
        assert_eq!(run.changelog.len(), 4_000 + 2, "20,000 tombstones were written");
        let left = run.changelog.clone();
        run.process_batch(&[], &settings);
        assert_eq!(run.changelog.len(), 2);
        // After a crash in between, what was left expires again.
        let mut crashed = Run { changelog: left, ..Run::default() };
        let mut restore = ShardRestore::default();
        for (key, value) in &crashed.changelog {
            restore.apply(key.as_bytes(), Some(value)).unwrap();
        }
        crashed.shard = restore.finish(&settings).unwrap();
        crashed.process_batch(&[], &settings);
        assert_eq!((crashed.changelog.len(), crashed.shard.len()), (2, 0));
    }

    /// The changelogs of running installations contain these records.
    #[test]
    fn the_changelog_of_an_earlier_release_can_be_read() {
        let records = [
            (
                "pane/0/source/ses/s0",
                r#"{"start":0,"corrections":2,"counts":{"accepted":9,"delivered":3,"bounced_hard":6}}"#,
            ),
            (
                "episodes/source/ses/s0",
                r#"{"bounces":{"severity":"critical","started_at":10000000,"reading":{"width":"1m","part":6,"volume":9},"held_at":10000000,"metric":"bounce","threshold":0.4,"runbook":""}}"#,
            ),
            (
                "mark",
                r#"{"commits":3,"clock":{"heard":{"0":{"watermark":15000000,"presence":"busy"},"1":{"watermark":15000000,"presence":"busy"}},"now":15000000}}"#,
            ),
        ];
        let settings = settings(vec![rule("bounces")]);
        let changelog = records.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
        let mut run = Run { changelog: changelog.into(), ..Run::default() };
        let mut restore = ShardRestore::default();
        for (key, value) in &run.changelog {
            restore.apply(key.as_bytes(), Some(value)).unwrap();
        }
        assert_eq!(restore.commits(), 3);
        run.shard = restore.finish(&settings).unwrap();
        run.process_batch(&[Input::Delta(0, 16, 9, 0)], &settings);
        let to =
            |second| [0, 1].map(|partition| Input::Watermark(partition, second, Activity::Active));
        run.process_batch(&to(20), &settings);
        let minute = run.rates.iter().find(|rate| rate.window.width == Width::M1).unwrap();
        assert_eq!((minute.window.revision, minute.window.counts[Delivered]), (2, 12));
        assert_eq!(minute.window.rates.bounce, Some(6.0 / 18.0));
        run.process_batch(&to(200), &settings);
        let states: Vec<_> = run.alerts.iter().map(|alert| alert.state.as_str()).collect();
        assert_eq!(states, ["resolved"]);
        assert_eq!(run.alerts[0].started_at, 10_000_000);
    }
}
