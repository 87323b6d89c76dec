//! `mailpulse alerts` on a real ClickHouse and a real Kafka.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stored;

use alerting::{
    Action, Alert, AlertState, Basis, Change, Incident, IncidentState, Judgement, Measure, Share,
};
use stored::{HOUR, SECOND, Setup, Stored, T0, alert, incident};
use window::Scope;

const NONE: Stored<'static> = Stored {
    partition: 0,
    offset: 0,
    at: T0 + SECOND,
    source: "acme",
    campaign: "spring",
    counts: "",
    sent: Some(T0 - HOUR),
    corrections: "",
};

/// Eight deliveries, two hard bounces, a soft bounce, and much later the delivery that makes it a deferral. Another
/// source has bounces, too.
fn insert_events(setup: &Setup) {
    let mut events: Vec<Stored<'_>> =
        (0..8).map(|offset| Stored { offset, counts: "delivered,delivered_fbl", ..NONE }).collect();
    let hard = Stored { at: T0 + 2 * SECOND, counts: "bounced_hard", ..NONE };
    events.push(Stored { offset: 8, ..hard });
    events.push(Stored { offset: 9, ..hard });
    let soft_at = T0 + 3 * SECOND;
    events.push(Stored { partition: 1, at: soft_at, counts: "bounced_soft", ..NONE });
    // The events of this message disagree about the campaign.
    let corrections =
        format!("mailbox_provider,tenant:-bounced_soft@{soft_at},+deferred@{soft_at}");
    events.push(Stored {
        partition: 1,
        offset: 1,
        at: T0 + 400 * SECOND,
        counts: "delivered,deferred_settled",
        corrections: &corrections,
        ..NONE
    });
    events.push(Stored { partition: 1, offset: 2, source: "globex", ..hard });
    setup.insert_events(&events);
    setup.commit_archived(20);
}

/// The numbers are counted by hand.
#[test]
fn the_numbers_of_alerts_are_recomputed_from_the_events_before_as_of() {
    let setup = Setup::new("verify");
    insert_events(&setup);
    let campaign = |alert: Alert| Alert {
        scope: Scope::parse("campaign/sendgrid/acme/spring").unwrap(),
        ..alert
    };
    let since_start = |alert: Alert| Alert {
        basis: Basis::Campaign,
        width: "campaign".to_owned(),
        ..campaign(alert)
    };
    let cohort = |alert: Alert| Alert {
        basis: Basis::Cohort,
        width: "24h".to_owned(),
        from: T0 - 24 * HOUR,
        to: T0,
        ..alert
    };
    let earlier_release = Alert { as_of: [].into(), seq: 0, ..alert('8', 2, 11, [(0, 0), (1, 0)]) };
    let all = [(0, 10), (1, 3)];
    // No event lies in the gap, and the cohort has these numbers. That proves neither alert.
    let silence = Alert {
        rule: "silence".to_owned(),
        metric: Measure::Share(Share::Gap),
        basis: Basis::Gap,
        width: "gap".to_owned(),
        from: T0 + 600 * SECOND,
        to: T0 + 1200 * SECOND,
        ..alert('9', 600, 1, all)
    };
    let foldering = Alert {
        rule: "spam_foldering".to_owned(),
        width: "2h-26h".to_owned(),
        metric: Measure::Rate(window::Metric::Engagement),
        ..cohort(alert('b', 0, 9, all))
    };
    let alerts = [
        alert('0', 2, 11, [(0, 10), (1, 1)]),
        // With the correction, the soft bounce is a deferral.
        alert('1', 2, 10, all),
        // The correction does not reach the campaign.
        campaign(alert('2', 2, 11, all)),
        since_start(alert('3', 2, 12, all)),
        // The late delivery is in this cohort, too, and the soft bounce is a deferral.
        cohort(alert('4', 2, 11, all)),
        alert('5', 1, 10, [(0, 9), (1, 1)]),
        alert('6', 3, 11, [(0, 10), (1, 1)]),
        alert('7', 2, 10, [(0, 10), (1, 99)]),
        earlier_release,
        silence,
        foldering,
    ];
    setup.insert_alerts(&alerts);
    setup.insert_incidents(&[incident('a', &alerts[6])]);

    let output = setup.run(&["alerts", "verify", "--all"]);
    assert_eq!(output.code, 1, "{output:?}");
    let results: Vec<&str> =
        output.out.lines().map(|line| line.split('\t').next().unwrap()).collect();
    let mut expected = vec!["equal"; 6];
    expected.extend(["different", "unverifiable", "unverifiable", "unverifiable", "unverifiable"]);
    assert_eq!(results, expected, "{output:?}");
    let line = output.out.lines().nth(6).unwrap();
    assert!(line.contains("the alert has 3 of 11, the stored events 2 of 11"), "{line}");
    assert!(output.out.contains("up to 99; try again later"), "{output:?}");
    assert!(output.out.contains("an earlier release wrote the alert"), "{output:?}");
    assert!(output.out.contains("a silence has no events to count"), "{output:?}");
    assert!(output.out.contains("within two hours after the hour of sending"), "{output:?}");
    assert!(output.err.contains("6 equal, 1 different, 4 unverifiable"), "{output:?}");

    let one = setup.run(&["alerts", "verify", "1111", "--json"]);
    assert_eq!(one.code, 0, "{one:?}");
    let json: serde_json::Value = serde_json::from_str(&one.out).unwrap();
    assert_eq!((&json["result"], &json["alert_volume"]), (&"equal".into(), &10.into()));
    let of_incident = setup.run(&["alerts", "verify", "aaaaaaaa"]);
    assert_eq!(of_incident.code, 1, "{of_incident:?}");
    assert!(of_incident.err.contains("0 equal, 1 different, 0 unverifiable"), "{of_incident:?}");

    setup.database.execute("TRUNCATE TABLE events");
    let gone = setup.run(&["alerts", "verify", "--all"]);
    assert_eq!(gone.code, 0, "{gone:?}");
    assert!(gone.err.contains("0 equal, 0 different, 11 unverifiable"), "{gone:?}");
}

