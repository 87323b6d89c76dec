use event::Counter::{Complained, DeliveredFbl, Engaged, Listed, Opened};

use super::cases::{HOUR, MONDAY, only};
use super::*;

/// Four weeks of 600 deliveries and 2 complaints an hour.
fn usual() -> Baseline {
    usual_with(2)
}

/// The same with another number of complaints.
fn usual_with(complaints: i64) -> Baseline {
    let mut baseline = Baseline::new(Zone::UTC);
    for hour in 0..4 * 168 {
        let counts = Counts::of([(Delivered, 600), (DeliveredFbl, 300), (Complained, complaints)]);
        baseline.observe(MONDAY + hour * HOUR, &counts, MINUTE);
    }
    baseline
}

const LATER: i64 = MONDAY + 4 * 7 * 24 * HOUR + 10 * HOUR;

fn silent_since(last: i64, end: i64) -> Sample {
    Sample { last_event: Some(last), baseline: Some(usual()), ..Sample::at(end) }
}

#[test]
fn silence_is_an_alert_and_events_end_it() {
    let mut run = only("silence", &scope());
    run.judge(&silent_since(LATER, LATER));
    let last_events = std::iter::once((Series::Events, LATER));
    let due = silence_times(&run.rules, &usual(), last_events).into_iter().min().unwrap();
    assert!((LATER + 5 * MINUTE..LATER + 7 * MINUTE).contains(&due), "{}", due - LATER);
    run.advance(due - 1, &silent_since(LATER, LATER));
    assert!(run.alerts.is_empty());
    run.advance(due, &silent_since(LATER, LATER));
    assert_eq!(
        run.alerts[0].summary,
        "acme at SendGrid: no events for 5 min (since 10:00 UTC), usually less than 5 min"
    );
    // Events come again, and go on.
    run.judge(&silent_since(LATER + HOUR, LATER + HOUR));
    run.pass(LATER + 65 * MINUTE, &silent_since(LATER + 64 * MINUTE, LATER + HOUR));
    let last = run.alerts.last().unwrap();
    assert_eq!(last.reason, Some(ResolveReason::Recovered));
    assert_eq!(last.summary, "acme at SendGrid: recovered, events come again");
}

#[test]
fn a_closed_silence_does_not_open_again_and_a_source_that_is_gone_ends_as_no_traffic() {
    let mut run = only("silence", &scope());
    run.judge(&silent_since(LATER, LATER + 10 * MINUTE));
    let Run { rules, episodes, alerts, .. } = &mut run;
    let id = alerts[0].episode_id;
    assert!(episodes.close(&id, &scope(), rules, LATER + 11 * MINUTE, alerts));
    run.advance(LATER + HOUR, &silent_since(LATER, LATER + HOUR));
    assert_eq!(run.alerts.len(), 2, "the same silence does not open another episode");

    let mut run = only("silence", &scope());
    run.judge(&silent_since(LATER, LATER + 10 * MINUTE));
    run.alerts.clear();
    let gone = Sample {
        baseline: Some(Baseline::new(Zone::UTC)),
        ..silent_since(LATER, LATER + 500 * HOUR)
    };
    run.advance(LATER + 500 * HOUR, &gone);
    run.pass(LATER + 600 * HOUR, &gone);
    let reasons: Vec<_> = run.alerts.iter().map(|it| (it.state, it.reason)).collect();
    let ended = (AlertState::Resolved, Some(ResolveReason::NoTraffic));
    assert_eq!(reasons, [(AlertState::Stale, None), ended]);
}

#[test]
fn a_burst_of_complaints_is_compared_with_the_same_hour() {
    let mut run = only("complaint_burst", &scope());
    let hour = |complaints| {
        let counts = mail(0, 600) + Counts::of([(DeliveredFbl, 300), (Complained, complaints)]);
        Sample { windows: vec![(Width::M60, counts)], ..silent_since(LATER + HOUR, LATER + HOUR) }
    };
    run.judge(&hour(7));
    assert!(run.episodes.is_empty(), "three times as many, but that happens by chance");
    run.judge(&hour(14));
    run.pass(LATER + HOUR + MINUTE, &hour(14));
    let [alert] = run.alerts.as_slice() else { panic!("{:?}", run.alerts) };
    assert_eq!((alert.severity, alert.numerator, alert.volume), (Severity::Critical, 14, 300));
    assert_eq!(
        alert.summary,
        "acme at SendGrid: complaints 4.7 % in 60 min (14 of 300 accepted by providers that report \
         complaints), 7 times as many as usual at this hour, limit 6 times"
    );
}

