//! Checks of alerts and incidents by the events alone. This shares no code with monitor and with the crates
//! `window` and `alerting`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::campaign::TestEvent;
use crate::offline::{Counts, bounce_rate, changes, scopes};

/// The error rate of the bound of the rule [`BOUNCES`].
const ALPHA: f64 = 0.0005;

/// The rules of the tests: bounces by time, by cohort and by campaign.
pub const RULES: &str = "
    [[monitor.rule]]
    name = \"bounces\"
    metric = \"bounce\"
    direction = \"over\"
    threshold = 0.2
    critical = 0.4
    min_volume = 15
    hold = { warning = \"0s\", critical = \"0s\" }
    [[monitor.rule]]
    name = \"cohort\"
    metric = \"bounce\"
    basis = \"cohort\"
    windows = [\"2h\"]
    warning = 0.1
    min_volume = 30
    [[monitor.rule]]
    name = \"stop\"
    metric = \"bounce\"
    basis = \"campaign\"
    test = \"e_value\"
    scopes = [\"campaign\"]
    warning = 0.1
";
const BOUNCES: &str = "bounces";

/// The rules and scopes of [`crate::campaign::events`] with a clearly bad rate: it is far above the threshold
/// after every prefix of the log, except at the beginning.
pub const BAD: [(&str, &str); 3] = [
    ("bounces", "mailbox/sendgrid/acme/gmail"),
    ("bounces", "campaign/sendgrid/bolt/welcome"),
    ("stop", "campaign/sendgrid/bolt/welcome"),
];
/// The rule and scope there with a rate above the critical threshold, from the 20th to the 25th minute.
pub const WORST: (&str, &str) = BAD[0];
/// The sources there whose scopes have a good rate after every prefix.
pub const GOOD: [&str; 2] = ["sendgrid/crew", "sendgrid/tardy"];

/// An event, and its place in `mail.events`.
pub struct LoggedEvent {
    pub event: TestEvent,
    pub partition: i32,
    pub offset: i64,
}

/// Every alert has the counts of exactly the events before its `as_of` whose time is in its window. Alerts that
/// begin an episode have evidence for a rate beyond the threshold.
pub fn assert_true(log: &[LoggedEvent], alerts: &[(String, Value)]) {
    let mut by_scope: BTreeMap<String, Vec<&LoggedEvent>> = BTreeMap::new();
    for logged in log {
        for scope in scopes(&logged.event) {
            by_scope.entry(scope).or_default().push(logged);
        }
    }
    for (scope, alert) in alerts {
        let counts = counts(&by_scope[scope], scope, alert);
        let (bounced, sent) = bounce_rate(&counts).unwrap_or_default();
        let published = (integer(alert, "numerator"), integer(alert, "volume"));
        assert_eq!(published, (bounced, sent), "{alert:#}");
        if alert["seq"] == 1 && alert["rule"] == BOUNCES {
            let chance = tail(bounced, sent, alert["threshold"].as_f64().unwrap());
            assert!(chance < ALPHA * 1.001, "the probability of so many is {chance}: {alert:#}");
        }
    }
}

/// Adds up what the events before `as_of` count for in the window of an alert.
fn counts(log: &[&LoggedEvent], scope: &str, alert: &Value) -> Counts {
    let (from, to) = (integer(alert, "from"), integer(alert, "to"));
    let as_of = alert["as_of"].as_object().unwrap();
    let is_before = |logged: &&&LoggedEvent| {
        let next = as_of.get(&logged.partition.to_string()).and_then(Value::as_i64);
        next.is_some_and(|next| logged.offset < next)
    };
    let mut counts = Counts::new();
    for LoggedEvent { event, .. } in log.iter().filter(is_before) {
        for (name, at, number) in changes(event, scope) {
            let is_inside = match alert["basis"].as_str().unwrap() {
                "arrival" => (from..to).contains(&at),
                "cohort" => {
                    let sent = event.sent.filter(|_| event.is_judged);
                    sent.is_some_and(|sent| (from..to).contains(&sent))
                }
                // The counts of a campaign begin with its first pane, and have no end.
                "campaign" => at >= from,
                other => panic!("no rule has the basis {other}"),
            };
            if is_inside {
                *counts.entry(name.to_owned()).or_default() += number;
            }
        }
    }
    counts
}

/// Returns the probability of `k` or more of `n` at a true rate of `p`.
fn tail(k: i64, n: i64, p: f64) -> f64 {
    let log_term = |i: i64| {
        let log_choose: f64 = (1..=i).map(|j| ((n - i + j) as f64 / j as f64).ln()).sum();
        log_choose + i as f64 * p.ln() + (n - i) as f64 * (1.0 - p).ln()
    };
    (k..=n).map(|i| log_term(i).exp()).sum()
}

/// Every episode begins with `firing` and ends with `resolved`, its alerts are numbered and in order, and a rule
/// has at most one open episode in a scope. `alerts` has the order of the topic.
pub fn assert_well_formed(alerts: &[(String, Value)]) {
    let mut open: BTreeMap<(String, String), Value> = BTreeMap::new();
    let mut ended = BTreeSet::new();
    let mut last_as_of: BTreeMap<&str, BTreeMap<String, i64>> = BTreeMap::new();
    for (scope, alert) in alerts {
        let text = |name: &str| alert[name].as_str().unwrap().to_owned();
        let key = (text("rule"), scope.clone());
        assert!(!ended.contains(&text("episode_id")), "after the end: {alert:#}");
        match open.remove(&key) {
            None => assert_eq!(
                (text("state").as_str(), integer(alert, "seq")),
                ("firing", 1),
                "{alert:#}"
            ),
            Some(last) => {
                let same = ["episode_id", "started_at", "metric", "basis", "family"];
                let differs = same.into_iter().find(|name| last[*name] != alert[*name]);
                assert_eq!(differs, None, "{last:#} then {alert:#}");
                assert_eq!(integer(alert, "seq"), integer(&last, "seq") + 1, "{alert:#}");
                assert!(integer(alert, "at") >= integer(&last, "at"), "{last:#} then {alert:#}");
                assert!(severity(alert) >= severity(&last), "{last:#} then {alert:#}");
            }
        }
        assert_eq!(alert["reason"].is_string(), alert["state"] == "resolved", "{alert:#}");
        match alert["state"].as_str().unwrap() {
            "resolved" => drop(ended.insert(text("episode_id"))),
            _ => drop(open.insert(key, alert.clone())),
        }
        // The prefix of the log only grows, also if a member was killed.
        let as_of: BTreeMap<String, i64> = serde_json::from_value(alert["as_of"].clone()).unwrap();
        assert!(!as_of.is_empty(), "{alert:#}");
        let before = last_as_of.entry(scope).or_default();
        if alert["state"] == "firing" {
            for (partition, next) in as_of {
                let last = before.insert(partition, next);
                assert!(last.is_none_or(|last| last <= next), "{alert:#}");
            }
        }
    }
    assert!(open.is_empty(), "episodes are open: {open:#?}");
}

fn severity(alert: &Value) -> usize {
    let all = ["warning", "critical", "page"];
    all.iter().position(|it| alert["severity"] == **it).unwrap()
}

/// Rules fire in scopes with a clearly bad rate, and not in those with a good one. Which other scopes they fire in,
/// and when, depends on where commits end: a rule is judged after a commit, and members and kills change their ends.
/// So do the ids of episodes, which contain the offsets at the first breach.
pub fn assert_fired(alerts: &[(String, Value)]) {
    let fired: BTreeSet<_> = alerts
        .iter()
        .map(|(scope, alert)| (alert["rule"].as_str().unwrap(), scope.as_str()))
        .collect();
    for bad in BAD {
        assert!(fired.contains(&bad), "{bad:?} is missing: {fired:?}");
    }
    for good in GOOD {
        assert!(!fired.iter().any(|(_, scope)| scope.contains(good)), "{good}: {fired:?}");
    }
}

/// Every record of an incident follows from the one before, people are told of an incident once, and told of its end
/// if they know of it.
pub fn assert_incidents(incidents: &[(String, Value)]) {
    let mut last: BTreeMap<&str, &Value> = BTreeMap::new();
    for (key, incident) in incidents {
        assert_eq!(incident["id"].as_str(), Some(key.as_str()));
        let before = last.insert(key, incident);
        let number = |name: &str| before.map_or(0, |before| integer(before, name));
        assert_eq!(integer(incident, "seq"), number("seq") + 1, "{incident:#}");
        let change = incident["change"].as_str().unwrap();
        let notifies = ["opened", "escalated", "reminder", "digest"].contains(&change);
        let pages = number("page") + i64::from(notifies || change == "resolved");
        assert_eq!(integer(incident, "page"), pages, "{incident:#}");
        assert!(change != "opened" || number("page") == 0, "opened twice: {incident:#}");
        if let Some(before) = before {
            assert_ne!(before["change"], "resolved", "after the end: {incident:#}");
            assert!(severity(incident) >= severity(before), "{before:#} then {incident:#}");
            assert!(
                integer(incident, "at") >= integer(before, "at"),
                "{before:#} then {incident:#}"
            );
        }
    }
}

/// Returns the episodes that are in an incident.
pub fn episodes_of(incidents: &[(String, Value)]) -> BTreeSet<&str> {
    incidents
        .iter()
        .flat_map(|(_, incident)| {
            let others = incident["others"].as_array().into_iter().flatten();
            let others = others.map(|line| &line["alert"]["episode_id"]);
            [&incident["opened_by"], &incident["lead"]["episode_id"]].into_iter().chain(others)
        })
        .filter_map(Value::as_str)
        .collect()
}

/// Returns whether every incident is over.
pub fn all_resolved(incidents: &[(String, Value)]) -> bool {
    let last: BTreeMap<_, _> = incidents.iter().map(|(key, incident)| (key, incident)).collect();
    last.values().all(|incident| incident["state"] == "resolved")
}

fn integer(value: &Value, name: &str) -> i64 {
    value[name].as_i64().unwrap_or_else(|| panic!("{name}: {value:#}"))
}

#[test]
fn the_tail_is_that_of_the_binomial_distribution() {
    assert!((tail(1, 2, 0.5) - 0.75).abs() < 1e-12);
    assert!((tail(8, 10, 0.5) - 56.0 / 1024.0).abs() < 1e-12);
}
