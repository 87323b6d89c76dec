use proptest::prelude::*;

use super::*;

fn score_rules(condition: &str) -> RuleSet {
    rules(&format!(
        r#"
[[rule]]
name = "r"
when = {{ kinds = ["clicked"] }}
and = [ {{ score = "{condition}" }} ]
do = [ {{ type = "points", add = 1 }} ]
"#
    ))
}

/// An event with what it counts for.
fn counted(number: u64, kind: Kind, counters: &[(&str, i32)]) -> Facts {
    let mut event = facts(number, kind, T0 + i64::try_from(number).unwrap());
    for (counter, messages) in counters {
        event.counts.add(counter, *messages);
    }
    event
}

/// The score that a click was decided on.
fn score_at(rules: &RuleSet, state: &mut RecipientState, click: &Facts) -> serde_json::Value {
    step(rules, click, state).intents[0].values[0].value.clone()
}

#[test]
fn a_score_is_that_of_the_table_recipients() {
    let rules = score_rules(">=0");
    assert!(
        [Kind::Delivered, Kind::Bounced, Kind::Opened].into_iter().all(|kind| rules.reads(kind))
    );
    let mut state = RecipientState::default();
    for number in 0..10 {
        step(&rules, &counted(number, Kind::Delivered, &[("delivered", 1)]), &mut state);
    }
    for number in 10..14 {
        step(&rules, &counted(number, Kind::Opened, &[("opened", 1), ("engaged", 1)]), &mut state);
    }
    // 0.6 * 4 / 10 + 0.4 * 1 / 10
    let click = counted(20, Kind::Clicked, &[("clicked", 1)]);
    assert_eq!(score_at(&rules, &mut state, &click), 0.28);
    step(&rules, &counted(21, Kind::Bounced, &[("bounced_hard", 1)]), &mut state);
    let again = counted(22, Kind::Clicked, &[]);
    assert_eq!(score_at(&rules, &mut state, &again), 0.18);
    // A delivery after the bounce makes it a deferral.
    let corrected = [("delivered", 1), ("bounced_hard", -1), ("deferred", 1)];
    step(&rules, &counted(23, Kind::Delivered, &corrected), &mut state);
    let score: f64 = (0.6 * 4.0 / 11.0 + 0.4 / 11.0) * 1e9;
    let again = counted(24, Kind::Clicked, &[]);
    assert_eq!(score_at(&rules, &mut state, &again), score.round() / 1e9);
    for number in 25..35 {
        step(&rules, &counted(number, Kind::Bounced, &[("bounced_soft", 1)]), &mut state);
    }
    let again = counted(40, Kind::Clicked, &[]);
    assert_eq!(score_at(&rules, &mut state, &again), 0.0, "never below 0");
    let json = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<RecipientState>(&json).unwrap(), state);
}

#[test]
fn a_comparison_holds_as_it_says_and_not_without_deliveries() {
    // 0.6 * 1 / 2 + 0.4 * 1 / 2
    for (condition, acts) in [
        (">=0.5", true),
        (">0.5", false),
        ("<= 0.5", true),
        ("<0.5", false),
        (" > 0.4", true),
        ("<0.6", true),
    ] {
        let (rules, mut state) = (score_rules(condition), RecipientState::default());
        let early = step(&rules, &counted(1, Kind::Clicked, &[]), &mut state);
        assert!(early.intents.is_empty(), "nothing was delivered");
        step(&rules, &counted(2, Kind::Delivered, &[("delivered", 1)]), &mut state);
        step(&rules, &counted(3, Kind::Delivered, &[("delivered", 1)]), &mut state);
        step(&rules, &counted(4, Kind::Opened, &[("opened", 1)]), &mut state);
        let click = counted(5, Kind::Clicked, &[("clicked", 1)]);
        let decision = step(&rules, &click, &mut state);
        assert_eq!(decision.intents.len(), usize::from(acts), "{condition}");
        let elsewhere = Facts { source: "bolt".to_owned(), ..counted(6, Kind::Clicked, &[]) };
        let decision = step(&rules, &elsewhere, &mut state);
        assert!(decision.intents.is_empty(), "the score is that of the source");
    }
}

#[test]
fn counts_end_a_year_after_the_last_event() {
    const YEAR: i64 = 365 * 24 * HOUR;
    let (rules, mut state) = (score_rules(">=0"), RecipientState::default());
    let delivered = counted(0, Kind::Delivered, &[("delivered", 1)]);
    step(&rules, &delivered, &mut state);
    assert!(state.expires_at(&rules) > T0 + YEAR);
    for (at, acts) in [(T0 + YEAR - 1, 1), (T0 + YEAR, 0)] {
        let decision = step(&rules, &facts(1, Kind::Clicked, at), &mut state);
        assert_eq!(decision.intents.len(), acts);
    }
    assert_eq!(score_rules(">=0").memory(), YEAR);
}

#[test]
fn receivers_do_not_get_the_counts() {
    let event = counted(1, Kind::Delivered, &[("delivered", 1)]);
    let plain = Facts { counts: EngagementDelta::default(), ..event.clone() };
    assert_eq!(event.json(), plain.json());
}

proptest! {
    /// The sums do not depend on the order of a recipient's messages.
    #[test]
    fn a_score_equals_that_of_the_lives_of_the_messages(
        messages in prop::collection::vec((any::<bool>(), any::<bool>(), 0..3_u8), 1..40),
    ) {
        let (rules, mut state) = (score_rules(">=0"), RecipientState::default());
        let (mut received, mut opened, mut clicked, mut bounces) = (0.0_f64, 0.0_f64, 0.0_f64, 0.0_f64);
        let mut number = 0;
        for (opens, clicks, bounce) in messages {
            number += 3;
            match bounce {
                0 => {
                    step(&rules, &counted(number, Kind::Delivered, &[("delivered", 1)]), &mut state);
                    received += 1.0;
                }
                1 => {
                    step(&rules, &counted(number, Kind::Bounced, &[("bounced_block", 1)]), &mut state);
                    bounces += 1.0;
                    continue;
                }
                _ => {
                    step(&rules, &counted(number, Kind::Delivered, &[("delivered", 1)]), &mut state);
                    step(&rules, &counted(number + 1, Kind::Bounced, &[("late_bounces", 1)]), &mut state);
                    received += 1.0;
                    bounces += 1.0;
                }
            }
            if opens {
                step(&rules, &counted(number + 2, Kind::Opened, &[("opened", 1)]), &mut state);
                opened += 1.0;
            }
            if clicks {
                step(&rules, &counted(number + 2, Kind::Clicked, &[("clicked", 1)]), &mut state);
                clicked += 1.0;
            }
        }
        let decision = step(&rules, &counted(number + 3, Kind::Clicked, &[]), &mut state);
        prop_assert_eq!(decision.intents.len(), usize::from(received > 0.0));
        if let [intent] = &decision.intents[..] {
            let score = 0.6 * opened / received + 0.4 * clicked / received - f64::min(0.5, 0.1 * bounces);
            let found = intent.values[0].value.as_f64().unwrap();
            prop_assert!((found - score.max(0.0)).abs() < 1e-8, "{} {}", found, score);
        }
    }
}
