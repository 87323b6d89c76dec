use alerting::{Change, Severity};
use event::Counter::{BouncedHard, Delivered};
use event::Provider;
use kafka::Offset;
use serde_json::{Value, json};
use window::WindowResult;

use super::*;

fn record(key: &str, value: Option<Vec<u8>>) -> OwnedRecord {
    let (topic, key) = ("t".to_owned(), key.as_bytes().to_vec());
    OwnedRecord { topic, partition: 0, offset: Offset(1), key, value, headers: Vec::new() }
}

fn add_rate(live: &Live, source: &str, minute: i64, revision: u32, delivered: i64, hard: i64) {
    let counts = Counts::of([(Delivered, delivered), (BouncedHard, hard)]);
    let window = WindowResult::new(Width::M1, minute * MINUTE, counts, revision);
    let scope = Scope::Source { provider: Provider::Ses, source: source.to_owned() };
    let value = serde_json::to_vec(&ScopeRate { scope, window }).unwrap();
    live.add_rate(&record("k", Some(value)));
}

fn incident(id: u32, seq: u32, change: Change, severity: Severity) -> Value {
    let is_over = change == Change::Resolved;
    json!({
        "id": format!("{id:032x}"), "seq": seq, "page": 1, "change": change.as_str(),
        "state": if is_over { "resolved" } else { "open" }, "severity": severity,
        "family": "bounces", "group": "source", "of": "ses/acme",
        "opened_at": 1_795_255_200_000_000_i64, "at": 1_795_255_260_000_000_i64,
        "lead": {
            "episode_id": "48c0b3026c5df4d4b4ea72268e6d7ba0", "rule": "hard-bounces",
            "scope": "source", "provider": "ses", "source": "acme", "severity": severity,
            "state": "firing", "metric": "hard_bounce", "width": "5m", "value": 0.1,
            "threshold": 0.05, "numerator": 10, "volume": 100,
            "started_at": 1_795_255_200_000_000_i64, "at": 1_795_255_260_000_000_i64,
            "runbook": "", "summary": "hard bounces of ses/acme",
        },
        "episodes": 1, "open_episodes": u32::from(!is_over),
        "opened_by": "48c0b3026c5df4d4b4ea72268e6d7ba0",
    })
}

fn add_incident(live: &Live, incident: &Value) {
    let value = incident.to_string().into_bytes();
    live.add_incident(&record(incident["id"].as_str().unwrap(), Some(value)));
}

#[test]
fn minutes_of_all_sources_are_added_up_without_gaps() {
    let live = Live::default();
    add_rate(&live, "acme", 100, 0, 90, 10);
    add_rate(&live, "blue", 100, 0, 5, 0);
    add_rate(&live, "acme", 103, 0, 7, 1);
    let found = live.snapshot();
    let sent: Vec<_> = found.minutes.iter().map(|it| (it.at / 60, it.totals.sent)).collect();
    assert_eq!(sent, [(99, 105), (100, 0), (101, 0), (102, 8)]);
    assert_eq!((found.hour.sent, found.hour.bounced), (113, 11));
    let sources: Vec<_> = found.sources.iter().map(|it| (&*it.source, it.last / 60)).collect();
    assert_eq!(sources, [("ses/acme", 103), ("ses/blue", 100)]);
}

#[test]
fn the_greatest_revision_of_a_minute_counts() {
    let live = Live::default();
    add_rate(&live, "acme", 100, 2, 90, 10);
    add_rate(&live, "acme", 100, 1, 5, 0);
    assert_eq!(live.snapshot().hour.sent, 100);
    add_rate(&live, "acme", 100, 3, 95, 10);
    assert_eq!(live.snapshot().hour.sent, 105);
}

#[test]
fn old_minutes_and_quiet_sources_are_dropped() {
    let live = Live::default();
    add_rate(&live, "acme", 100, 0, 1, 0);
    add_rate(&live, "blue", 100 + 180, 0, 2, 0);
    let found = live.snapshot();
    assert_eq!(found.sources.len(), 1, "the other one has no minute left");
    add_rate(&live, "acme", 100, 0, 1, 0);
    assert_eq!(live.snapshot().sources.len(), 1, "a minute that is too old is ignored");
    assert_eq!(found.minutes.len(), 1);
}

#[test]
fn incidents_are_open_until_they_are_resolved() {
    let live = Live::default();
    add_incident(&live, &incident(1, 1, Change::Opened, Severity::Warning));
    add_incident(&live, &incident(2, 1, Change::Opened, Severity::Page));
    let ids = |live: &Live| -> Vec<String> {
        live.snapshot().incidents.iter().map(|it| it.id[31..].to_owned()).collect()
    };
    assert_eq!(ids(&live), ["2", "1"], "the most severe one first");
    add_incident(&live, &incident(1, 3, Change::Escalated, Severity::Page));
    add_incident(&live, &incident(1, 2, Change::Updated, Severity::Warning));
    assert_eq!(live.open_incidents().iter().filter(|it| it.severity == Severity::Page).count(), 2);
    add_incident(&live, &incident(1, 4, Change::Resolved, Severity::Page));
    assert_eq!(ids(&live), ["2"]);
    live.add_incident(&record(&format!("{:032x}", 2), None));
    assert_eq!(live.snapshot().open_incidents, 0, "compaction removes it");
}

#[test]
fn what_cannot_be_read_is_ignored() {
    let live = Live::default();
    for value in [None, Some(b"{".to_vec()), Some(b"{}".to_vec()), Some(vec![0xff])] {
        live.add_rate(&record("k", value.clone()));
        live.add_incident(&record("k", value));
    }
    assert!(live.snapshot().minutes.is_empty() && live.open_incidents().is_empty());
}

#[test]
fn only_changes_are_published() {
    let live = Live::default();
    let mut subscriber = live.subscribe();
    live.publish_changes();
    assert!(!subscriber.has_changed().unwrap());
    add_rate(&live, "acme", 100, 0, 1, 0);
    live.publish_changes();
    assert!(subscriber.has_changed().unwrap());
    assert!(subscriber.borrow_and_update().contains("\"ses/acme\""));
    live.set_away("mail.rates", Some("no broker".to_owned()));
    live.publish_changes();
    assert!(subscriber.borrow_and_update().contains("Kafka does not answer"));
    live.set_away("mail.rates", Some("no broker".to_owned()));
    live.publish_changes();
    assert!(!subscriber.has_changed().unwrap(), "nothing has changed");
}
