use std::collections::{BTreeMap, BTreeSet};

use event::{Kind, Provider};
use serde_json::Value;

use super::says::Says;
use super::*;
use crate::clock::{MINUTE, SECOND};
use crate::rates::{HOUR_MICROS, QUARTER_MICROS, Scope, timelines};
use crate::{Credentials, ExpectedAlert, shape};

const NOW: i64 = 1_795_255_200;

fn demo(seed: u64) -> Traffic {
    Traffic::new(seed, Plan::demo(&Credentials::new("https://hooks.example.com"), NOW))
}

fn small(seed: u64) -> Traffic {
    Traffic::new(seed, Plan::small(&Credentials::new("https://hooks.example.com"), NOW))
}

#[test]
fn the_same_seed_is_the_same_mail() {
    let bodies = |seed| small(seed).requests().map(|r| (r.path, r.body)).collect::<Vec<_>>();
    assert_eq!(bodies(1), bodies(1));
    assert_ne!(bodies(1), bodies(2));
}

#[test]
fn requests_are_what_the_truth_counts() {
    let plan = Plan {
        malformed: vec![(Provider::SendGrid, 2), (Provider::Mailgun, 1)],
        bad_signatures: 5,
        ..Plan::small(&Credentials::new(""), NOW)
    };
    let traffic = Traffic::new(3, plan);
    let requests: Vec<SignedRequest> = traffic.requests().collect();
    let truth = traffic.truth();
    assert_eq!(truth.requests, requests.len() as u64);
    assert_eq!((truth.malformed, truth.refused), (3, 5));
    let forged = requests.iter().filter(|r| contains(&r.body, b"mallory")).count();
    assert_eq!(forged, 5);
    let sendgrid_events: usize = requests
        .iter()
        .filter(|r| r.path.starts_with("/webhooks/sendgrid/") && !contains(&r.body, b"mallory"))
        .filter_map(|r| serde_json::from_slice::<Vec<Value>>(&r.body).ok())
        .map(|events| events.len())
        .sum();
    let accepted = truth.accepted.iter().filter(|((p, _), _)| *p == Provider::SendGrid);
    assert_eq!(sendgrid_events as u64, accepted.map(|(_, n)| n).sum::<u64>());
}

#[test]
fn batches_are_the_genuine_requests_unsigned() {
    let plan = Plan { bad_signatures: 3, ..Plan::small(&Credentials::new(""), NOW) };
    let traffic = Traffic::new(3, plan);
    let genuine = traffic.truth().requests - traffic.truth().refused;
    assert_eq!(traffic.batches().count() as u64, genuine);
    let facts: usize = traffic.batches().map(|(_, facts)| facts.len()).sum();
    assert_eq!(facts as u64, traffic.truth().accepted_total());
    assert!(traffic.batches().map(|(at, _)| at).is_sorted());
    for (_, facts) in traffic.batches() {
        assert_eq!(crate::sign::facts(&traffic.plan().credentials, &facts, NOW).len(), 1);
    }
}

fn contains(body: &[u8], what: &[u8]) -> bool {
    body.windows(what.len()).any(|window| window == what)
}

