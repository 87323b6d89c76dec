//! What a message counts for, over any events in any order.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use event::{Counter, CounterSet, Dimension, DimensionDigests, Kind, OccurredAt};
use proptest::collection::vec;
use proptest::prelude::*;
use state::{Effect, MessageMemory, Observation};

const START: i64 = 1_795_255_200_000_000;
const SECOND: i64 = 1_000_000;

fn at(second: i64) -> OccurredAt {
    OccurredAt(START + second * SECOND)
}

fn event(kind: Kind, second: i64, counters: &str) -> Observation {
    Observation {
        kind,
        machine: counters.contains("machine"),
        counted_at: at(second),
        sent_at: None,
        would_count: CounterSet::from_names(counters).unwrap(),
        digests: DimensionDigests([1; 5]),
        may_be_duplicate: false,
    }
}

fn delivered(second: i64) -> Observation {
    event(Kind::Delivered, second, "delivered")
}

fn bounced(second: i64, counter: &str) -> Observation {
    event(Kind::Bounced, second, counter)
}

/// Observes events, and shows what each counts for and corrects as `counts corrections`, with times
/// in seconds.
fn observe(events: &[Observation]) -> Vec<String> {
    let mut memory = MessageMemory::UNKNOWN;
    events.iter().map(|event| shown(&memory.observe(event))).collect()
}

fn shown(effect: &Effect) -> String {
    let changes = effect.corrections.iter().flat_map(|corrections| &corrections.changes);
    let changes = changes.map(|change| {
        let sign = if change.adds { '+' } else { '-' };
        let second = (change.at.micros() - START) / SECOND;
        format!(" {sign}{}@{second}", change.counter.as_str())
    });
    format!("{}{}", effect.counts, changes.collect::<String>())
}

#[test]
fn a_delivery_after_a_soft_bounce_makes_the_bounce_a_deferral() {
    let settled = "delivered,deferred_settled -bounced_soft@1 +deferred@1";
    assert_eq!(observe(&[bounced(1, "bounced_soft"), delivered(5)]), ["bounced_soft", settled]);
    // The delivery arrives first.
    let deferral = "deferred +deferred_settled@5";
    assert_eq!(observe(&[delivered(5), bounced(1, "bounced_soft")]), ["delivered", deferral]);
}

#[test]
fn a_bounce_after_the_delivery_is_late_in_any_order() {
    let bounce = bounced(9, "bounced_hard,late_bounces_fbl");
    let delivery = event(Kind::Delivered, 5, "delivered,delivered_fbl");
    let late = "late_bounces,late_bounces_fbl";
    assert_eq!(observe(&[delivery, bounce]), ["delivered,delivered_fbl", late]);
    let correction = "delivered,delivered_fbl -bounced_hard@9 +late_bounces@9 +late_bounces_fbl@9";
    assert_eq!(observe(&[bounce, delivery]), ["bounced_hard", correction]);
    let mut memory = MessageMemory::UNKNOWN;
    assert!(!memory.observe(&bounce).is_late, "the delivery is not known");
    assert!(!memory.observe(&delivery).is_late);
    assert!(memory.observe(&bounce).is_late);
    let same_time = bounced(5, "bounced_hard");
    assert_eq!(observe(&[delivered(5), same_time]), ["delivered", "late_bounces"]);
}

#[test]
fn further_late_bounces_count_for_nothing_and_an_earlier_bounce_does_not_hide_a_late_one() {
    let hard = |second| bounced(second, "bounced_hard");
    assert_eq!(observe(&[delivered(5), hard(7), hard(9)]), ["delivered", "late_bounces", ""]);
    let earlier = "late_bounces -late_bounces@9";
    assert_eq!(observe(&[delivered(5), hard(9), hard(7)]), ["delivered", "late_bounces", earlier]);
    let settled = "delivered,deferred_settled -bounced_hard@1 +late_bounces@9 +deferred@1";
    assert_eq!(observe(&[hard(1), hard(9), delivered(5)]), ["bounced_hard", "", settled]);
}

