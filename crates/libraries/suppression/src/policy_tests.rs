use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const DAY: i64 = 86_400;
const POLICY: Policy = Policy { soft_bounces: 5, soft_within: 30 * DAY, soft_for: 90 * DAY };

fn event(json: &str, rest: &str) -> Option<Signal> {
    let json = format!(
        r#"{{"event_id":"000102030405060708090a0b0c0d0e0f","provider":"ses","source":"acme","occurred_at":1,"received_at":1,"provider_event":"x","request_id":"r",{json}{rest},"raw":{{}}}}"#
    );
    let event: Event<'_> = serde_json::from_str(&json).unwrap();
    Signal::of(&event, Some(1))
}

#[test]
fn only_the_recipients_side_counts_and_neither_machines_nor_replies_nor_unauthentic_events() {
    let bounce = |permanence: &str, class: &str, side: &str| {
        let bounce = format!(
            r#""kind":"bounced","bounce":{{"permanence":"{permanence}","class":"{class}","side":"{side}"}}"#
        );
        event(&bounce, "")
    };
    assert_eq!(bounce("hard", "invalid_recipient", "recipient"), Some(Signal::HardBounce));
    assert_eq!(bounce("soft", "mailbox_full", "recipient"), Some(Signal::SoftBounce));
    for (permanence, class, side) in [
        ("hard", "reputation", "sender"),
        ("hard", "technical", "network"),
        ("hard", "other", "unknown"),
        ("soft", "rate_limited", "sender"),
        ("soft", "technical", "network"),
        ("soft", "auto_reply", "recipient"),
        ("hard", "auto_reply", "recipient"),
        ("undetermined", "invalid_recipient", "recipient"),
    ] {
        assert_eq!(bounce(permanence, class, side), None, "{permanence} {class} {side}");
    }
    assert_eq!(event(r#""kind":"bounced""#, ""), None);
    assert_eq!(event(r#""kind":"complained""#, ""), Some(Signal::Complaint));
    assert_eq!(event(r#""kind":"complained""#, r#","authentic":false"#), None);
    assert_eq!(event(r#""kind":"opened""#, ""), Some(Signal::Works));
    let machine = r#","automation":{"reason":"proxy","confidence":0.9}"#;
    assert_eq!(event(r#""kind":"opened""#, machine), None);
    for kind in ["dropped", "deferred", "accepted", "clicked", "verified", "other"] {
        assert_eq!(event(&format!(r#""kind":"{kind}""#), ""), None, "{kind}");
    }
}

#[test]
fn a_second_soft_bounce_of_a_message_does_not_count() {
    let json = r#"{"event_id":"000102030405060708090a0b0c0d0e0f","kind":"bounced","bounce":{"permanence":"soft","class":"mailbox_full","side":"recipient"},"provider":"ses","source":"acme","occurred_at":1,"received_at":1,"provider_event":"x","request_id":"r","raw":{}}"#;
    let event: Event<'_> = serde_json::from_str(json).unwrap();
    assert_eq!(Signal::of(&event, Some(2)), None);
    assert_eq!(Signal::of(&event, None), Some(Signal::SoftBounce));
}

/// The entries and soft bounces of one recipient on one list.
#[derive(Debug, Default)]
struct Recipient {
    marks: BTreeMap<(&'static str, u8), Mark>,
    streak: Streak,
}

impl Recipient {
    fn apply(&mut self, policy: &Policy, signal: Signal, at: i64, scope: u8) {
        let key = (signal.reason().as_str(), scope);
        let mark = self.marks.get(&key).copied();
        if let Some(mark) = policy.decide(signal, at, mark, &mut self.streak) {
            self.marks.insert(key, mark);
        }
    }

    fn pass(&mut self, policy: &Policy, now: i64) {
        self.marks.retain(|&(name, _), mark| {
            let reason = Reason::from_name(name).unwrap();
            if let Some((at, Due::Expire)) = policy.due(reason, *mark).filter(|due| due.0 <= now) {
                *mark = Mark { at, is_lifted: true };
            }
            !matches!(policy.due(reason, *mark), Some((at, Due::Forget)) if at <= now)
        });
        if policy.streak_ends(&self.streak).is_some_and(|ends| ends <= now) {
            self.streak = Streak::default();
        }
    }
}

/// The same policy, written as queries over the whole history.
mod oracle {
    use super::*;

    #[derive(Debug, Clone, Copy)]
    pub(super) enum Step {
        Said { signal: Signal, at: i64, scope: u8 },
        Passed { now: i64 },
    }

    /// Returns the entries after a history: name, scope, time and whether it is lifted.
    pub(super) fn entries(policy: &Policy, history: &[Step]) -> Vec<(&'static str, u8, i64, bool)> {
        let mut all = Vec::new();
        for (signal, name) in
            [(Signal::HardBounce, "hard_bounce"), (Signal::Complaint, "complaint")]
        {
            for scope in 0..3 {
                let signals = [signal];
                let latest = said(history, scope, &signals).map(|(_, _, at)| at).max();
                all.extend(latest.map(|at| (name, scope, at, false)));
            }
        }
        all.extend(soft(policy, history));
        for scope in 0..3 {
            all.extend(last_word(history, scope));
        }
        all.sort_unstable();
        all
    }

    fn said<'h>(
        history: &'h [Step],
        wanted: u8,
        signals: &'h [Signal],
    ) -> impl DoubleEndedIterator<Item = (usize, Signal, i64)> + 'h {
        history.iter().enumerate().filter_map(move |(number, step)| match *step {
            Step::Said { signal, at, scope } if scope == wanted && signals.contains(&signal) => {
                Some((number, signal, at))
            }
            _ => None,
        })
    }

    fn passed(history: &[Step], after: usize) -> i64 {
        let clocks = history.iter().skip(after).filter_map(|step| match *step {
            Step::Passed { now } => Some(now),
            Step::Said { .. } => None,
        });
        clocks.max().unwrap_or(i64::MIN)
    }

    /// The statement with the greatest time, the last of several. Statements older than a subscription are forgotten
    /// with it after 30 days, so the history begins anew there.
    fn last_word(history: &[Step], scope: u8) -> Option<(&'static str, u8, i64, bool)> {
        let mut best: Option<(i64, usize, bool)> = None;
        for (number, signal, at) in said(history, scope, &[Signal::Unsubscribe, Signal::Subscribe])
        {
            if let Some((time, from, true)) = best
                && passed(&history[..number], from) >= time + 30 * DAY
            {
                best = None;
            }
            if best.is_none_or(|(time, ..)| at >= time) {
                best = Some((at, number, signal == Signal::Subscribe));
            }
        }
        let (at, from, is_lifted) = best?;
        let is_forgotten = is_lifted && passed(history, from) >= at + 30 * DAY;
        (!is_forgotten).then_some(("unsubscribe", scope, at, is_lifted))
    }

    /// Counts, at each step, the soft bounces that nothing has ended.
    fn soft(policy: &Policy, history: &[Step]) -> Option<(&'static str, u8, i64, bool)> {
        let mut alive: Vec<i64> = Vec::new();
        let mut entry: Option<(i64, bool)> = None;
        for step in history {
            match *step {
                Step::Said { signal: Signal::SoftBounce, at, .. } => {
                    alive.push(at);
                    let newest = *alive.iter().max().unwrap();
                    alive.retain(|&it| newest - it < policy.soft_within);
                    let enough = alive.len() >= policy.soft_bounces;
                    if enough && entry.is_none_or(|(at, _)| at < newest) {
                        entry = Some((newest, false));
                    }
                }
                Step::Said { signal: Signal::Works, at, .. } => {
                    let ended = alive.iter().filter(|&&it| it <= at).count();
                    alive.retain(|&it| it > at);
                    if let Some((since, false)) = entry
                        && alive.len() < policy.soft_bounces
                        && (ended > 0 || since <= at)
                    {
                        entry = Some((since.max(at), true));
                    }
                }
                Step::Said { .. } => {}
                Step::Passed { now } => {
                    if let Some((since, false)) = entry
                        && since + policy.soft_for <= now
                    {
                        entry = Some((since + policy.soft_for, true));
                    }
                    if let Some((at, true)) = entry
                        && at + 30 * DAY <= now
                    {
                        entry = None;
                    }
                    if alive.iter().all(|&it| it + policy.soft_within <= now) {
                        alive.clear();
                    }
                }
            }
        }
        entry.map(|(at, is_lifted)| ("soft_bounces", 0, at, is_lifted))
    }
}

fn random_history(rng: &mut StdRng) -> Vec<oracle::Step> {
    let steps = rng.random_range(1..40);
    let days = [3, 40, 200][rng.random_range(0..3)];
    let mut clock = 0;
    // Some histories are mostly soft bounces, so that entries come about.
    let soft_share = rng.random_range(0..9);
    let step = |_| {
        if rng.random_range(0..8) == 0 {
            clock += rng.random_range(0..days * DAY / 4);
            return oracle::Step::Passed { now: clock };
        }
        let signal = match rng.random_range(0..10) {
            share if share < soft_share => Signal::SoftBounce,
            _ => [
                Signal::HardBounce,
                Signal::Complaint,
                Signal::Unsubscribe,
                Signal::Subscribe,
                Signal::Works,
                Signal::Works,
            ][rng.random_range(0..6)],
        };
        // Often the same second, often in order, sometimes late.
        let at = match rng.random_range(0..4) {
            0 => clock / DAY * DAY,
            1 => rng.random_range(0..days * DAY),
            _ => clock + rng.random_range(0..DAY),
        };
        let is_scoped = matches!(signal, Signal::Unsubscribe | Signal::Subscribe);
        let scope = if is_scoped { rng.random_range(0..3) } else { 0 };
        oracle::Step::Said { signal, at, scope }
    };
    (0..steps).map(step).collect()
}

fn compare(histories: u64) {
    let mut rng = StdRng::seed_from_u64(1);
    let (mut suppressed, mut lifted) = (BTreeMap::new(), 0_u64);
    for number in 0..histories {
        let history = random_history(&mut rng);
        let policy = Policy { soft_bounces: rng.random_range(1..7), ..POLICY };
        let mut recipient = Recipient::default();
        for step in &history {
            match *step {
                oracle::Step::Said { signal, at, scope } => {
                    recipient.apply(&policy, signal, at, scope);
                }
                oracle::Step::Passed { now } => recipient.pass(&policy, now),
            }
        }
        let entries: Vec<_> = recipient
            .marks
            .iter()
            .map(|(&(name, scope), mark)| (name, scope, mark.at, mark.is_lifted))
            .collect();
        let mut sorted = entries.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, oracle::entries(&policy, &history), "history {number}: {history:?}");
        for (name, _, _, is_lifted) in entries {
            if is_lifted { lifted += 1 } else { *suppressed.entry(name).or_insert(0_u64) += 1 }
        }
    }
    // The histories are worth nothing if nothing happens in them.
    assert_eq!(suppressed.len(), 4, "{suppressed:?}");
    assert!(suppressed.values().all(|&count| count > histories / 50), "{suppressed:?}");
    assert!(lifted > histories / 10, "{lifted}");
}

#[test]
fn a_hundred_thousand_random_histories_match_the_oracle() {
    compare(100_000);
}

#[test]
#[ignore = "a million histories take long; the suite has a tenth of them"]
fn a_million_random_histories_match_the_oracle() {
    compare(1_000_000);
}

#[test]
fn five_soft_bounces_in_thirty_days_suppress_until_the_address_works() {
    let apply = |signals: &[(Signal, i64)]| {
        let mut recipient = Recipient::default();
        for &(signal, day) in signals {
            recipient.apply(&POLICY, signal, day * DAY, 0);
        }
        recipient.marks.get(&("soft_bounces", 0)).map(|mark| (mark.at / DAY, mark.is_lifted))
    };
    let soft =
        |days: &[i64]| -> Vec<_> { days.iter().map(|&day| (Signal::SoftBounce, day)).collect() };
    assert_eq!(apply(&soft(&[1, 2, 3, 4])), None);
    assert_eq!(apply(&soft(&[1, 2, 3, 4, 30])), Some((30, false)));
    assert_eq!(apply(&soft(&[1, 2, 3, 4, 31])), None, "30 days after the first");
    assert_eq!(apply(&soft(&[30, 4, 1, 3, 2])), Some((30, false)), "in any order");
    let then = |day| [&soft(&[1, 2, 3, 4, 5])[..], &[(Signal::Works, day)]].concat();
    assert_eq!(apply(&then(6)), Some((6, true)));
    assert_eq!(apply(&then(3)), Some((5, true)), "a late delivery in between");
    assert_eq!(apply(&then(0)), Some((5, false)), "before all of them");
    let mut interrupted = soft(&[1, 2, 3, 4]);
    interrupted.push((Signal::Works, 4));
    interrupted.extend(soft(&[5]));
    assert_eq!(apply(&interrupted), None);
}