#[test]
fn the_truth_agrees_with_itself() {
    let traffic = demo(1);
    let truth = traffic.truth();
    assert_eq!(truth.accepted_total(), truth.distinct_total() + truth.duplicates);
    assert_eq!(truth.distinct_total(), traffic.facts().count() as u64);
    assert!((5_000..20_000).contains(&truth.accepted_total()), "{}", truth.accepted_total());
    assert!(truth.requests < 9_000, "the demo takes a minute: {}", truth.requests);
    assert!(truth.duplicates > 100 && truth.malformed == 13 && truth.refused == 13);
    let providers: BTreeSet<Provider> =
        truth.sources.keys().map(|(provider, _)| *provider).collect();
    assert_eq!(providers, Provider::ALL.into(), "every provider has a sender");
    let mut messages: BTreeMap<_, u64> = BTreeMap::new();
    for fact in traffic.facts().filter(|f| matches!(f.kind, Kind::Delivered | Kind::Bounced)) {
        *messages.entry((fact.provider, fact.source.clone())).or_default() += 1;
    }
    for (key, source) in &truth.sources {
        // Every message ends delivered or bounced, but for the closing ones.
        let says = Says::of(key.0);
        let closing = if says.accepted { 24 } else { 0 };
        assert_eq!(source.sent(), messages[key] + closing, "{key:?}");
        assert_eq!(source.accepted > 0, says.accepted, "{key:?}");
        assert_eq!(messages[key], source.delivered + source.hard_bounces + source.soft_bounces);
        assert!(source.hard_bounces > 0 && source.complaints <= 3);
        assert!(source.unique_clicks > 0 && source.unique_clicks < source.unique_opens);
        assert_eq!(source.soft_bounces > 0, says.soft_bounced, "{key:?}");
        assert_eq!(source.unsubscribes > 0, says.unsubscribed, "{key:?}");
        assert_eq!(source.machine_engagements > 0, says.machine_opened, "{key:?}");
        let deferred = truth.distinct.contains_key(&(key.0, Kind::Deferred));
        assert_eq!(deferred, says.deferred, "{key:?}");
    }
}

#[test]
fn every_fact_can_be_told_by_what_the_provider_says_of_it() {
    let traffic = demo(2);
    let mut said = BTreeSet::new();
    for fact in traffic.facts() {
        let step = Fact::resolution_micros(fact.provider);
        assert_eq!(fact.occurred_at_micros % step, 0);
        assert!(said.insert(shape::json(fact).unwrap().to_string()), "{fact:?} is said twice");
        // Mandrill has no event id: message, event and second must tell.
        let key = (fact.message_id.clone(), fact.kind, fact.occurred_at_micros);
        assert!(fact.machine || said.insert(format!("{key:?}")), "{fact:?}");
    }
    let last = traffic.facts().map(|fact| fact.occurred_at_micros).max();
    assert!(last < Some(NOW * SECOND), "nothing is from the future");
}

#[test]
fn event_time_moves_forward() {
    let traffic = demo(3);
    let mut clock = i64::MIN;
    let mut disorder = 0;
    let mut delivered = BTreeSet::new();
    let mut opens_first = 0;
    for fact in traffic.facts() {
        clock = clock.max(fact.occurred_at_micros);
        disorder = disorder.max(clock - fact.occurred_at_micros);
        if fact.kind == Kind::Delivered {
            delivered.insert(&fact.message_id);
        }
        if fact.kind == Kind::Opened && !delivered.contains(&fact.message_id) {
            opens_first += 1;
        }
    }
    assert!(disorder > 0 && disorder < 4 * SECOND, "{disorder} µs");
    assert!(opens_first > 20, "{opens_first} opens before their delivery");
}

#[test]
fn requests_are_batched_as_the_provider_does() {
    let mut largest: BTreeMap<Provider, usize> = BTreeMap::new();
    for posting in &demo(4).postings {
        if let [first, ..] = posting.genuine() {
            let size = largest.entry(first.provider).or_default();
            *size = posting.genuine().len().max(*size);
        }
    }
    for provider in Provider::ALL {
        let limit = Says::of(provider).at_once;
        assert!((limit.min(10)..=limit).contains(&largest[&provider]), "{largest:?}");
    }
}

#[test]
fn the_closing_events_come_late_and_name_many() {
    let traffic = demo(5);
    let closing: Vec<&Fact> = traffic.facts().filter(|f| f.campaign == "closing").collect();
    let recipients: BTreeSet<&str> = closing.iter().map(|f| f.recipient.as_str()).collect();
    assert!(recipients.len() >= 200);
    let others = traffic.facts().filter(|f| f.campaign != "closing");
    let last = others.map(|f| f.occurred_at_micros).max().unwrap();
    assert!(closing.iter().all(|f| f.occurred_at_micros >= last + 69 * MINUTE));
}

