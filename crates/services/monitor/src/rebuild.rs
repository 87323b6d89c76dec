//! A shard from its changelog.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use kafka::StreamError;
use window::{Episodes, Pane, PaneStart};

use crate::journal::{Entry, Mark};
use crate::shard::{Setup, Shard};

/// What a changelog has said so far.
#[derive(Default)]
pub(crate) struct Rebuild {
    scopes: BTreeMap<String, Kept>,
    mark: Mark,
}

/// What is kept of one scope.
#[derive(Default)]
struct Kept {
    panes: BTreeMap<PaneStart, Pane>,
    episodes: Episodes,
}

impl Rebuild {
    /// Takes in one record of the changelog; no value is a tombstone.
    pub(crate) fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StreamError> {
        match Entry::parse(key).map_err(StreamError::state)? {
            Entry::Pane(start, scope) => {
                let panes = &mut self.kept(scope).panes;
                match read(value)? {
                    Some(pane) => panes.insert(start, pane),
                    None => panes.remove(&start),
                };
            }
            Entry::Episodes(scope) => self.kept(scope).episodes = read(value)?.unwrap_or_default(),
            Entry::Mark => self.mark = read(value)?.unwrap_or_default(),
        }
        Ok(())
    }

    fn kept(&mut self, scope: &str) -> &mut Kept {
        self.scopes.entry(scope.to_owned()).or_default()
    }

    /// See [`Mark::commits`].
    pub(crate) fn commits(&self) -> u64 {
        self.mark.commits
    }

    /// The shard as it was after its last commit.
    pub(crate) fn finish(self, setup: &Setup) -> Result<Shard, StreamError> {
        let mut shard = Shard::restored(self.mark);
        for (key, Kept { panes, episodes }) in self.scopes {
            if !(panes.is_empty() && episodes.is_empty()) {
                let panes = panes.into_values();
                shard.restore(&key, panes, episodes, setup).map_err(StreamError::state)?;
            }
        }
        Ok(shard)
    }
}

