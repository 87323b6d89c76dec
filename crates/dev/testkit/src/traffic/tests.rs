use std::collections::{BTreeMap, BTreeSet};

use event::{Kind, Provider};
use serde_json::Value;

use super::reported_kinds::ReportedKinds;
use super::*;
use crate::rates::{HOUR_MICROS, QUARTER_MICROS, Scope, timelines};
use crate::time_formats::{MINUTE, SECOND};
use crate::{Credentials, ExpectedAlert, payloads};

const NOW: i64 = 1_795_255_200;

fn demo(seed: u64) -> Traffic {
    Traffic::new(seed, Plan::demo(&Credentials::new("https://hooks.example.com"), NOW))
}

fn small(seed: u64) -> Traffic {
    Traffic::new(seed, Plan::small(&Credentials::new("https://hooks.example.com"), NOW))
}

#[test]
fn the_same_seed_gives_the_same_mail() {
    let bodies = |seed| small(seed).requests().map(|r| (r.path, r.body)).collect::<Vec<_>>();
    assert_eq!(bodies(1), bodies(1));
    assert_ne!(bodies(1), bodies(2));
}

#[test]
fn the_expected_counts_match_the_requests() {
    let plan = Plan {
        malformed: vec![(Provider::SendGrid, 2), (Provider::Mailgun, 1)],
        bad_signatures: 5,
        ..Plan::small(&Credentials::new(""), NOW)
    };
    let traffic = Traffic::new(3, plan);
    let requests: Vec<SignedRequest> = traffic.requests().collect();
    let expected = traffic.expected();
    assert_eq!(expected.requests, requests.len() as u64);
    assert_eq!((expected.malformed, expected.rejected), (3, 5));
    let forged = requests.iter().filter(|r| contains(&r.body, b"mallory")).count();
    assert_eq!(forged, 5);
    let sendgrid_events: usize = requests
        .iter()
        .filter(|r| r.path.starts_with("/webhooks/sendgrid/") && !contains(&r.body, b"mallory"))
        .filter_map(|r| serde_json::from_slice::<Vec<Value>>(&r.body).ok())
        .map(|events| events.len())
        .sum();
    let accepted = expected.accepted.iter().filter(|((p, _), _)| *p == Provider::SendGrid);
    assert_eq!(sendgrid_events as u64, accepted.map(|(_, n)| n).sum::<u64>());
}

#[test]
fn genuine_requests_are_neither_malformed_nor_forged() {
    let plan = Plan { bad_signatures: 3, ..Plan::small(&Credentials::new(""), NOW) };
    let traffic = Traffic::new(3, plan);
    let genuine = traffic.expected().requests - traffic.expected().rejected;
    assert_eq!(traffic.genuine_requests().count() as u64, genuine);
    let events: usize = traffic.genuine_requests().map(|(_, events)| events.len()).sum();
    assert_eq!(events as u64, traffic.expected().accepted_total());
    assert!(traffic.genuine_requests().map(|(at, _)| at).is_sorted());
    for (_, events) in traffic.genuine_requests() {
        assert_eq!(crate::sign::events(&traffic.plan().credentials, &events, NOW).len(), 1);
    }
}

fn contains(body: &[u8], what: &[u8]) -> bool {
    body.windows(what.len()).any(|window| window == what)
}

#[test]
fn the_expected_counts_are_consistent() {
    let traffic = demo(1);
    let expected = traffic.expected();
    assert_eq!(expected.accepted_total(), expected.distinct_total() + expected.duplicates);
    assert_eq!(expected.distinct_total(), traffic.events().count() as u64);
    assert!((5_000..20_000).contains(&expected.accepted_total()), "{}", expected.accepted_total());
    assert!(
        expected.requests < 9_000,
        "the demo would take longer than a minute: {}",
        expected.requests
    );
    assert!(expected.duplicates > 100 && expected.malformed == 13 && expected.rejected == 13);
    let providers: BTreeSet<Provider> =
        expected.sources.keys().map(|(provider, _)| *provider).collect();
    assert_eq!(providers, crate::PROVIDERS.into(), "every provider has a source");
    let mut messages: BTreeMap<_, u64> = BTreeMap::new();
    for event in traffic.events().filter(|f| matches!(f.kind, Kind::Delivered | Kind::Bounced)) {
        *messages.entry((event.provider, event.source.clone())).or_default() += 1;
    }
    for (key, source) in &expected.sources {
        // Every message is delivered or bounces, except for the closing ones.
        let reported = ReportedKinds::of(key.0);
        let closing = if reported.accepted { 24 } else { 0 };
        assert_eq!(source.sent(), messages[key] + closing, "{key:?}");
        assert_eq!(source.accepted > 0, reported.accepted, "{key:?}");
        assert_eq!(messages[key], source.delivered + source.hard_bounces + source.soft_bounces);
        assert!(source.hard_bounces > 0 && source.complaints <= 3);
        assert!(source.unique_clicks > 0 && source.unique_clicks < source.unique_opens);
        assert_eq!(source.soft_bounces > 0, reported.soft_bounced, "{key:?}");
        assert_eq!(source.unsubscribes > 0, reported.unsubscribed, "{key:?}");
        assert_eq!(source.machine_engagements > 0, reported.machine_opened, "{key:?}");
        let deferred = expected.distinct.contains_key(&(key.0, Kind::Deferred));
        assert_eq!(deferred, reported.deferred, "{key:?}");
    }
}