/// Providers write whole seconds, and a window one event longer or shorter can lie on the other
/// side of a threshold.
#[test]
fn the_truth_does_not_depend_on_the_second_of_the_clock() {
    let truth = |second: i64| {
        let plan = Plan::demo(&Credentials::new(""), NOW + second);
        let (start, traffic) = (plan.start_micros, Traffic::new(7, plan));
        let alerts = traffic.truth().alerts.clone();
        let moved = alerts.into_iter().map(|alert| ExpectedAlert {
            from_micros: alert.from_micros - start,
            until_micros: alert.until_micros - start,
            ..alert
        });
        moved.collect::<Vec<_>>()
    };
    for second in 1..10 {
        assert_eq!(truth(second), truth(0), "{second} s later");
    }
}

/// The heart of the demo: one episode at one source, and nothing else that any rule of the demo
/// could see, whatever the seed.
#[test]
fn one_source_breaches_once_and_everything_else_is_healthy() {
    for seed in 0..8 {
        let traffic = demo(seed);
        let [alert] = traffic.truth().alerts.as_slice() else {
            panic!("seed {seed}: {:?}", traffic.truth().alerts)
        };
        assert_eq!((alert.provider, alert.source.as_str()), (Provider::SendGrid, "acme"));
        assert!(alert.peak > 0.15, "{}", alert.peak);
        let start = traffic.plan().start_micros;
        let burst = (start + 60 * MINUTE)..(start + 66 * MINUTE);
        assert!(burst.contains(&alert.from_micros), "it shows while the burst is on");
        assert!(alert.until_micros < burst.end + 61 * MINUTE, "and is over when it has left");

        for (scope, timeline) in timelines(traffic.facts()) {
            match scope {
                Scope::Source(provider, _) => source_is_as_planned(&timeline, provider, &burst),
                Scope::Mailbox(..) | Scope::Campaign(..) => {
                    for end in timeline.ends(HOUR_MICROS) {
                        let counts = timeline.window(end, HOUR_MICROS);
                        assert!(counts.sent() < 200 && counts.delivered < 200, "{scope:?}");
                    }
                }
            }
        }
    }
}

fn source_is_as_planned(
    timeline: &crate::rates::Timeline,
    provider: Provider,
    burst: &std::ops::Range<i64>,
) {
    let acme = provider == Provider::SendGrid;
    let stretches = |width| timeline.bounce_breaches(width, 200, 0.05).len();
    assert_eq!(stretches(HOUR_MICROS), usize::from(acme));
    assert_eq!(stretches(QUARTER_MICROS), usize::from(acme));
    let judged = timeline.ends(HOUR_MICROS).map(|end| timeline.window(end, HOUR_MICROS));
    assert!(judged.map(|counts| counts.delivered).max() > Some(220), "{provider} is seen");
    for end in timeline.ends(HOUR_MICROS) {
        let counts = timeline.window(end, HOUR_MICROS);
        let bad = acme && (burst.start..burst.end + HOUR_MICROS + MINUTE).contains(&end);
        if counts.sent() >= 200 && !bad {
            assert!(counts.hard_rate() < 0.03, "{counts:?}");
        }
        assert!(counts.delivered < 1_000, "below what the complaint rule judges by");
        if counts.delivered >= 101 {
            let of_delivered = |part: usize| part as f64 / counts.delivered as f64;
            assert!(of_delivered(counts.engaged) > 0.25, "{provider}: {counts:?}");
            assert!(of_delivered(counts.opened) > 0.25, "{provider}: {counts:?}");
        }
    }
    if acme {
        for width in [QUARTER_MICROS, HOUR_MICROS] {
            let counts = timeline.window(burst.end, width);
            assert!(counts.sent() >= 300 && counts.hard_rate() > 0.2, "{counts:?}");
        }
        // Well again, and enough of it to say so, also in the short window.
        let well = burst.end + 62 * MINUTE + QUARTER_MICROS;
        let counts = timeline.window(well, QUARTER_MICROS);
        assert!(counts.sent() >= 200 && counts.hard_rate() < 0.03, "{counts:?}");
    }
}
