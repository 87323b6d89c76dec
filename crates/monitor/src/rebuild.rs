//! A shard from its changelog.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use stream::StreamError;
use window::{Episodes, Pane, PaneStart, Scope};

use crate::journal::{Entry, Mark};
use crate::shard::{Setup, Shard};

/// What a changelog has said so far.
#[derive(Default)]
pub(crate) struct Rebuild {
    panes: HashMap<Scope, BTreeMap<PaneStart, Pane>>,
    episodes: HashMap<Scope, Episodes>,
    mark: Mark,
}

impl Rebuild {
    /// Takes in one record of the changelog; no value is a tombstone.
    pub(crate) fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StreamError> {
        match (Entry::parse(key).map_err(StreamError::state)?, value) {
            (Entry::Pane(start, scope), Some(value)) => {
                let pane: Pane = serde_json::from_slice(value).map_err(StreamError::state)?;
                self.panes.entry(scope).or_default().insert(start, pane);
            }
            (Entry::Pane(start, scope), None) => {
                if let Some(panes) = self.panes.get_mut(&scope) {
                    panes.remove(&start);
                    if panes.is_empty() {
                        self.panes.remove(&scope);
                    }
                }
            }
            (Entry::Episodes(scope), Some(value)) => {
                let open = serde_json::from_slice(value).map_err(StreamError::state)?;
                self.episodes.insert(scope, open);
            }
            (Entry::Episodes(scope), None) => {
                self.episodes.remove(&scope);
            }
            (Entry::Mark, Some(value)) => {
                self.mark = serde_json::from_slice(value).map_err(StreamError::state)?;
            }
            (Entry::Mark, None) => self.mark = Mark::default(),
        }
        Ok(())
    }

    /// See [`Mark::commits`].
    pub(crate) fn commits(&self) -> u64 {
        self.mark.commits
    }

    /// The shard as it was after its last commit.
    pub(crate) fn finish(mut self, setup: &Setup) -> Shard {
        let scopes: BTreeSet<Scope> =
            self.panes.keys().chain(self.episodes.keys()).cloned().collect();
        let mut shard = Shard::restored(self.mark);
        for scope in scopes {
            let panes = self.panes.remove(&scope).unwrap_or_default();
            let episodes = self.episodes.remove(&scope).unwrap_or_default();
            shard.restore(scope, panes.into_values(), episodes, setup);
        }
        shard
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use event::{OccurredAt, Provider};
    use proptest::prelude::*;
    use window::{Alert, Counts, Direction, Metric, PaneDelta, Rule, ScopeRate, Width};

    use super::*;
    use crate::clock::{Patience, Presence, Progress, Watermarks};
    use crate::shard::News;

    const SECOND: i64 = 1_000_000;

    fn setup(rules: Vec<Rule>) -> Setup {
        let patience = Patience { event_partitions: 2, slack: 60 * SECOND };
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

    fn scope(source: u8) -> Scope {
        Scope::Source { provider: Provider::Ses, source: format!("s{source}") }
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

    fn delta(source: u8, second: i64, delivered: u64, bounced_hard: u64) -> PaneDelta {
        let counts = Counts { delivered, bounced_hard, ..Counts::default() };
        let pane = PaneStart::of(OccurredAt(second * SECOND));
        PaneDelta { scope: scope(source), pane, counts }
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
                        let delta = delta(source, second, delivered, bounced);
                        self.late += self.shard.apply(delta, setup);
                    }
                    Told::Time(partition, second, presence) => {
                        let told = watermark(partition, second, presence);
                        self.shard.hear(&told, setup, &mut news);
                    }
                }
            }
            self.shard.visit_due(setup, &mut news);
            self.rates.extend(news.rates);
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
            self.shard = rebuild.finish(setup);
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
        run.round(&[Told::Time(0, 91, Presence::Busy)], &setup);
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