/// Every rate and share has a query that ClickHouse accepts, and gives the numbers that monitor's code gives for the
/// same counts.
#[test]
fn every_metric_is_recomputed() {
    use window::{Counts, Metric, View};

    let setup = Setup::new("metrics");
    // The nth counter counts n + 1 times.
    let mut events = Vec::new();
    let mut counts = Counts::default();
    for (number, counter) in (1..).zip(event::Counter::ALL) {
        counts.increase(*counter, number);
        for _ in 0..number {
            let offset = u64::try_from(events.len()).unwrap();
            events.push(Stored { offset, counts: counter.as_str(), ..NONE });
        }
    }
    setup.insert_events(&events);
    setup.commit_archived(400);
    let shares = [
        Share::AuthRefused,
        Share::Throttled,
        Share::Listed,
        Share::Suppressed,
        Share::Unclassified,
        Share::DeliveriesMissing,
    ];
    let measures: Vec<Measure> =
        Metric::ALL.iter().copied().map(Measure::Rate).chain(shares.map(Measure::Share)).collect();
    let mut alerts = Vec::new();
    for metric in measures {
        for (basis, view) in [(Basis::Arrival, View::Arrival), (Basis::Cohort, View::Cohort)] {
            let (numerator, volume) = metric.fraction(&counts, view);
            let template = alert('0', numerator, volume, [(0, 400), (1, 0)]);
            let (from, to) = match basis {
                Basis::Cohort => (T0 - 2 * HOUR, T0),
                _ => (template.from, template.to),
            };
            alerts.push(Alert { metric, basis, from, to, ..template });
        }
    }
    setup.insert_alerts(&alerts);
    let output = setup.run(&["alerts", "verify", "--all"]);
    assert_eq!(output.code, 0, "{output:?}");
    let expected = format!("{} equal, 0 different, 0 unverifiable", alerts.len());
    assert!(output.err.contains(&expected), "{output:?}");
}

