//! The real binary on real Kafka: what it publishes is what the events add up to, whoever runs it
//! and however often it is killed.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "pipeline/campaign.rs"]
mod campaign;
#[path = "pipeline/offline.rs"]
mod offline;
#[path = "pipeline/stage.rs"]
mod stage;

use std::time::Duration;

use campaign::{Happening, MINUTE, SECOND, T0};
use event::Kind;
use offline::Truth;
use stage::Stage;

#[test]
fn one_member_publishes_what_the_events_add_up_to() {
    let stage = Stage::new("one");
    let events = campaign::events(20_000);
    stage.publish(&events);
    let _member = stage.member("a");
    stage.assert_published(&Truth::of(&events));
}

#[test]
fn members_that_come_and_die_do_not_show() {
    let stage = Stage::new("three");
    let events = campaign::events(20_000);
    stage.publish(&events);
    let truth = Truth::of(&events);
    let mut published = stage.published();

    let mut first = stage.member("a");
    published.await_rates(truth.rates.len() / 50);
    let _others = [stage.member("b"), stage.member("c")];
    published.await_rates(truth.rates.len() / 8);
    first.kill().unwrap();
    let _late = stage.member("d");
    stage.assert_published(&truth);
}

#[test]
fn a_member_killed_again_and_again_does_not_show() {
    let stage = Stage::new("killed");
    let events = campaign::events(20_000);
    stage.publish(&events);
    let truth = Truth::of(&events);
    let mut published = stage.published();

    let mut member = stage.member("a");
    for kill in 1..=5 {
        published.await_rates(truth.rates.len() * kill / 8);
        member.kill().unwrap();
        member.restart().unwrap();
    }
    stage.assert_published(&truth);
}

#[test]
fn an_event_that_comes_too_late_is_counted_and_changes_nothing() {
    let stage = Stage::new("late");
    let member = stage.member("a");
    let at = |second: i64| Happening {
        at: T0 + second * SECOND,
        ..Happening::new("acme", Kind::Delivered, "ada@example.com")
    };
    // The watermark comes to 1195; the allowed lateness is 600 s.
    let (in_time, late) = ([at(0), at(1200), at(595)], [at(594), at(0)]);
    stage.publish(&in_time);
    stage.publish(&late);
    stage.until("the late events are counted", || {
        member.metric("mailpulse_late_events_total") >= 2.0
    });
    stage.assert_published(&Truth::of(&in_time));
    assert_eq!(member.metric("mailpulse_late_events_total"), 2.0);
}

#[test]
fn an_event_that_comes_again_for_the_archive_is_counted_once() {
    let stage = Stage::new("again");
    let _member = stage.member("a");
    let events: Vec<_> = (0..60)
        .map(|second| Happening {
            at: T0 + second * SECOND,
            ..Happening::new("acme", Kind::Delivered, "ada@example.com")
        })
        .collect();
    stage.publish(&events);
    stage.publish_for_the_archive(&events[..20]);
    stage.assert_published(&Truth::of(&events));
}

#[test]
fn an_alert_fires_and_resolves_once_each() {
    let stage = Stage::new("alert");
    let mut member = stage.member("a");
    // One recipient, hence one partition: while event time runs faster than the clock on the wall,
    // as it never does in life, a partition that has just been quiet could be left behind.
    let event = |kind, second: i64| Happening {
        at: T0 + second * SECOND,
        ..Happening::new("acme", kind, "ada@example.com")
    };
    // A quarter bounces in the first minute and nothing from then on.
    let burst =
        (0..100).map(|n| event(if n % 4 == 0 { Kind::Bounced } else { Kind::Delivered }, n / 2));
    let calm = (0..1200).map(|n| event(Kind::Delivered, 60 + n));
    let events: Vec<_> = burst.chain(calm).collect();
    stage.publish(&events[..100]);
    let mut published = stage.published();
    // Traffic goes on, or event time would not.
    stage.publish(&events[100..400]);
    let firing = published.await_alerts(1);
    assert_eq!(firing[0]["state"], "firing");
    assert_eq!(firing[0]["at"], T0 + 10 * SECOND);
    member.kill().unwrap();
    member.restart().unwrap();
    stage.publish(&events[400..]);

    let truth = Truth::of(&events);
    assert_eq!(truth.alerts.len(), 2, "{:?}", truth.alerts);
    stage.assert_published(&truth);
    let alerts = published.await_alerts(2);
    assert_eq!(alerts[0]["episode_id"], alerts[1]["episode_id"]);
    assert_eq!(alerts[1]["state"], "resolved");
    assert!(alerts[1]["at"].as_i64().unwrap() <= T0 + 20 * MINUTE);
    assert!(member.terminate(Duration::from_secs(20)).unwrap().success());
}
