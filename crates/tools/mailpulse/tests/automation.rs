//! `mailpulse automation`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stored;

use alerting::{Change, Incident};
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

#[test]
fn stored_incidents_show_what_would_have_happened() {
    const RULES: &str = r#"
[[automation.rule]]
name = "pause"
when = { incidents = { sources = ["acme"], changes = ["opened", "resolved"] } }
cooldown = "2h"
do = [{ type = "task", url = "https://tasks.example", title = "Pause {{ incident.campaign }}" }]
"#;
    let setup = Setup::new("automationincidents");
    let lead = stored::alert('a', 40, 200, [(0, 0), (1, 0)]);
    let change = |id, seq, change, at| Incident { seq, change, at, ..stored::incident(id, &lead) };
    setup.insert_incidents(&[
        change('1', 1, Change::Opened, T0 - HOUR), // before --from: its cooldown is not over
        change('2', 1, Change::Opened, T0 + SECOND),
        change('1', 2, Change::Updated, T0 + HOUR),
        change('1', 3, Change::Resolved, T0 + 2 * HOUR),
        change('3', 1, Change::Opened, T0 + 9 * HOUR), // after --to
    ]);
    let file = setup.home.path().join("rules.toml");
    std::fs::write(&file, RULES).unwrap();
    let time = |micros: i64| jiff::Timestamp::from_microsecond(micros).unwrap().to_string();
    let (from, to) = (time(T0), time(T0 + 3 * HOUR));
    let tested =
        setup.run(&["automation", "test", file.to_str().unwrap(), "--from", &from, "--to", &to]);
    assert_eq!(tested.code, 0, "{tested:?}");
    let lines: Vec<Vec<&str>> = tested.out.lines().map(|line| line.split('\t').collect()).collect();
    let (first, second) = ("1".repeat(32), "2".repeat(32));
    let expected = [
        ["pause", "-", "refused:cooldown", "source/sendgrid/acme", &second],
        ["pause", "0", "task", "source/sendgrid/acme", &first],
    ];
    assert_eq!(lines.iter().map(|line| &line[1..]).collect::<Vec<_>>(), expected, "{tested:?}");
    assert!(tested.err.contains("2 changes of incidents"), "{tested:?}");
    std::fs::write(&file, RULES.replace("cooldown", "and = [{ segment = \"vip\" }]\ncooldown"))
        .unwrap();
    let refused = setup.run(&["automation", "check", file.to_str().unwrap()]);
    assert!(refused.code == 2 && refused.err.contains("an incident has none"), "{refused:?}");
}

/// An invented action.
#[derive(Debug, Clone, Copy)]
struct Action {
    rule: &'static str,
    of: &'static str,
    source: (&'static str, &'static str),
    recipient: u64,
    is_follow_up: bool,
    /// UTC microseconds.
    at: i64,
    /// The time to the decision in milliseconds.
    millis: Option<i64>,
}

/// Returns actions of an hour from [`T0`] on, one every minute, and two that are outside of it.
fn actions() -> Vec<Action> {
    let action = |n: u64| {
        let number = i64::try_from(n).unwrap();
        Action {
            rule: if n.is_multiple_of(3) { "vip" } else { "clicked.late" },
            of: ["webhook", "points", "segment.add"][usize::try_from(n % 7 % 3).unwrap()],
            source: [("ses", "acme"), ("sendgrid", "acme"), ("ses", "globex")]
                [usize::try_from(n % 5 % 3).unwrap()],
            recipient: n * n % 11,
            is_follow_up: n.is_multiple_of(4),
            at: T0 + number * 60 * SECOND,
            millis: (!n.is_multiple_of(9)).then_some(number * 37 % 1_000 + 5),
        }
    };
    let outside = [T0 - 1, T0 + HOUR].map(|at| Action { at, rule: "outside", ..action(1) });
    (0..60).map(action).chain(outside).collect()
}

fn insert_actions(setup: &Setup, actions: &[Action]) {
    let rows = actions.iter().enumerate().map(|(offset, it)| {
        let Action { rule, of, source: (provider, source), recipient, is_follow_up, at, millis } = it;
        let decided_at = millis.map_or_else(
            || "NULL".to_owned(),
            |millis| format!("fromUnixTimestamp64Micro({}, 'UTC')", at + millis * 1_000),
        );
        format!(
            "('{rule}', '{of}', '{provider}', '{source}', 'u{recipient}@example.com', {is_follow_up}, \
             fromUnixTimestamp64Micro({at}, 'UTC'), {decided_at}, {offset})"
        )
    });
    setup.database.execute(&format!(
        "INSERT INTO {}.actions (rule, type, provider, source, recipient, follow_up, at, decided_at, kafka_offset) \
         VALUES {}",
        setup.database.name,
        rows.collect::<Vec<_>>().join(", ")
    ));
}

