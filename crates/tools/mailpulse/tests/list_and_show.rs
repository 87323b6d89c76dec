//! `ls` and `show` on real Kafka. They change nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{DeadLetter, Setup};

fn of_every_stage<'a>(origins: &'a [String; 4]) -> [DeadLetter<'a>; 6] {
    let [raw, enriched, events, panes] = origins;
    let base = DeadLetter::default();
    [
        DeadLetter { stage: "ingress", reason: "not_json", key: "", value: b"[{", ..base },
        DeadLetter { origin: raw, value: b"{\"a\":\"\\u001b\"}", ..base },
        DeadLetter {
            stage: "dedupe",
            reason: "bad_headers",
            origin: enriched,
            value: b"d",
            ..base
        },
        DeadLetter { stage: "archive", reason: "row_refused", origin: events, value: b"a", ..base },
        DeadLetter {
            stage: "monitor-rate",
            reason: "wrong_shape",
            origin: panes,
            value: b"m",
            ..base
        },
        DeadLetter { provider: "ses", source: "acme", origin: raw, value: b"\xff\0s", ..base },
    ]
}

fn origins(setup: &Setup) -> [String; 4] {
    let of = |rest: &str| format!("{}{rest}/1/5", setup.topics().prefix);
    ["mail.raw.delivered", "mail.enriched", "mail.events", "mail.panes"].map(of)
}

#[test]
fn dead_letters_of_every_stage_are_listed_and_filtered() {
    let setup = Setup::new();
    let origins = origins(&setup);
    setup.write(&of_every_stage(&origins));

    let all = setup.run(&["ls"]);
    assert_eq!((all.code, all.lines().len()), (0, 6), "{all:?}");
    let line = all.line(&setup.id(b"[{"));
    for word in ["not_json", "ingress", "postmark/receipts", " - ", " 2 ", "in so \\u{1b}[31mmany"]
    {
        assert!(line.contains(word), "{word} in {line}");
    }
    let summary =
        "6 dead letters: bad_headers 1, missing_time 2, not_json 1, row_refused 1, wrong_shape 1";
    assert_eq!(all.err.lines().last(), Some(summary));

    let listed = |filters: &[&str]| {
        let output = setup.run(&[&["ls", "--json"], filters].concat());
        assert_eq!(output.code, 0, "{output:?}");
        let rows = output.out.lines().map(|line| serde_json::from_str(line).unwrap());
        rows.collect::<Vec<serde_json::Value>>()
    };
    let stages = |filters: &[&str]| {
        let mut stages: Vec<_> =
            listed(filters).iter().map(|row| row["stage"].as_str().unwrap().to_owned()).collect();
        stages.sort();
        stages.join(" ")
    };
    assert_eq!(stages(&["--stage", "ingress", "--stage", "dedupe"]), "dedupe ingress");
    assert_eq!(stages(&["--reason", "missing_time"]), "enrich enrich");
    assert_eq!(stages(&["--reason", "missing_time", "--provider", "postmark"]), "enrich");
    assert_eq!(stages(&["--source", "acme"]), "enrich");
    assert_eq!(listed(&["--since", "1h"]).len(), 6);
    assert_eq!(listed(&["--until", "1h"]).len(), 0);
    assert_eq!(listed(&["--since", "2020-01-01T00:00:00Z", "--until", "0s"]).len(), 6);

    let row = &listed(&["--source", "acme"])[0];
    assert_eq!(row["id"], setup.id(b"\xff\0s"));
    assert_eq!((&row["bytes"], &row["state"]), (&3.into(), &"open".into()));
    assert_eq!((&row["origin"], &row["request_id"]), (&origins[0].as_str().into(), &"r1".into()));
    assert_eq!(row["key"], "ada@example.com");
}

#[test]
fn show_explains_a_dead_letter_and_prints_its_bytes() {
    let setup = Setup::new();
    let origins = origins(&setup);
    setup.write(&of_every_stage(&origins));

    let json = setup.run(&["show", &setup.id(b"{\"a\":\"\\u001b\"}")]);
    assert_eq!(json.code, 0, "{json:?}");
    let back = format!("open; can be redriven: to {}mail.raw.delivered/1", setup.topics().prefix);
    for text in
        [&back, "the event has no time", "extend the provider's `parse`", "  \"a\": \"\\u001b\""]
    {
        assert!(json.out.contains(text), "{text} in {}", json.out);
    }
    assert!(!json.bytes.contains(&0x1b), "control characters do not reach the terminal");

    let id = setup.id(b"\xff\0s");
    let binary = setup.run(&["show", &id]);
    assert!(binary.out.contains("\\xff\\u{0}s"), "{}", binary.out);
    let raw = setup.run(&["show", "--raw", &id]);
    assert_eq!((raw.code, raw.bytes), (0, b"\xff\0s".to_vec()));

    let counted = setup.run(&["show", &setup.id(b"m")]);
    assert!(counted.out.contains("open; cannot be redriven"), "{}", counted.out);

    for id in ["0/999999", "99/0"] {
        let absent = setup.run(&["show", id]);
        assert_eq!(absent.code, 1, "{absent:?}");
        assert!(absent.err.contains("there is no dead letter"), "{absent:?}");
    }
}

#[test]
fn unusable_arguments_and_settings_are_rejected() {
    let setup = Setup::new();
    for arguments in [
        &["ls", "--reason", "bored"][..],
        &["ls", "--since", "yesterday"],
        &["show", "one"],
        &["redrive"],
        &["redrive", "--yes"],
        &["redrive", "0/1", "--stage", "enrich"],
        // Without a terminal, it cannot ask for confirmation.
        &["redrive", "0/1"],
    ] {
        let output = setup.run(arguments);
        assert_eq!(output.code, 2, "{arguments:?}: {output:?}");
        assert!(output.out.is_empty(), "{output:?}");
    }
    std::fs::write(setup.config(), "[kafka]\nbootstraps = 1\n").unwrap();
    let output = setup.run(&["ls"]);
    assert_eq!(output.code, 2, "{output:?}");
    assert!(output.err.contains("bootstrap"), "{output:?}");
}

#[test]
fn help_shows_an_example_for_each_verb() {
    let setup = Setup::new();
    for verb in ["ls", "show", "redrive"] {
        let output = setup.run(&[verb, "--help"]);
        assert!(output.out.contains(&format!("  mailpulse dead-letters {verb} ")), "{output:?}");
    }
}
