//! The real binary on real Kafka: it publishes what the events add up to, however many members there
//! are and however often they are killed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "pipeline/alerts.rs"]
mod alerts;
#[path = "pipeline/campaign.rs"]
mod campaign;
#[path = "pipeline/offline.rs"]
mod offline;
#[path = "pipeline/stage.rs"]
mod stage;

use campaign::{MINUTE, SECOND, T0, TestEvent};
use event::Kind;
use harness::{DEADLINE, eventually, seen};
use offline::Expected;
use stage::Stage;

#[test]
fn one_member_publishes_what_the_events_add_up_to() {
    let stage = Stage::new("one");
    let events = campaign::events(20_000);
    stage.publish(&events);
    let _member = stage.member("a");
    alerts::assert_fired(&stage.assert_published(&Expected::of(&events)));
}

#[test]
fn a_rate_above_the_critical_threshold_becomes_critical() {
    let stage = Stage::new("critical");
    // With all 45 minutes at once, one partition could be read far ahead of the others, and windows that end more than
    // 15 minutes before the newest event of a scope are not judged.
    let mut events = campaign::events(20_000);
    events.retain(|event| event.at < T0 + 26 * MINUTE);
    stage.publish(&events);
    let _member = stage.member("a");
    stage.published().await_severity(alerts::WORST, "critical");
}

#[test]
fn members_that_join_and_are_killed_change_nothing() {
    let stage = Stage::new("three");
    let events = campaign::events(20_000);
    stage.publish(&events);
    let expected = Expected::of(&events);
    let mut published = stage.published();

    let mut first = stage.member("a");
    published.await_rates(expected.rates.len() / 50);
    let _others = [stage.member("b"), stage.member("c")];
    published.await_rates(expected.rates.len() / 8);
    first.kill();
    let _late = stage.member("d");
    alerts::assert_fired(&stage.assert_published(&expected));
}

#[test]
fn a_member_killed_repeatedly_changes_nothing() {
    let stage = Stage::new("killed");
    let events = campaign::events(20_000);
    stage.publish(&events);
    let expected = Expected::of(&events);
    let mut published = stage.published();

    let mut member = stage.member("a");
    for kill in 1..=5 {
        published.await_rates(expected.rates.len() * kill / 8);
        member.kill();
        member.restart();
    }
    alerts::assert_fired(&stage.assert_published(&expected));
}

#[test]
fn an_event_that_is_too_late_for_the_windows_of_an_hour_still_counts_for_the_day() {
    let stage = Stage::new("late");
    let member = stage.member("a");
    let at = |second: i64| TestEvent {
        at: T0 + second * SECOND,
        ..TestEvent::new("acme", Kind::Delivered, "ada@example.com")
    };
    stage.publish(&[at(0), at(5000), at(8800), at(8900)]);
    let mut published = stage.published();
    // Event time is now between seconds 8810 and 8900. A pane is kept for 70 minutes, 4200 seconds.
    published.await_window("source/sendgrid/acme", "60m", T0 + 8810 * SECOND);
    stage.publish(&[at(4590), at(0), at(4700)]);
    let late_events =
        |ring| member.metric("mailpulse_monitor_late_events_total", &[("ring", ring)]);
    eventually("both late events to be counted", DEADLINE, || {
        seen(late_events("10s"), |counted| *counted >= 2.0)
    });
    stage.publish_ticks(T0 + 180 * MINUTE);
    let source = published.await_delivered("source", "24h", 7);
    assert_eq!(source.len(), 1);
    assert_eq!((late_events("10s"), late_events("5m")), (2.0, 0.0));
}

#[test]
fn the_campaigns_beyond_the_limit_of_a_source_have_a_common_rate() {
    const CAMPAIGNS: usize = 40;
    let stage = Stage::new("many");
    let events: Vec<_> = (0..400)
        .map(|number| TestEvent {
            at: T0 + (number / 10) * SECOND,
            campaign: Some(format!("c{}", number % CAMPAIGNS as i64).leak()),
            ..TestEvent::new("acme", Kind::Delivered, format!("r{number}@example.com"))
        })
        .collect();
    stage.publish(&events);
    let mut member = stage.limited_member("a", 9);
    let mut published = stage.published();
    stage.publish_ticks(T0 + 2 * MINUTE);
    let delivered = published.await_delivered("campaign", "60m", 400);
    // Three of each of the three shards, and the rest.
    assert!(delivered.len() <= 10, "{delivered:?}");
    assert!(delivered.contains_key("campaign/sendgrid/acme/%28other%29"), "{delivered:?}");
    let limited = member.metric("mailpulse_monitor_scopes_limited_total", &[("source", "acme")]);
    assert!(limited >= 30.0, "{limited}");
    member.stop();
}