#[test]
fn incidents_are_listed_and_shown() {
    let setup = Setup::new("incidents");
    let alerts = [alert('1', 2, 10, [(0, 10), (1, 3)]), alert('2', 5, 9, [(0, 10), (1, 3)])];
    setup.insert_alerts(&alerts);
    let open = incident('a', &alerts[0]);
    let over = Incident {
        seq: 2,
        change: Change::Resolved,
        state: IncidentState::Resolved,
        ..incident('b', &alerts[1])
    };
    setup.insert_incidents(&[open, incident('b', &alerts[1]), over]);

    let ids = |arguments: &[&str]| -> Vec<String> {
        let output = setup.run(&[&["alerts", "ls"], arguments].concat());
        assert_eq!(output.code, 0, "{output:?}");
        output.out.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&[]), ["a".repeat(16), "b".repeat(16)]);
    assert_eq!(ids(&["--open"]), ["a".repeat(16)]);
    assert_eq!(ids(&["--source", "acme"]).len(), 2);
    assert_eq!(ids(&["--source", "sendgrid/acme", "--open"]).len(), 1);
    assert!(ids(&["--source", "other"]).is_empty());
    let json = setup.run(&["alerts", "ls", "--open", "--json"]);
    assert!(serde_json::from_str::<Incident>(json.out.trim()).is_ok(), "{json:?}");

    let shown = setup.run(&["alerts", "show", "aaaa"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    for part in ["[PAGE] acme at SendGrid: hard bounces 20 %", &"a".repeat(32), "1 (1 open)"] {
        assert!(shown.out.contains(part), "{part} in {shown:?}");
    }
    let episode = setup.run(&["alerts", "show", "1111"]);
    assert!(episode.out.contains(&format!("incident  {}", "a".repeat(32))), "{episode:?}");
    assert!(episode.out.contains("\tfiring\tpage\t"), "{episode:?}");

    for (id, code, text) in [
        ("cccc", 1, "no incident or episode has an id that begins with `cccc`"),
        ("spring", 2, "not the beginning of an id"),
        ("a", 2, "at least 4"),
    ] {
        let output = setup.run(&["alerts", "show", id]);
        assert_eq!(output.code, code, "{output:?}");
        assert!(output.err.contains(text), "{output:?}");
    }
}

#[test]
fn what_people_do_with_an_incident_is_published_for_monitor() {
    let setup = Setup::new("actions");
    let lead = alert('1', 2, 10, [(0, 10), (1, 3)]);
    let ended = Alert { state: AlertState::Resolved, ..alert('2', 2, 10, [(0, 10), (1, 3)]) };
    let over = Incident { state: IncidentState::Resolved, ..incident('b', &ended) };
    setup.insert_incidents(&[incident('a', &lead), over]);
    let by = |verb: &str, id: &str, further: &[&str]| {
        setup.run(&[&["alerts", verb, id, "--by", "ada"], further].concat())
    };
    for (verb, further) in [
        ("acknowledge", &[][..]),
        ("snooze", &["--for", "2h"]),
        ("assign", &["--to", "bob"]),
        ("judge", &["--as", "false"]),
        ("close", &[]),
    ] {
        let output = by(verb, "aaaa", further);
        assert_eq!(output.code, 0, "{output:?}");
        assert!(output.out.contains(&"a".repeat(32)), "{output:?}");
    }
    let planned = by("plan-send", "sendgrid/acme", &["--for", "6h", "--campaign", "win-back"]);
    assert_eq!(planned.code, 0, "{planned:?}");
    assert_eq!(by("judge", "bbbb", &["--as", "true"]).code, 0);
    let rejected = by("close", "bbbb", &[]);
    assert_eq!(rejected.code, 1, "{rejected:?}");
    assert!(rejected.err.contains("is over; it can only be judged"), "{rejected:?}");
    assert_eq!(by("snooze", "aaaa", &["--for", "31d"]).code, 2);
    assert_eq!(by("plan-send", "acme", &["--for", "6h"]).code, 2);
    let nobody = setup.run(&["alerts", "close", "aaaa", "--by", ""]);
    assert_eq!(nobody.code, 2, "{nobody:?}");

    let records = setup.cluster.read_settled(&setup.cluster.topics.alerts);
    assert!(records.iter().all(|record| record.key == b"action"));
    let actions: Vec<Action> = records
        .iter()
        .map(|record| serde_json::from_slice(record.value.as_deref().unwrap()).unwrap())
        .collect();
    let a = "a".repeat(32).try_into().unwrap();
    let is = |number: usize, what: &dyn Fn(&Action) -> bool| {
        assert!(what(&actions[number]), "{number}: {actions:?}");
    };
    assert_eq!(actions.len(), 7);
    assert_eq!(actions[0], Action::Acknowledge { incident: a, by: "ada".to_owned() });
    is(1, &|it| matches!(it, Action::Snooze { incident, .. } if *incident == a));
    assert_eq!(
        actions[2],
        Action::Assign { incident: a, by: "ada".to_owned(), to: "bob".to_owned() }
    );
    is(3, &|it| matches!(it, Action::Judge { judgement: Judgement::False, .. }));
    assert_eq!(actions[4], Action::Close { incident: a, by: "ada".to_owned() });
    is(5, &|it| matches!(it, Action::PlanSend { from, until, .. } if until - from == 6 * HOUR));
    is(6, &|it| matches!(it, Action::Judge { judgement: Judgement::True, .. }));
}