#[test]
fn texts_say_what_is_usual_and_when() {
    let mut run = only("complaint_burst", &scope());
    let counts = mail(0, 600) + Counts::of([(DeliveredFbl, 300), (Complained, 14)]);
    let burst = Sample {
        windows: vec![(Width::M60, counts)],
        baseline: Some(usual_with(0)),
        ..silent_since(LATER + HOUR, LATER + HOUR)
    };
    run.judge(&burst);
    run.pass(LATER + HOUR + MINUTE, &burst);
    let text = &run.alerts[0].summary;
    assert!(text.ends_with(", usually less than one at this hour"), "{text}");

    let mut run = only("silence", &scope());
    run.judge(&silent_since(LATER, LATER));
    run.advance(LATER + 30 * HOUR, &silent_since(LATER, LATER + 30 * HOUR));
    let text = &run.alerts[0].summary;
    assert!(text.contains("no events for 30 h (since ") && text.contains(" UTC)"), "{text}");
    let day = jiff::Timestamp::from_microsecond(LATER).unwrap().strftime("%-d %b").to_string();
    assert!(text.contains(&format!("(since {day} ")), "{text}");
}

#[test]
fn missing_deliveries_are_an_alert_only_where_they_are_usual() {
    let mut run = only("deliveries_missing", &scope());
    let opens = |baseline| Sample {
        windows: vec![(Width::M15, Counts::of([(Opened, 40)]))],
        baseline,
        rates_known: false,
        ..Sample::at(LATER)
    };
    run.judge(&opens(None));
    run.judge(&opens(Some(Baseline::new(Zone::UTC))));
    assert!(run.episodes.is_empty());
    run.judge(&opens(Some(usual())));
    run.pass(LATER + MINUTE, &opens(Some(usual())));
    assert_eq!(run.alerts[0].severity, Severity::Critical);
    assert_eq!(
        run.alerts[0].summary,
        "acme at SendGrid: no deliveries in 15 min, but 40 other events, although usually more than \
         20 % of its events are deliveries"
    );
}

fn mailbox(name: &str) -> Scope {
    let (provider, source) = (Provider::SendGrid, "acme".to_owned());
    Scope::MailboxProvider { provider, source, mailbox_provider: name.to_owned() }
}

#[test]
fn one_answer_that_names_a_block_list_is_enough() {
    let mut run = only("provider_wording_listed", &mailbox("outlook"));
    let hour = |sent| Sample {
        windows: vec![(Width::M60, mail(0, sent) + Counts::of([(Listed, 1)]))],
        ..Sample::at(MONDAY)
    };
    run.judge(&hour(5000));
    assert!(run.episodes.is_empty(), "0.02 % of the mail");
    run.judge(&hour(500));
    run.pass(MONDAY + MINUTE, &hour(500));
    assert_eq!(run.alerts.len(), 1);
}

#[test]
fn less_engagement_than_usual_with_unchanged_delivery_means_spam_folders() {
    for (bounced, engaged, alerts) in [(0, 350, 0), (0, 120, 1), (900, 120, 0)] {
        let mut baseline = Baseline::new(Zone::UTC);
        for day in 0..28 {
            let counts = mail(0, 2000) + Counts::of([(Engaged, 400)]);
            baseline.observe_cohort(MONDAY + (day * 24 + 9) * HOUR, &counts);
        }
        let counts = mail(bounced, 2000) + Counts::of([(Engaged, engaged)]);
        baseline.observe_cohort(MONDAY + (28 * 24 + 9) * HOUR, &counts);
        let end = MONDAY + (28 * 24 + 13) * HOUR;
        let sample = Sample { baseline: Some(baseline), ..Sample::at(end) };
        let mut run = only("spam_foldering", &mailbox("gmail"));
        run.judge(&sample);
        run.pass(end + MINUTE, &sample);
        assert_eq!(run.alerts.len(), alerts, "{engaged} of {}", 2000 - bounced);
    }
}