#[test]
fn a_bounce_that_the_provider_marks_late_needs_no_delivery() {
    let late = bounced(9, "late_bounces");
    assert_eq!(observe(&[late, late]), ["late_bounces", ""]);
    assert_eq!(observe(&[late, delivered(5)]), ["late_bounces", "delivered"]);
    let mut memory = MessageMemory::UNKNOWN;
    assert!(memory.observe(&late).is_late);
}

#[test]
fn the_worst_bounce_counts() {
    let bounces = ["bounced_soft", "bounced_undetermined", "bounced_block", "bounced_hard"];
    let events: Vec<_> = bounces.iter().zip(1..).map(|(name, s)| bounced(s, name)).collect();
    let expected = [
        "bounced_soft",
        "bounced_undetermined -bounced_soft@1",
        "bounced_block -bounced_undetermined@2",
        "bounced_hard -bounced_block@3",
    ];
    assert_eq!(observe(&events), expected);
    let reversed: Vec<_> = events.into_iter().rev().collect();
    assert_eq!(observe(&reversed), ["bounced_hard", "", "", ""]);
}

#[test]
fn a_deferral_counts_once_and_is_settled_by_a_delivery_or_a_bounce() {
    let deferred = |second| event(Kind::Deferred, second, "deferred,deferrals,throttled");
    let first = "deferred,deferrals,throttled";
    let settled = "delivered,deferred_settled";
    assert_eq!(observe(&[deferred(1), deferred(3), delivered(5)]), [first, "deferrals", settled]);
    let earlier = "deferred,deferrals -deferred@3";
    assert_eq!(observe(&[deferred(3), deferred(1)]), [first, earlier]);
    let bounce = bounced(5, "bounced_soft,unclassified");
    let settled = "deferred_settled,bounced_soft,unclassified";
    assert_eq!(observe(&[deferred(1), bounce]), [first, settled]);
    let late = bounced(5, "late_bounces");
    assert_eq!(observe(&[deferred(1), late]), [first, "late_bounces"], "not settled");
}

#[test]
fn the_others_count_once_and_people_apart_from_machines() {
    let open = event(Kind::Opened, 9, "opened,engaged");
    let by_machine = event(Kind::Opened, 1, "machine_opened");
    let click = event(Kind::Clicked, 9, "clicked,engaged");
    let shown = observe(&[by_machine, open, open, click, by_machine]);
    assert_eq!(shown, ["machine_opened", "opened,engaged", "", "clicked", ""]);
    let reply = bounced(1, "auto_replies");
    let dropped = event(Kind::Dropped, 2, "suppressed");
    let shown = observe(&[reply, dropped, dropped, delivered(3)]);
    assert_eq!(shown, ["auto_replies", "suppressed", "", "delivered"]);
}

#[test]
fn events_are_numbered_by_kind() {
    let mut memory = MessageMemory::UNKNOWN;
    let open = event(Kind::Opened, 9, "opened,engaged");
    let by_machine = event(Kind::Opened, 1, "machine_opened");
    let events = [open, by_machine, open, delivered(1), delivered(2), by_machine];
    let seen = events.map(|event| memory.observe(&event).seen);
    assert_eq!(seen, [1, 1, 2, 1, 2, 2]);
}

#[test]
fn the_send_time_is_that_of_the_first_event_about_sending() {
    let sent = |events: &[Observation]| {
        let mut memory = MessageMemory::UNKNOWN;
        let sent = events.iter().map(|event| memory.observe(event).sent);
        sent.map(|sent| sent.map(|sent| (sent.micros() - START) / SECOND)).collect::<Vec<_>>()
    };
    let accepted = event(Kind::Accepted, 1, "injected");
    let open = event(Kind::Opened, 9, "opened,engaged");
    assert_eq!(sent(&[accepted, open, delivered(5), open]), [None, None, Some(5), Some(5)]);
    let with_time = Observation { sent_at: Some(at(2)), ..delivered(5) };
    assert_eq!(sent(&[with_time, bounced(1, "bounced_soft")]), [Some(2), Some(2)]);
    let open = Observation { sent_at: Some(at(3)), ..open };
    assert_eq!(sent(&[open, with_time, open]), [Some(3), Some(2), Some(2)]);
}

