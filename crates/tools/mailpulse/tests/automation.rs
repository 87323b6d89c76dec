//! `mailpulse automation`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stored;

use stored::{HOUR, SECOND, Setup, T0};

const RULES: &str = r#"
[[automation.rule]]
name = "clicked"
when = { kinds = ["clicked"], sources = ["acme"] }
and = [{ pattern = "2 clicked within 3h" }]
cooldown = "6h"
limit = { count = 1, per = "1h" }
do = [
  { type = "webhook", url = "https://acme.example/hook", secret = "env:NOT_SET_HERE" },
  { type = "followup", after = "2h", unless = "opened", do = [{ type = "points", add = 1 }] },
]
"#;

#[test]
fn a_file_is_checked_and_mistakes_are_named() {
    let setup = Setup::new("automationcheck");
    let file = setup.home.path().join("rules.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        setup.run(&["automation", "check", file.to_str().unwrap()])
    };
    let checked = check(RULES);
    assert_eq!((checked.code, &*checked.out), (0, "1 rules are valid\n"), "{checked:?}");
    let wrong = check(&RULES.replace("2 clicked within 3h", "2 clicks within 3h"));
    assert_eq!(wrong.code, 2, "{wrong:?}");
    for part in ["rule `clicked`", "`and[0].pattern`", "(kind)"] {
        assert!(wrong.err.contains(part), "{wrong:?}");
    }
    let unknown = check(&RULES.replace("cooldown", "cooldwon"));
    assert!(unknown.code == 2 && unknown.err.contains("cooldwon"), "{unknown:?}");
}

/// Inserts clicks: the number of the event, the recipient, the reason why it is a machine's, and the time.
fn insert(setup: &Setup, clicks: &[(u8, &str, &str, i64)]) {
    for (number, recipient, machine, at) in clicks {
        setup.database.execute(&format!(
            "INSERT INTO {}.events (event_id, kind, provider, source, occurred_at, received_at, recipient, \
             message_id, automation_reason, authentic, kafka_partition, kafka_offset) VALUES \
             ('{:032x}', 'clicked', 'ses', 'acme', fromUnixTimestamp64Micro({at}, 'UTC'), \
             fromUnixTimestamp64Micro({at}, 'UTC'), '{recipient}', 'm-{recipient}', '{machine}', true, 0, {number})",
            setup.database.name, number
        ));
    }
}

#[test]
fn stored_events_show_what_would_have_happened() {
    let setup = Setup::new("automationtest");
    insert(
        &setup,
        &[
            (1, "ada@example.com", "", T0 - HOUR), // before --from: it counts for the pattern
            (2, "ada@example.com", "", T0 + SECOND),
            (3, "bob@example.com", "", T0 + 2 * SECOND),
            (4, "bob@example.com", "", T0 + 3 * SECOND),
            (5, "eve@example.com", "scanner", T0 + 4 * SECOND),
            (6, "eve@example.com", "scanner", T0 + 5 * SECOND),
            (7, "ada@example.com", "", T0 + 6 * SECOND),
        ],
    );
    let file = setup.home.path().join("rules.toml");
    std::fs::write(&file, RULES).unwrap();
    let time = |micros: i64| jiff::Timestamp::from_microsecond(micros).unwrap().to_string();
    let test = |to: i64| {
        let (from, to) = (time(T0), time(to));
        setup.run(&["automation", "test", file.to_str().unwrap(), "--from", &from, "--to", &to])
    };
    let soon = test(T0 + HOUR);
    assert_eq!(soon.code, 0, "{soon:?}");
    let fields: Vec<Vec<&str>> = soon.out.lines().map(|line| line.split('\t').collect()).collect();
    let found: Vec<_> = fields.iter().map(|it| (it[1], it[2], it[3], it[4])).collect();
    let expected = [
        ("clicked", "0", "webhook", "ada@example.com"),
        ("clicked", "-", "refused:limit", "bob@example.com"),
    ];
    assert_eq!(found, expected, "{soon:?}");
    assert!(
        soon.err.contains("6 events") && soon.err.contains("acted 1 times, refused 1 times"),
        "{soon:?}"
    );
    // Ada clicked again in time, but opened nothing: a click of the same message answers the follow-up.
    let later = test(T0 + 3 * HOUR);
    assert_eq!(
        later.out.lines().count(),
        3,
        "bob's follow-up is refused with its intent: {later:?}"
    );
    assert!(later.out.contains("refused:parent\tbob@example.com"), "{later:?}");
}
