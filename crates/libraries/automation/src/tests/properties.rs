//! Random histories against models that remember everything and count anew for each event.

use proptest::prelude::*;

use super::*;

/// In microseconds.
const MINUTE: i64 = HOUR / 60;

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Clicked), Just(Kind::Opened), Just(Kind::Delivered)]
}

/// An event: minutes since the previous receipt, how late it is, kind, source, and whether a person caused it.
fn events() -> impl Strategy<Value = Vec<(i64, i64, Kind, bool, bool)>> {
    prop::collection::vec(
        (0..200_i64, 0..600_i64, kind(), any::<bool>(), prop::bool::weighted(0.8)),
        1..80,
    )
}

proptest! {
    #[test]
    fn a_rule_acts_when_its_cooldown_is_over(history in events()) {
        let rules = rules(r#"
[[rule]]
name = "r"
when = { kinds = ["clicked"] }
cooldown = "5h"
do = [ { type = "points", add = 1 } ]
"#);
        let (mut state, mut received_at, mut acted) = (RecipientState::default(), T0, Vec::new());
        for (number, (gap, _, kind, _, human)) in (0..).zip(history) {
            received_at += gap * MINUTE;
            let event = Facts { human, ..facts(number, kind, received_at) };
            let decision = step(&rules, &event, &mut state);
            let is_expected = kind == Kind::Clicked
                && human
                && acted.iter().all(|at| received_at - at >= 5 * HOUR);
            prop_assert_eq!(decision.intents.len(), usize::from(is_expected));
            if is_expected {
                acted.push(received_at);
            }
        }
    }

    #[test]
    fn a_pattern_counts_the_newest_events_of_the_source(
        history in events(),
        count in 1..5_usize,
        hours in 1..30_i64,
    ) {
        let rules = rules(&format!(r#"
[[rule]]
name = "r"
when = {{}}
and = [ {{ pattern = "{count} clicked within {hours}h" }} ]
do = [ {{ type = "points", add = 1 }} ]
[[rule]]
name = "other"
when = {{ kinds = ["dropped"] }}
and = [ {{ pattern = "7 clicked within 40h" }} ]
do = [ {{ type = "points", add = 1 }} ]
"#));
        let (mut state, mut received_at) = (RecipientState::default(), T0);
        let mut clicks: Vec<(bool, i64)> = Vec::new();
        for (number, (gap, late, kind, source, human)) in (0..).zip(history) {
            received_at += gap * MINUTE;
            let happened_at = received_at - late * MINUTE;
            let event = Facts {
                human,
                occurred_at: OccurredAt(happened_at),
                source: if source { "acme" } else { "bolt" }.to_owned(),
                ..facts(number, kind, received_at)
            };
            if kind == Kind::Clicked && human {
                clicks.push((source, happened_at));
            }
            let of_source: Vec<i64> =
                clicks.iter().filter(|click| click.0 == source).map(|click| click.1).collect();
            let until = of_source.iter().copied().chain([happened_at]).max().unwrap();
            let recent = of_source.iter().filter(|at| until - **at < hours * HOUR).count();
            let decision = step(&rules, &event, &mut state);
            let is_expected = human && recent >= count;
            prop_assert_eq!(decision.intents.len(), usize::from(is_expected), "{:?}", decision);
        }
    }

    #[test]
    fn an_expired_state_decides_like_an_empty_one(history in events()) {
        let rules = rules(r#"
[[rule]]
name = "r"
when = { kinds = ["clicked"] }
and = [ { pattern = "2 clicked within 3h" } ]
cooldown = "5h"
do = [ { type = "points", add = 1 } ]
"#);
        let (mut kept, mut expiring, mut received_at) =
            (RecipientState::default(), RecipientState::default(), T0);
        for (number, (gap, late, kind, _, _)) in (0..).zip(history) {
            received_at += gap * MINUTE;
            if expiring.expires_at(&rules) <= received_at - 10 * HOUR {
                expiring = RecipientState::default();
            }
            let happened_at = OccurredAt(received_at - late * MINUTE);
            let event = Facts { occurred_at: happened_at, ..facts(number, kind, received_at) };
            let one = step(&rules, &event, &mut kept);
            let other = step(&rules, &event, &mut expiring);
            prop_assert_eq!(one.intents.len(), other.intents.len());
        }
    }

    #[test]
    fn limits_are_exact_although_the_count_changes(
        intents in prop::collection::vec((-20..90_i64, 0..3_u8), 1..120),
        counts in (1..6_usize, 1..6_usize),
        hours in 1..6_i64,
        most in 1..20_u64,
        restore_every in 1..10_usize,
    ) {
        let rules_of = |count: usize| rules(&format!(r#"
[[rule]]
name = "r"
when = {{}}
limit = {{ count = {count}, per = "{hours}h" }}
campaign_limit = {most}
do = [ {{ type = "points", add = 1 }} ]
"#));
        let (rules, others) = (rules_of(counts.0), rules_of(counts.1));
        let (mut now_in_force, mut next) = ((rules.rule("r").unwrap(), counts.0), (others.rule("r").unwrap(), counts.1));
        let mut state = LimitState::default();
        let mut changelog: std::collections::BTreeMap<String, Vec<u8>> = Default::default();
        // Every intent that was allowed: the effective time and the campaign.
        let mut allowed: Vec<(i64, u8)> = Vec::new();
        let mut at = T0;
        for (number, (gap, campaign)) in (0..).zip(intents) {
            at += gap * MINUTE;
            let (rule, count) = now_in_force;
            let mut event = facts(number, Kind::Clicked, at);
            event.campaign = (campaign > 0).then(|| format!("c{campaign}"));
            let decision = step(&rules, &event, &mut RecipientState::default());
            let intent = &decision.intents[0];
            let now = allowed.iter().map(|it| it.0).chain([at]).max().unwrap();
            let recent = allowed.iter().filter(|it| now - it.0 < hours * HOUR).count();
            let of_campaign = allowed.iter().filter(|it| campaign > 0 && it.1 == campaign).count();
            let expected = if recent >= count {
                Verdict::Refused(Refusal::Limit)
            } else if of_campaign as u64 >= most {
                Verdict::Refused(Refusal::CampaignLimit)
            } else {
                Verdict::Allowed
            };
            prop_assert_eq!(state.decide(Some(rule), intent), expected);
            if expected == Verdict::Allowed {
                allowed.push((now, campaign));
                for (key, value) in state.allow(rule, intent).unwrap() {
                    match value {
                        Some(value) => drop(changelog.insert(key, value)),
                        None => drop(changelog.remove(&key)),
                    }
                }
            }
            if (number as usize).is_multiple_of(restore_every) {
                let restored = |rule| {
                    let mut restore = LimitRestore::default();
                    for (key, value) in &changelog {
                        restore.apply(key, Some(value)).unwrap();
                    }
                    restore.finish(Some(rule))
                };
                prop_assert_eq!(&restored(rule), &state);
                std::mem::swap(&mut now_in_force, &mut next);
                state = restored(now_in_force.0);
            }
        }
    }
}