/// Returns what the report must have about actions of one rule.
fn expected(of_rule: &[Action]) -> serde_json::Value {
    let mut types = std::collections::BTreeMap::<&str, u64>::new();
    for action in of_rule {
        *types.entry(action.of).or_default() += 1;
    }
    let recipients: std::collections::BTreeSet<u64> =
        of_rule.iter().map(|action| action.recipient).collect();
    let time = |at: i64| jiff::Timestamp::from_microsecond(at).unwrap().to_string();
    serde_json::json!({
        "rule": of_rule[0].rule,
        "actions": of_rule.len(),
        "types": types,
        "recipients": recipients.len(),
        "follow_ups": of_rule.iter().filter(|action| action.is_follow_up).count(),
        "first_at": time(of_rule.iter().map(|action| action.at).min().unwrap()),
        "last_at": time(of_rule.iter().map(|action| action.at).max().unwrap()),
    })
}

/// Takes the times to the decision out of a part of the report, and compares them.
fn assert_times(found: &mut serde_json::Value, of_rule: &[Action]) {
    let millis: Vec<i64> = of_rule.iter().filter_map(|action| action.millis).collect();
    let (sum, known) = (millis.iter().sum::<i64>(), i64::try_from(millis.len()).unwrap());
    let (least, greatest) = (*millis.iter().min().unwrap(), *millis.iter().max().unwrap());
    for (name, wanted) in
        [("avg", sum as f64 / known as f64), ("min", least as f64), ("max", greatest as f64)]
    {
        let object = found.as_object_mut().unwrap();
        let seconds = object.remove(&format!("seconds_to_decision_{name}")).unwrap();
        let difference = seconds.as_f64().unwrap() * 1_000.0 - wanted;
        assert!(difference.abs() < 1e-6, "{name}: {seconds} s instead of {wanted} ms");
    }
}

#[test]
fn a_report_adds_up_what_each_rule_did() {
    let setup = Setup::new("automationreport");
    let actions = actions();
    insert_actions(&setup, &actions);
    let time = |micros: i64| jiff::Timestamp::from_microsecond(micros).unwrap().to_string();
    let (from, to) = (time(T0), time(T0 + HOUR));
    let report = |more: &[&str]| {
        let period = ["automation", "report", "--from", &from, "--to", &to];
        setup.run(&[&period[..], more].concat())
    };
    type Is = fn(&Action) -> bool;
    let choices: [(&[&str], Is); 4] = [
        (&[], |_| true),
        (&["--rule", "vip"], |it| it.rule == "vip"),
        (&["--source", "acme"], |it| it.source.1 == "acme"),
        (&["--source", "ses/acme", "--rule", "clicked.late"], |it| {
            it.source == ("ses", "acme") && it.rule == "clicked.late"
        }),
    ];
    for (arguments, is_chosen) in choices {
        let output = report(&[arguments, &["--format", "json"]].concat());
        assert_eq!(output.code, 0, "{output:?}");
        let mut json: serde_json::Value = serde_json::from_str(&output.out).unwrap();
        assert_eq!((&json["from"], &json["to"]), (&from.clone().into(), &to.clone().into()));
        let rules = json["rules"].as_array_mut().unwrap();
        // That with the most actions is first.
        let wanted = ["clicked.late", "vip"].map(|rule| {
            let of_rule = |it: &&Action| it.rule == rule && is_chosen(it);
            actions.iter().filter(of_rule).copied().collect::<Vec<_>>()
        });
        let wanted: Vec<_> = wanted.into_iter().filter(|it| !it.is_empty()).collect();
        assert_eq!(rules.len(), wanted.len(), "{arguments:?}: {rules:?}");
        for (found, of_rule) in rules.iter_mut().zip(&wanted) {
            assert_times(found, of_rule);
            assert_eq!(*found, expected(of_rule), "{arguments:?}");
        }
    }

    let text = report(&[]);
    let lines: Vec<Vec<&str>> =
        text.out.lines().map(|line| line.split_whitespace().collect()).collect();
    let of_vip: Vec<Action> = actions.iter().filter(|it| it.rule == "vip").copied().collect();
    let wanted = expected(&of_vip);
    let line = lines.iter().find(|line| line.first() == Some(&"vip")).unwrap();
    assert_eq!(
        line[1..4],
        ["actions", "recipients", "follow_ups"].map(|it| wanted[it].to_string())
    );
    assert_eq!(
        line[line.len() - 2..],
        ["first_at", "last_at"].map(|it| wanted[it].as_str().unwrap())
    );
    let points = wanted["types"]["points"].to_string();
    assert!(lines.contains(&vec!["points", &points]), "{text:?}");
    let columns =
        text.out.lines().filter_map(|line| line.find("2025-").filter(|_| line.contains(" s ")));
    let columns: std::collections::BTreeSet<usize> = columns.collect();
    assert_eq!(columns.len(), 1, "the columns are aligned: {text:?}");
}

#[test]
fn a_report_without_actions_or_without_time_tells_so() {
    let setup = Setup::new("automationempty");
    let report = |arguments: &[&str]| setup.run(&[&["automation", "report"], arguments].concat());
    let nothing = report(&["--rule", "vip?", "--source", "it's"]);
    assert_eq!(nothing.code, 0, "{nothing:?}");
    assert!(nothing.out.starts_with("Actions of rule vip? for source it's\n"), "{nothing:?}");
    assert!(nothing.out.ends_with("\nNo rule acted in this time.\n"), "{nothing:?}");
    let backwards = report(&["--from", "1d", "--to", "2d"]);
    assert_eq!(backwards.code, 2, "{backwards:?}");
    assert!(backwards.err.contains("is not before --to"), "{backwards:?}");
}
