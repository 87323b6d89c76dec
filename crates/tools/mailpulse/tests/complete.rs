//! `mailpulse alerts verify --complete` on a real ClickHouse.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stored;

use alerting::{Alert, AlertState, ResolveReason};
use stored::{HOUR, Output, SECOND, Setup, Stored, T0, alert};

/// One rule, so that each breach is one line.
const RULES: &str = r#"
[monitor]
scopes = ["campaign"]
[[monitor.rule]]
name = "hard_bounces"
metric = "hard_bounce"
scopes = ["source"]
windows = ["5m", "60m"]
warning = 0.05
critical = 0.20
min_volume = 200
hold = { warning = "1m", critical = "1m", page = "0s" }
[[monitor.rule]]
name = "quiet"
metric = "gap"
basis = "gap"
test = "gap"
direction = "under"
warning = 0.0001
"#;

/// 300 mails a minute for 20 minutes, in the last 10 with 30 % hard bounces.
fn insert(setup: &Setup, source: &str, delay_of_bounces: i64) {
    let event = |number: u64, at: i64, counts| Stored {
        partition: 0,
        offset: number,
        at,
        source,
        campaign: "spring",
        counts,
        sent: Some(at),
        corrections: "",
    };
    let (mut bounced, mut delivered) = (Vec::new(), Vec::new());
    for number in 0..6000 {
        let at = T0 + i64::try_from(number).unwrap() * SECOND / 5;
        if number >= 3000 && number * 37 % 100 < 30 {
            bounced.push(event(number, at, "bounced_hard"));
        } else {
            delivered.push(event(number, at, "delivered"));
        }
    }
    setup.insert_events(&delivered);
    setup.insert_events_after(delay_of_bounces, &bounced);
}

fn complete(setup: &Setup, further: &[&str]) -> Output {
    let time = |micros: i64| jiff::Timestamp::from_microsecond(micros).unwrap().to_string();
    let (from, to) = (time(T0), time(T0 + 3 * HOUR));
    let arguments = ["alerts", "verify", "--complete", "--from", &from, "--to", &to];
    setup.run(&[&arguments[..], further].concat())
}

fn setup(name: &str) -> Setup {
    let setup = Setup::new(name);
    let config = setup.home.path().join("mailpulse.toml");
    let settings = std::fs::read_to_string(&config).unwrap() + RULES;
    std::fs::write(&config, settings).unwrap();
    setup
}

#[test]
fn a_breach_without_an_episode_is_found() {
    let setup = setup("complete");
    insert(&setup, "acme", SECOND);
    let alone = complete(&setup, &[]);
    assert_eq!(alone.code, 1, "{alone:?}");
    let lines: Vec<&str> = alone.out.lines().collect();
    // The second is that of the hour when it has only the bad mail.
    assert_eq!(lines.len(), 2, "{alone:?}");
    let parts: Vec<&str> = lines[0].split('\t').collect();
    assert_eq!(parts[0], "missing");
    assert_eq!(parts[3..], ["critical", "hard_bounces", "source/sendgrid/acme"]);
    let begin: jiff::Timestamp = parts[1].parse().unwrap();
    // The rate is above 20 % when more than two of the last five minutes are bad.
    let after = begin.as_microsecond() - (T0 + 600 * SECOND);
    assert!((120 * SECOND..300 * SECOND).contains(&after), "{alone:?}");
    assert!(alone.err.contains("not checked") && alone.err.contains("quiet"), "{alone:?}");
    let json = complete(&setup, &["--json"]);
    let missing: serde_json::Value =
        serde_json::from_str(json.out.lines().next().unwrap()).unwrap();
    assert_eq!(missing["from"], begin.as_microsecond(), "{json:?}");

    // An episode that opened much later does not count, one of another rule neither.
    let late = Alert { at: T0 + 1500 * SECOND, ..alert('1', 2, 10, [(0, 10), (1, 3)]) };
    let other = Alert { rule: "bounce_rate".to_owned(), ..alert('2', 2, 10, [(0, 10), (1, 3)]) };
    setup.insert_alerts(&[late, other]);
    assert_eq!(complete(&setup, &[]).code, 1);
    // One that had ended before does not count either.
    let opened = alert('3', 2, 10, [(0, 10), (1, 3)]);
    let ended = Alert {
        at: T0 + 60 * SECOND,
        state: AlertState::Resolved,
        reason: Some(ResolveReason::Recovered),
        seq: 2,
        ..opened.clone()
    };
    setup.insert_alerts(&[opened, ended]);
    assert_eq!(complete(&setup, &[]).code, 1);
    let in_time = Alert { at: T0 + 690 * SECOND, ..alert('4', 2, 10, [(0, 10), (1, 3)]) };
    setup.insert_alerts(&[in_time]);
    let covered = complete(&setup, &[]);
    assert_eq!((covered.code, &*covered.out), (0, ""), "{covered:?}");
    assert!(covered.err.contains("0 breaches have no episode"), "{covered:?}");
    assert!(!covered.err.contains(" 0 are broken"), "{covered:?}");
}

/// Bounces that were received twenty minutes late are in no window that ends earlier.
#[test]
fn late_events_count_within_the_bound_only() {
    let setup = setup("complete_late");
    insert(&setup, "globex", 1200 * SECOND);
    let short = ["--source", "globex", "--bound", "1m"];
    let first = complete(&setup, &short);
    let begin = |output: &Output| -> jiff::Timestamp {
        output.out.lines().next().unwrap().split('\t').nth(1).unwrap().parse().unwrap()
    };
    // The window of an hour still has them when they have come.
    assert!(begin(&first).as_microsecond() >= T0 + 1740 * SECOND, "{first:?}");
    let long = complete(&setup, &["--source", "globex", "--bound", "21m"]);
    assert_eq!(long.code, 1, "{long:?}");
    assert!(begin(&long).as_microsecond() < T0 + 900 * SECOND, "{long:?}");

    let reversed = setup.run(&["alerts", "verify", "--complete", "--from", "1h", "--to", "2h"]);
    assert_eq!(reversed.code, 2, "{reversed:?}");
    assert_eq!(setup.run(&["alerts", "verify", "--complete"]).code, 2);
    assert_eq!(complete(&setup, &["--all"]).code, 2);
}