#[test]
fn corrections_apply_to_dimensions_in_which_all_events_agree() {
    let with = |event: Observation, campaign: u16| Observation {
        digests: DimensionDigests([1, campaign, 0, 4, 5]),
        ..event
    };
    let dimensions = |events: &[Observation]| {
        let mut memory = MessageMemory::UNKNOWN;
        let corrections = events.iter().filter_map(|event| memory.observe(event).corrections);
        corrections.map(|corrections| corrections.dimensions.to_string()).last().unwrap()
    };
    let soft = bounced(3, "bounced_soft");
    let all = "mailbox_provider,campaign,sender_domain,sending_ip,tenant";
    assert_eq!(dimensions(&[with(soft, 7), with(delivered(5), 7)]), all);
    let some = "mailbox_provider,sender_domain,sending_ip,tenant";
    assert_eq!(dimensions(&[with(soft, 7), with(delivered(5), 8)]), some);
    let earlier = bounced(1, "bounced_soft");
    let events = [with(soft, 7), with(delivered(5), 8), with(earlier, 8)];
    assert_eq!(dimensions(&events), some, "for ever");
    // Nothing corrects what these count for, so it does not matter where they counted.
    let open = event(Kind::Opened, 9, "opened,engaged");
    let accepted = event(Kind::Accepted, 1, "injected");
    let events = [with(accepted, 8), with(open, 8), with(soft, 7), with(delivered(5), 7)];
    assert_eq!(dimensions(&events), all);
}

#[test]
fn an_event_that_may_be_a_duplicate_counts_for_what_cannot_have_counted() {
    let mut memory = MessageMemory::UNKNOWN;
    let deferral = event(Kind::Deferred, 1, "deferred,deferrals");
    memory.observe(&deferral);
    let again = Observation { may_be_duplicate: true, ..deferral };
    assert_eq!(shown(&memory.observe(&again)), "");
    let delivery = Observation { may_be_duplicate: true, ..delivered(5) };
    assert_eq!(shown(&memory.observe(&delivery)), "delivered,deferred_settled");
    assert_eq!(shown(&memory.observe(&delivery)), "");
}

/// The events of one message: few times, so that many are equal, and two values of each dimension.
fn events() -> impl Strategy<Value = Vec<Observation>> {
    let kinds = prop_oneof![
        Just((Kind::Accepted, "injected")),
        Just((Kind::Delivered, "delivered")),
        Just((Kind::Delivered, "delivered,delivered_fbl")),
        Just((Kind::Deferred, "deferred,deferrals")),
        Just((Kind::Deferred, "deferred,deferrals,throttled")),
        Just((Kind::Bounced, "bounced_hard,late_bounces_fbl")),
        Just((Kind::Bounced, "bounced_soft,unclassified")),
        Just((Kind::Bounced, "bounced_soft")),
        Just((Kind::Bounced, "bounced_block,auth_refused")),
        Just((Kind::Bounced, "bounced_undetermined")),
        Just((Kind::Bounced, "late_bounces,late_bounces_fbl")),
        Just((Kind::Bounced, "auto_replies")),
        Just((Kind::Dropped, "suppressed")),
        Just((Kind::Opened, "opened,engaged")),
        Just((Kind::Clicked, "machine_clicked")),
        Just((Kind::Complained, "complained")),
    ];
    let event = (kinds, 0..5_i64, any::<[bool; 5]>(), prop::bool::weighted(0.3)).prop_map(
        |((kind, counters), second, differs, has_sent_at)| {
            let digests = differs.map(|differs| 1 + u16::from(differs));
            Observation {
                digests: DimensionDigests(digests),
                sent_at: has_sent_at.then(|| at(second - 9)),
                ..event(kind, second, counters)
            }
        },
    );
    vec(event, 0..10)
}

/// The sums that monitor would compute: by counter and time, in one scope.
type Sums = BTreeMap<(Counter, OccurredAt), i64>;

