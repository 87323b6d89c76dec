//! What must hold for every sequence of alerts, times and actions.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use window::Scope;

use super::samples::*;
use super::*;
use crate::{Change, Family, IncidentState, Severity};

/// One step of a log.
#[derive(Debug, Clone)]
enum Step {
    /// An episode of a rule in a scope begins, becomes worse, becomes stale, or ends: whatever its state
    /// allows.
    Transition {
        rule: usize,
        source: u8,
        scope: usize,
        what: u8,
        severity: Severity,
    },
    /// Time passes, in seconds.
    Pass(i64),
    /// A person does something with one of the incidents so far.
    Act {
        what: u8,
        incident: usize,
    },
    Restart,
}

const RULES: [&str; 4] = ["hard_bounces", "bounce_rate", "blocks", "complaints_arrival"];

fn scope(source: u8, scope: usize) -> Scope {
    let name = format!("s{source}");
    match scope {
        0 => super::samples::source(&name),
        1 => mailbox(&name, "gmail"),
        2 => mailbox(&name, "yahoo"),
        3 => campaign(&name, "spring"),
        _ => Scope::Tenant { tenant: name },
    }
}

fn severity() -> impl Strategy<Value = Severity> {
    prop_oneof![
        3 => Just(Severity::Warning), 2 => Just(Severity::Critical), 1 => Just(Severity::Page)
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..4_usize, 0..5_u8, 0..5_usize, 0..6_u8, severity()).prop_map(
            |(rule, source, scope, what, severity)| {
                Step::Transition { rule, source, scope, what, severity }
            }
        ),
        3 => (0..30_i64).prop_map(Step::Pass),
        1 => (0..8_000_i64).prop_map(Step::Pass),
        1 => (0..6_u8, 0..50_usize).prop_map(|(what, incident)| Step::Act { what, incident }),
    ]
}

fn settings() -> impl Strategy<Value = IncidentSettings> {
    (prop_oneof![Just(0_u32), Just(2), Just(3)], 2..50_usize, 2..7_usize, 0..3_i64).prop_map(
        |(join_sources, max_open, max_episodes, join_wait)| IncidentSettings {
            join_sources,
            max_open,
            max_episodes,
            join_wait: join_wait * 30 * SECOND,
            ..IncidentSettings::default()
        },
    )
}

/// The open episodes of a generated log, by rule and scope.
#[derive(Default)]
struct Log {
    open: BTreeMap<(usize, Scope), Alert>,
    begun: i64,
}

impl Log {
    /// Returns the alert of a transition, if the state of the episode allows it.
    fn transition(
        &mut self,
        rule: usize,
        scope: Scope,
        what: u8,
        severity: Severity,
    ) -> Option<Alert> {
        let Some(known) = self.open.get(&(rule, scope.clone())).cloned() else {
            self.begun += 1;
            let mut first = with_severity(alert(RULES[rule], scope.clone()), severity);
            first.as_of = [(0, self.begun)].into();
            first.episode_id = EpisodeId::of(RULES[rule], &scope, &first.as_of);
            self.open.insert((rule, scope), first.clone());
            return Some(first);
        };
        let state = match what {
            0 => AlertState::Stale,
            1..=3 => AlertState::Resolved,
            _ => AlertState::Firing,
        };
        let next = next(&known, state, known.severity.max(severity));
        match state {
            AlertState::Resolved => self.open.remove(&(rule, scope)),
            AlertState::Firing | AlertState::Stale => self.open.insert((rule, scope), next.clone()),
        };
        Some(next)
    }

    fn end(&mut self) -> Vec<Alert> {
        std::mem::take(&mut self.open).into_values().map(|open| resolved(&open)).collect()
    }
}

fn play(run: &mut Run, log: &mut Log, step: &Step) {
    match step {
        Step::Transition { rule, source, scope: kind, what, severity } => {
            if let Some(alert) = log.transition(*rule, scope(*source, *kind), *what, *severity) {
                run.receive(&alert);
            }
        }
        Step::Pass(seconds) => run.pass_slowly(seconds * SECOND, 100 * SECOND),
        Step::Act { what, incident } => {
            let Some(record) = run.records.get(*incident) else { return };
            let (incident, by) = (record.id, "ada".to_owned());
            let action = match what {
                0 => Action::Acknowledge { incident, by },
                1 => Action::Judge { incident, by, judgement: Judgement::True },
                2 => Action::Close { incident, by },
                3 => Action::PlanSend {
                    by,
                    source: "sendgrid/s1".into(),
                    campaign: None,
                    from: run.now,
                    until: run.now + HOUR,
                },
                _ => Action::Snooze { incident, by, until: run.now + 20 * MINUTE },
            };
            // An incident may be over, or part of another one.
            let _: Result<(), ActionError> = run.handle(&action);
        }
        Step::Restart => run.restart(),
    }
}

/// Ends all episodes, and waits until everything that was held back is told.
fn finish(run: &mut Run, log: &mut Log) {
    for alert in log.end() {
        run.receive(&alert);
    }
    run.pass_slowly(30 * HOUR, 10 * MINUTE);
}

fn check_limits(run: &Run) -> Result<(), TestCaseError> {
    let mut told: BTreeMap<String, Vec<(i64, Severity, bool)>> = BTreeMap::new();
    for record in run.notifications() {
        let earlier = told.entry(record.group.key()).or_default();
        let within_an_hour = |at: i64| at > record.at - HOUR;
        let is_worst = !earlier
            .iter()
            .any(|(at, severity, _)| within_an_hour(*at) && *severity >= record.severity);
        let is_exempt =
            record.change == Change::Escalated || (record.change == Change::Opened && is_worst);
        earlier.push((record.at, record.severity, is_exempt));
        let counted = earlier.iter().filter(|(at, _, exempt)| !exempt && within_an_hour(*at));
        prop_assert!(counted.count() <= 6, "{:?} {:?}", record.change, earlier);
    }
    Ok(())
}