#[test]
fn the_counts_of_a_campaign_are_published_once_a_minute_and_known_after_a_restart() {
    let stage = Stage::new("campaigns");
    let mut member = stage.member("a");
    let delivered = |seconds: std::ops::Range<i64>| -> Vec<TestEvent> {
        let event = |second| TestEvent {
            at: T0 + second * SECOND,
            campaign: Some("spring"),
            ..TestEvent::new("acme", Kind::Delivered, "ada@example.com")
        };
        seconds.map(event).collect()
    };
    stage.publish(&delivered(0..300));
    stage.publish_ticks(T0 + 7 * MINUTE);
    let published = stage.await_campaign("acme/spring", Some(300));
    assert!(published <= 8, "{published} records in seven minutes");
    // What comes in the minute of the last publication is published later, also if the member was killed meanwhile.
    stage.publish(&delivered(420..460));
    member.kill();
    member.restart();
    stage.publish_ticks(T0 + 10 * MINUTE);
    stage.await_campaign("acme/spring", Some(340));
    // A pane of the day is kept for 26 hours.
    stage.publish_ticks(T0 + 27 * 60 * MINUTE);
    stage.await_campaign("acme/spring", None);
    member.stop();
}

#[test]
fn an_event_redriven_for_archive_is_counted_once() {
    let stage = Stage::new("again");
    let _member = stage.member("a");
    let events: Vec<_> = (0..60)
        .map(|second| TestEvent {
            at: T0 + second * SECOND,
            ..TestEvent::new("acme", Kind::Delivered, "ada@example.com")
        })
        .collect();
    stage.publish(&events);
    stage.publish_redriven_for_archive(&events[..20]);
    stage.assert_published(&Expected::of(&events));
}

#[test]
fn an_alert_fires_and_resolves_once_each() {
    let stage = Stage::new("alert");
    let mut member = stage.member("a");
    // One recipient, and so one partition. In this test event time is faster than the clock, which
    // never happens in production; with more partitions, one that was idle could be left behind.
    let event = |kind, second: i64| TestEvent {
        at: T0 + second * SECOND,
        ..TestEvent::new("acme", kind, "ada@example.com")
    };
    // Three quarters of the messages bounce in the first minute, and none after it.
    let burst =
        (0..100).map(|n| event(if n % 4 == 0 { Kind::Delivered } else { Kind::Bounced }, n / 2));
    let calm = (0..2700).map(|n| event(Kind::Delivered, 60 + n));
    let events: Vec<_> = burst.chain(calm).collect();
    stage.publish(&events[..100]);
    let mut published = stage.published();
    stage.publish(&events[100..200]);
    let firing = published.await_alerts(1);
    assert_eq!(firing[0]["state"], "firing");
    assert!(firing[0]["at"].as_i64().unwrap() <= T0 + 2 * MINUTE);
    member.kill();
    member.restart();
    stage.publish(&events[200..]);

    let alerts = stage.assert_published(&Expected::of(&events));
    let bounces: Vec<_> = alerts.iter().filter(|(_, alert)| alert["rule"] == "bounces").collect();
    assert_eq!(bounces[0].1, firing[0], "it was published once");
    let (_, last) = bounces[bounces.len() - 1];
    assert_eq!(last["episode_id"], firing[0]["episode_id"]);
    assert_eq!((&last["state"], &last["reason"]), (&"resolved".into(), &"recovered".into()));
    // It must stay good for half an hour.
    let at = last["at"].as_i64().unwrap() - T0;
    assert!((30 * MINUTE..60 * MINUTE).contains(&at), "{} s", at / SECOND);
    member.stop();
}