#[test]
fn payloads_of_different_events_differ() {
    let traffic = demo(2);
    let mut payloads_seen = BTreeSet::new();
    for event in traffic.events() {
        let step = MailEvent::resolution_micros(event.provider);
        assert_eq!(event.occurred_at_micros % step, 0);
        assert!(
            payloads_seen.insert(payloads::json(event).unwrap().to_string()),
            "{event:?} has the payload of another event"
        );
        // Mandrill has no event id, so message, kind and second must be unique.
        let key = (event.message_id.clone(), event.kind, event.occurred_at_micros);
        assert!(event.machine || payloads_seen.insert(format!("{key:?}")), "{event:?}");
    }
    let last = traffic.events().map(|event| event.occurred_at_micros).max();
    assert!(last < Some(NOW * SECOND), "no event is in the future");
}

#[test]
fn event_time_moves_forward() {
    let traffic = demo(3);
    let mut latest = i64::MIN;
    let mut disorder = 0;
    let mut delivered = BTreeSet::new();
    let mut opens_first = 0;
    for event in traffic.events() {
        latest = latest.max(event.occurred_at_micros);
        disorder = disorder.max(latest - event.occurred_at_micros);
        if event.kind == Kind::Delivered {
            delivered.insert(&event.message_id);
        }
        if event.kind == Kind::Opened && !delivered.contains(&event.message_id) {
            opens_first += 1;
        }
    }
    assert!(disorder > 0 && disorder < 4 * SECOND, "{disorder} µs");
    assert!(opens_first > 20, "{opens_first} opens before their delivery");
}

#[test]
fn requests_are_batched_as_the_provider_does() {
    let mut largest: BTreeMap<Provider, usize> = BTreeMap::new();
    for request in &demo(4).schedule {
        if let [first, ..] = request.genuine() {
            let size = largest.entry(first.provider).or_default();
            *size = request.genuine().len().max(*size);
        }
    }
    for provider in crate::PROVIDERS {
        let limit = ReportedKinds::of(provider).max_events_per_request;
        assert!((limit.min(10)..=limit).contains(&largest[&provider]), "{largest:?}");
    }
}

#[test]
fn the_closing_events_are_late_and_have_many_recipients() {
    let traffic = demo(5);
    let closing: Vec<&MailEvent> = traffic.events().filter(|f| f.campaign == "closing").collect();
    let recipients: BTreeSet<&str> = closing.iter().map(|f| f.recipient.as_str()).collect();
    assert!(recipients.len() >= 200);
    let others = traffic.events().filter(|f| f.campaign != "closing");
    let last = others.map(|f| f.occurred_at_micros).max().unwrap();
    assert!(closing.iter().all(|f| f.occurred_at_micros >= last + 69 * MINUTE));
}

/// Providers write whole seconds, so an event could move to another window and change the number of
/// alerts.
#[test]
fn the_expected_alerts_do_not_depend_on_the_start_second() {
    let alerts = |second: i64| {
        let plan = Plan::demo(&Credentials::new(""), NOW + second);
        let (start, traffic) = (plan.start_micros, Traffic::new(7, plan));
        let moved = traffic.expected().alerts.clone().into_iter().map(|alert| ExpectedAlert {
            from_micros: alert.from_micros - start,
            until_micros: alert.until_micros - start,
            ..alert
        });
        moved.collect::<Vec<_>>()
    };
    for second in 1..10 {
        assert_eq!(alerts(second), alerts(0), "{second} s later");
    }
}

/// With every seed, the demo causes one episode at one source and no other alert.
#[test]
fn one_source_has_one_alert_and_the_others_have_none() {
    for seed in 0..8 {
        let traffic = demo(seed);
        let [alert] = traffic.expected().alerts.as_slice() else {
            panic!("seed {seed}: {:?}", traffic.expected().alerts)
        };
        assert_eq!((alert.provider, alert.source.as_str()), (Provider::SendGrid, "acme"));
        assert!(alert.peak > 0.15, "{}", alert.peak);
        let start = traffic.plan().start_micros;
        let burst = (start + 60 * MINUTE)..(start + 66 * MINUTE);
        assert!(burst.contains(&alert.from_micros), "the alert fires during the burst");
        assert!(
            alert.until_micros < burst.end + 61 * MINUTE,
            "the alert resolves after the burst has left the window"
        );

        for (scope, timeline) in timelines(traffic.events()) {
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
    let breaches = |width| timeline.bounce_breaches(width, 200, 0.05).len();
    assert_eq!(breaches(HOUR_MICROS), usize::from(acme));
    assert_eq!(breaches(QUARTER_MICROS), usize::from(acme));
    let judged = timeline.ends(HOUR_MICROS).map(|end| timeline.window(end, HOUR_MICROS));
    assert!(
        judged.map(|counts| counts.delivered).max() > Some(220),
        "{provider} has enough volume for the rule"
    );
    for end in timeline.ends(HOUR_MICROS) {
        let counts = timeline.window(end, HOUR_MICROS);
        let bad = acme && (burst.start..burst.end + HOUR_MICROS + MINUTE).contains(&end);
        if counts.sent() >= 200 && !bad {
            assert!(counts.hard_rate() < 0.03, "{counts:?}");
        }
        assert!(counts.delivered < 1_000, "fewer than the complaint rule needs");
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
        // After the burst, the short window has enough messages to resolve the alert.
        let recovered = burst.end + 62 * MINUTE + QUARTER_MICROS;
        let counts = timeline.window(recovered, QUARTER_MICROS);
        assert!(counts.sent() >= 200 && counts.hard_rate() < 0.03, "{counts:?}");
    }
}