fn check_records(run: &Run) -> Result<(), TestCaseError> {
    let mut latest: BTreeMap<IncidentId, (u32, u32)> = BTreeMap::new();
    let (mut told, mut over) = (BTreeSet::new(), BTreeSet::new());
    for record in &run.records {
        let (seq, page) = latest.entry(record.id).or_default();
        prop_assert_eq!(record.seq, *seq + 1);
        prop_assert_eq!(record.page, *page + u32::from(record.change.notifies()));
        (*seq, *page) = (record.seq, record.page);
        let is_over = record.state == IncidentState::Resolved;
        if record.change == Change::Resolved {
            prop_assert!(is_over && told.contains(&record.id), "nobody was told of it");
            prop_assert!(over.insert(record.id), "it ended twice");
        } else if record.change.notifies() && !is_over {
            prop_assert!(!over.contains(&record.id), "{:?} after the end", record.change);
            told.insert(record.id);
        }
    }
    prop_assert_eq!(told, over);
    let last: BTreeMap<_, _> = run.records.iter().map(|record| (record.id, record.state)).collect();
    prop_assert!(last.values().all(|state| *state == IncidentState::Resolved));
    Ok(())
}

/// What an incident is about, without the identities that depend on which alert came first.
fn described(run: &Run) -> BTreeSet<(String, Family, Severity)> {
    let open = run.state.incidents.values().filter(|tracked| tracked.ended.is_none());
    open.map(|tracked| (tracked.group.key(), tracked.family, tracked.severity)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn notifications_are_limited_and_every_incident_that_people_know_of_ends_once(
        steps in prop::collection::vec(step(), 0..120),
        settings in settings(),
    ) {
        let (mut run, mut log) = (Run::new(settings), Log::default());
        for step in &steps {
            play(&mut run, &mut log, step);
        }
        finish(&mut run, &mut log);
        check_limits(&run)?;
        check_records(&run)?;
        prop_assert_eq!(run.state.open_episodes(), 0);
        run.pass(run.settings.keep_ended);
        run.pass(1);
        prop_assert_eq!(run.changelog.keys().collect::<Vec<_>>(), ["clock"]);
    }

    #[test]
    fn a_restart_after_any_step_changes_nothing(
        steps in prop::collection::vec((step(), any::<bool>()), 0..80),
        settings in settings(),
    ) {
        let (mut steady, mut crashing) = (Run::new(settings.clone()), Run::new(settings));
        let (mut steady_log, mut crashing_log) = (Log::default(), Log::default());
        for (step, crashes) in &steps {
            play(&mut steady, &mut steady_log, step);
            play(&mut crashing, &mut crashing_log, step);
            prop_assert_eq!(&steady.records, &crashing.records);
            prop_assert_eq!(&steady.changelog, &crashing.changelog);
            if *crashes {
                play(&mut crashing, &mut crashing_log, &Step::Restart);
            }
        }
        finish(&mut steady, &mut steady_log);
        finish(&mut crashing, &mut crashing_log);
        prop_assert_eq!(&steady.records, &crashing.records);
    }

    /// The scopes of a commit come from several partitions, so their order is not defined. (If a source
    /// has both a bad list and a block, the first of them gets the episodes of general measures.)
    #[test]
    fn the_order_of_scopes_within_a_commit_does_not_matter(
        (commit, shuffled) in prop::collection::btree_set((0..3_usize, 0..8_u8, 0..5_usize), 1..40)
            .prop_flat_map(|commit| {
                let rule = |rule, source| match (rule, source < 4) {
                    (0, true) => 0,
                    (0, false) => 2,
                    (1, _) => 1,
                    _ => 3,
                };
                let commit = commit.into_iter();
                let commit: Vec<_> =
                    commit.map(|(of, source, kind)| (rule(of, source), source, kind)).collect();
                (Just(commit.clone()), Just(commit).prop_shuffle())
            }),
    ) {
        let play = |commit: &[(usize, u8, usize)]| {
            let mut run = Run::new(IncidentSettings::default());
            for (rule, source, kind) in commit {
                run.receive(&alert(RULES[*rule], scope(*source, *kind)));
            }
            run.pass(10 * MINUTE);
            run
        };
        let (one, other) = (play(&commit), play(&shuffled));
        prop_assert_eq!(described(&one), described(&other));
            prop_assert_eq!(one.state.open_episodes(), other.state.open_episodes());
    }

    /// However many sources a block hits, and in whatever order their scopes and episodes come: people
    /// get one page.
    #[test]
    fn a_block_at_a_mailbox_provider_is_one_notification(
        alerts in (3..12_u8).prop_flat_map(|sources| {
            let all: Vec<_> = (0..sources)
                .flat_map(|source| {
                    [(2, 1), (1, 1), (1, 0), (1, 3)].map(|(rule, kind)| (rule, source, kind))
                })
                .collect();
            Just(all).prop_shuffle()
        }),
    ) {
        let mut run = Run::new(IncidentSettings::default());
        for (number, (rule, source, kind)) in alerts.iter().enumerate() {
            run.receive(&alert(RULES[*rule], scope(*source, *kind)));
            if number % 4 == 3 {
                run.pass(SECOND);
            }
        }
        run.pass_slowly(20 * MINUTE, SECOND);
        prop_assert_eq!(run.changes(), [Change::Opened]);
        prop_assert_eq!(run.state.open_incidents(), 1);
    }
}
