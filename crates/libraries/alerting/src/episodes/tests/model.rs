//! The state machine against a model that looks at every ten seconds of the past.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const TICK: i64 = 10 * SECOND;

const RULE: &str = "name = 'hard'\nmetric = 'hard_bounce'\nwindows = ['5m']\nwarning = 0.02\n\
    critical = 0.05\npage = 0.1\nmin_volume = 200\n\
    hold = { warning = '60s', critical = '20s', page = '0s' }";

/// Ticks of the window, of `hold` by severity, of `resolve.for`, and of the two waits for volume.
const WINDOW: usize = 30;
const HOLD: [usize; 3] = [6, 2, 0];
const RESOLVE: usize = 180;
const STALE: usize = WINDOW + 60;
const END: usize = 360;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    TooLittle,
    Good,
    Elevated,
    Bad(Severity),
}

use Seen::{Bad, Elevated, Good, Nothing, TooLittle};

fn evidence(seen: Seen, end: i64) -> Sample {
    let (bounced, sent) = match seen {
        TooLittle => (9, 10),
        Nothing | Good => (1, 1000),
        Elevated => (1900, 100_000),
        Bad(Severity::Warning) => (60, 1000),
        Bad(Severity::Critical) => (90, 1000),
        Bad(Severity::Page) => (200, 1000),
    };
    Sample { aligned: seen != Nothing, ..Sample::at(end) }.with(Width::M5, bounced, sent)
}

/// (tick, state, severity, reason)
type Transition = (usize, AlertState, Severity, Option<ResolveReason>);

/// Recomputes everything at every tick from the levels of all ticks so far.
fn model(levels: &[Seen]) -> Vec<Transition> {
    let mut out = Vec::new();
    let mut seen: Vec<Seen> = Vec::new();
    let mut open: Option<(AlertState, Severity, usize)> = None;
    let mut ended_at = None;
    for (now, level) in levels.iter().enumerate() {
        let is_old = open.is_none() && ended_at.is_some_and(|ended| now < ended + WINDOW);
        seen.push(if is_old { TooLittle } else { *level });
        // For how many ticks before this one has the condition been true?
        let lasted = |is: &dyn Fn(Seen) -> bool| -> Option<usize> {
            let ticks = seen.iter().rev().take_while(|it| is(**it)).count();
            ticks.checked_sub(1)
        };
        let held = Rule::SEVERITIES.into_iter().find(|severity| {
            let bad = lasted(&|it| matches!(it, Bad(other) if other >= *severity));
            bad.is_some_and(|ticks| ticks >= HOLD[*severity as usize])
        });
        if let Some((AlertState::Stale, severity, since)) = open {
            if now >= since + END && !matches!(seen[now], Good | Elevated | Bad(_)) {
                out.push((now, AlertState::Resolved, severity, Some(ResolveReason::NoTraffic)));
                (open, ended_at) = (None, Some(now));
            } else if matches!(seen[now], Good | Elevated | Bad(_)) {
                out.push((now, AlertState::Firing, severity, None));
                open = Some((AlertState::Firing, severity, now));
            }
        }
        match (open, held) {
            (None, Some(severity)) => {
                out.push((now, AlertState::Firing, severity, None));
                open = Some((AlertState::Firing, severity, now));
            }
            (Some((AlertState::Firing, old, since)), Some(severity)) if severity > old => {
                out.push((now, AlertState::Firing, severity, None));
                open = Some((AlertState::Firing, severity, since));
            }
            (Some((AlertState::Firing, severity, _)), None) => {
                if lasted(&|it| it == Good).is_some_and(|ticks| ticks >= RESOLVE) {
                    let reason = Some(ResolveReason::Recovered);
                    out.push((now, AlertState::Resolved, severity, reason));
                    open = None;
                } else if lasted(&|it| it == TooLittle).is_some_and(|ticks| ticks >= STALE) {
                    out.push((now, AlertState::Stale, severity, None));
                    open = Some((AlertState::Stale, severity, now));
                }
            }
            _ => {}
        }
    }
    out
}

fn levels() -> impl Strategy<Value = Vec<(Seen, usize)>> {
    let seen = prop_oneof![
        1 => Just(Nothing),
        3 => Just(TooLittle),
        3 => Just(Good),
        2 => Just(Elevated),
        3 => Just(Bad(Severity::Warning)),
        2 => Just(Bad(Severity::Critical)),
        1 => Just(Bad(Severity::Page)),
    ];
    let ticks =
        prop_oneof![1..8_usize, 25..40_usize, 85..100_usize, 170..200_usize, 350..480_usize];
    vec((seen, ticks), 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn the_state_machine_does_what_the_model_does(
        spans in levels(),
        extra in vec(0..1000_usize, 0..9),
        restart in any::<bool>(),
    ) {
        let ticks: Vec<Seen> = spans.iter().flat_map(|(seen, ticks)| vec![*seen; *ticks]).collect();
        let mut run = Run::new(vec![rule(RULE)]);
        let time = |tick: usize| i64::try_from(tick).unwrap() * TICK;
        let mut extra = extra;
        extra.sort_unstable();
        let mut begin = 0;
        for (seen, length) in spans {
            // What was due before the new counts came is done by `judge` itself.
            run.judge(&evidence(seen, time(begin)));
            if restart {
                run.restart();
            }
            // More calls than necessary change nothing.
            let end = begin + length - 1;
            for more in extra.iter().filter(|more| (begin..end).contains(*more)) {
                run.pass(time(*more), &evidence(seen, time(begin)));
            }
            run.pass(time(end), &evidence(seen, time(begin)));
            begin += length;
        }
        let expected = model(&ticks);
        let mut episodes: BTreeMap<EpisodeId, u32> = BTreeMap::new();
        for alert in &run.alerts {
            let seq = episodes.entry(alert.episode_id).or_default();
            *seq += 1;
            prop_assert_eq!(alert.seq, *seq);
        }
        let resolved = expected.iter().filter(|it| it.1 == AlertState::Resolved).count();
        prop_assert_eq!(episodes.len(), resolved + usize::from(run.episodes.has_open()));
        let ours = run.transitions();
        let expected: Vec<_> =
            expected.into_iter().map(|it| (time(it.0), it.1, it.2, it.3)).collect();
        prop_assert_eq!(ours, expected);
    }
}