fn read<T: DeserializeOwned>(value: Option<&[u8]>) -> Result<Option<T>, StreamError> {
    value.map(serde_json::from_slice).transpose().map_err(StreamError::state)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use event::OccurredAt;
    use proptest::prelude::*;
    use window::{Alert, Counts, Direction, Metric, Rule, ScopeRate, Width};

    use super::*;
    use crate::clock::{Patience, Presence, Progress, Watermarks};
    use crate::shard::News;

    const SECOND: i64 = 1_000_000;

    fn setup(rules: Vec<Rule>) -> Setup {
        let patience =
            Patience { event_partitions: 2, slack: 60 * SECOND, out_of_orderness: 5 * SECOND };
        Setup { rules, pane_lateness: 120 * SECOND, patience }
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

    fn watermark(partition: i32, second: i64, presence: Presence) -> Watermarks {
        let progress = Progress { watermark: Some(second * SECOND), presence };
        Watermarks([(partition, progress)].into())
    }

    /// One record of `mail.panes`.
    #[derive(Debug, Clone)]
    enum Told {
        /// Of a source: deliveries and bounces at a second.
        Delta(u8, i64, u64, u64),
        /// An event partition has come to a second.
        Time(i32, i64, Presence),
    }

    /// A shard, what it has published and its changelog after compaction.
    #[derive(Default)]
    struct Run {
        shard: Shard,
        rates: Vec<ScopeRate>,
        alerts: Vec<Alert>,
        late: u64,
        changelog: BTreeMap<String, Vec<u8>>,
    }

    impl Run {
        fn round(&mut self, records: &[Told], setup: &Setup) {
            let mut news = News::default();
            for record in records {
                match *record {
                    Told::Delta(source, second, delivered, bounced) => {
                        let counts =
                            Counts { delivered, bounced_hard: bounced, ..Counts::default() };
                        let pane = PaneStart::of(OccurredAt(second * SECOND));
                        let key = format!("source/ses/s{source}");
                        self.late += self.shard.apply(&key, pane, &counts, setup).unwrap();
                    }
                    Told::Time(partition, second, presence) => {
                        let told = watermark(partition, second, presence);
                        self.shard.hear(&told, setup, &mut news);
                    }
                }
            }
            self.shard.visit_due(setup, &mut news);
            self.rates.extend(news.rates.into_iter().map(|(key, rate)| {
                assert_eq!(*key, rate.scope.key());
                rate
            }));
            self.alerts.extend(news.alerts);
            for (key, value) in self.shard.changes().unwrap() {
                match value {
                    Some(value) => self.changelog.insert(key, value),
                    None => self.changelog.remove(&key),
                };
            }
        }

        /// By scope, as each has a partition and order of its own.
        fn published(&self) -> (Vec<&ScopeRate>, Vec<&Alert>) {
            let mut published: (Vec<_>, Vec<_>) =
                (self.rates.iter().collect(), self.alerts.iter().collect());
            published.0.sort_by_key(|rate| &rate.scope);
            published.1.sort_by_key(|alert| &alert.scope);
            published
        }

        fn restart(&mut self, setup: &Setup) {
            let mut rebuild = Rebuild::default();
            for (key, value) in &self.changelog {
                rebuild.apply(key.as_bytes(), Some(value)).unwrap();
            }
            assert_eq!(rebuild.commits(), self.shard.commits());
            self.shard = rebuild.finish(setup).unwrap();
        }
    }

    fn told() -> impl Strategy<Value = Told> {
        let presence = prop_oneof![
            4 => Just(Presence::Busy), 1 => Just(Presence::Quiet), 1 => Just(Presence::Gone)
        ];
        prop_oneof![
            3 => (0..2_u8, 0..900_i64, 0..4_u64, 0..4_u64)
                .prop_map(|(source, at, good, bad)| Told::Delta(source, at, good, bad)),
            2 => (0..2_i32, 0..900_i64, presence).prop_map(|(p, at, how)| Told::Time(p, at, how)),
        ]
    }

    proptest! {
        /// A crash after any commit changes nothing of what is published of any scope afterwards,
        /// and nothing is kept for ever.
        #[test]
        fn restarts_do_not_show(
            mut rounds in prop::collection::vec(
                (prop::collection::vec(told(), 0..8), any::<bool>()),
                0..24,
            ),
        ) {
            let setup = setup(vec![rule("bounces")]);
            // All windows close, all panes expire.
            for end in [900, 6000] {
                rounds.push(((0..2).map(|p| Told::Time(p, end, Presence::Busy)).collect(), true));
            }
            let (mut steady, mut crashing) = (Run::default(), Run::default());
            for (records, crashes) in rounds {
                steady.round(&records, &setup);
                crashing.round(&records, &setup);
                prop_assert_eq!(steady.published(), crashing.published());
                prop_assert_eq!(steady.late, crashing.late);
                prop_assert_eq!(&steady.changelog, &crashing.changelog);
                if crashes {
                    crashing.restart(&setup);
                }
            }
            prop_assert_eq!(steady.shard.len(), 0);
            prop_assert_eq!(steady.changelog.keys().collect::<Vec<_>>(), ["mark"]);
        }
    }

    #[test]
    fn time_that_changes_no_pane_is_kept_too() {
        let setup = setup(Vec::new());
        let mut run = Run::default();
        run.round(&[Told::Time(0, 50, Presence::Busy), Told::Delta(0, 55, 1, 0)], &setup);
        run.round(&[Told::Time(1, 90, Presence::Busy)], &setup);
        run.round(&[Told::Time(0, 90, Presence::Busy)], &setup);
        let published = run.rates.clone();
        assert!(!published.is_empty());
        run.restart(&setup);
        let later = [Told::Time(0, 91, Presence::Busy), Told::Time(1, 91, Presence::Busy)];
        run.round(&later, &setup);
        assert_eq!(run.rates, published, "the windows that ended at 60 came once");
    }

    #[test]
    fn an_episode_whose_rule_went_with_the_restart_is_closed_at_once() {
        let mut run = Run::default();
        let with_rule = setup(vec![rule("bounces")]);
        let start = [
            Told::Delta(0, 5, 0, 9),
            Told::Time(0, 10, Presence::Busy),
            Told::Time(1, 10, Presence::Busy),
        ];
        run.round(&start, &with_rule);
        assert_eq!(run.alerts.len(), 1);
        let without = setup(Vec::new());
        run.restart(&without);
        run.round(&[Told::Delta(0, 15, 1, 0)], &without);
        let states: Vec<_> = run.alerts.iter().map(|alert| alert.state.as_str()).collect();
        assert_eq!(states, ["firing", "resolved"]);
        run.restart(&without);
        run.round(&[], &without);
        assert_eq!(run.alerts.len(), 2);
    }

    #[test]
    fn what_comes_too_late_counts_once_and_leaves_nothing() {
        let setup = setup(Vec::new());
        let mut run = Run::default();
        run.round(
            &[Told::Time(0, 500, Presence::Busy), Told::Time(1, 500, Presence::Busy)],
            &setup,
        );
        let before = run.changelog.clone();
        run.round(&[Told::Delta(0, 379, 2, 1)], &setup);
        assert_eq!((run.late, run.shard.len()), (3, 0));
        assert_eq!(run.changelog, before);
        run.round(&[Told::Delta(0, 380, 2, 1)], &setup);
        assert_eq!((run.late, run.shard.len()), (3, 1));
    }
}