/// Adds an effect to the sums of a scope. `dimension` is `None` for the scope of the source.
fn add(sums: &mut Sums, event: &Observation, effect: &Effect, dimension: Option<Dimension>) {
    for counter in effect.counts.iter() {
        *sums.entry((counter, event.counted_at)).or_default() += 1;
    }
    let corrections = effect.corrections.as_ref();
    let applies = |dimensions: event::DimensionSet| {
        dimension.is_none_or(|dimension| dimensions.contains(dimension))
    };
    for corrections in corrections.into_iter().filter(|it| applies(it.dimensions)) {
        for change in &corrections.changes {
            let sum = sums.entry((change.counter, change.at)).or_default();
            *sum += if change.adds { 1 } else { -1 };
        }
    }
    for (&(counter, at), &sum) in sums.iter() {
        let most = if counter == Counter::Deferrals { i64::MAX } else { 1 };
        assert!((0..=most).contains(&sum), "{counter:?} at {at:?} is {sum} in {dimension:?}");
    }
    sums.retain(|_, sum| *sum != 0);
}

/// Sums up the counters that corrections can change.
fn source_sums(events: &[Observation]) -> (Sums, MessageMemory) {
    let (mut sums, mut memory) = (Sums::new(), MessageMemory::UNKNOWN);
    for event in events {
        let effect = memory.observe(event);
        add(&mut sums, event, &effect, None);
    }
    (sums, memory)
}

fn is_corrected(counter: Counter) -> bool {
    let name = counter.as_str();
    name != "deferrals"
        && ["delivered", "bounced", "late", "deferred"].iter().any(|it| name.starts_with(it))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn counts_and_corrections_add_up_to_the_contributions(events in events()) {
        let (mut sums, memory) = source_sums(&events);
        let mut once = memory.counted_once();
        let deferrals = events.iter().filter(|event| event.kind == Kind::Deferred).count() as i64;
        let mut counted = 0;
        sums.retain(|&(counter, _), sum| {
            if counter == Counter::Deferrals {
                counted += *sum;
            } else if !is_corrected(counter) {
                assert!(once.contains(counter), "{counter:?} counts once");
                once = once.without(counter);
            }
            is_corrected(counter)
        });
        prop_assert_eq!(counted, deferrals);
        prop_assert!(once.is_empty(), "{} did not count", once);
        let contributions: Sums = memory.contributions().map(|key| (key, 1)).collect();
        prop_assert_eq!(sums, contributions);
    }

    #[test]
    fn the_sums_of_every_dimension_stay_between_zero_and_one(events in events()) {
        for dimension in Dimension::ALL {
            let mut memory = MessageMemory::UNKNOWN;
            let mut scopes = BTreeMap::<u16, Sums>::new();
            for event in &events {
                let effect = memory.observe(event);
                let scope = scopes.entry(event.digests.0[dimension as usize]).or_default();
                add(scope, event, &effect, Some(dimension));
            }
            if scopes.len() == 1 {
                let (source, _) = source_sums(&events);
                prop_assert_eq!(scopes.into_values().next(), Some(source));
            }
        }
    }

    #[test]
    fn the_order_of_the_events_does_not_matter(
        (events, shuffled) in events().prop_flat_map(|events| {
            let shuffled = Just(events.clone()).prop_shuffle();
            (Just(events), shuffled)
        })
    ) {
        let corrected = |events: &[Observation]| {
            let mut sums = source_sums(events).0;
            sums.retain(|&(counter, _), _| is_corrected(counter));
            sums
        };
        prop_assert_eq!(corrected(&events), corrected(&shuffled));
    }

    #[test]
    fn accepted_events_change_nothing_but_injected(events in events()) {
        let effects = |events: &[Observation]| {
            let mut memory = MessageMemory::UNKNOWN;
            let effects = events.iter().map(|event| (event.kind, memory.observe(event)));
            let effects = effects.filter(|(kind, _)| *kind != Kind::Accepted);
            effects.map(|(_, effect)| effect).collect::<Vec<_>>()
        };
        let without: Vec<_> =
            events.iter().copied().filter(|event| event.kind != Kind::Accepted).collect();
        prop_assert_eq!(effects(&events), effects(&without));
        let (with, without) = (source_sums(&events).0, source_sums(&without).0);
        prop_assert!(with.keys().all(|key| key.0 == Counter::Injected || without.contains_key(key)));
    }
}
