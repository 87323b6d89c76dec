//! `ls` and `show` on real Kafka: what lies there, and nothing changes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Letter, Place};

fn of_every_stage<'a>(origins: &'a [String; 4]) -> [Letter<'a>; 6] {
    let [raw, enriched, events, panes] = origins;
    let base = Letter::default();
    [
        Letter { stage: "ingress", reason: "not_json", key: "", value: b"[{", ..base },
        Letter { origin: raw, value: b"{\"a\":\"\\u001b\"}", ..base },
        Letter { stage: "dedupe", reason: "bad_headers", origin: enriched, value: b"d", ..base },
        Letter { stage: "archive", reason: "row_refused", origin: events, value: b"a", ..base },
        Letter { stage: "monitor-rate", reason: "wrong_shape", origin: panes, value: b"m", ..base },
        Letter { provider: "ses", source: "acme", origin: raw, value: b"\xff\0s", ..base },
    ]
}

fn origins(place: &Place) -> [String; 4] {
    let of = |rest: &str| format!("{}{rest}/1/5", place.topics.prefix);
    ["mail.raw.delivered", "mail.enriched", "mail.events", "mail.panes"].map(of)
}

#[test]
fn letters_of_every_stage_are_listed_and_filtered() {
    let place = Place::new();
    let origins = origins(&place);
    place.write(&of_every_stage(&origins));

    let all = place.run(&["ls"]);
    assert_eq!((all.code, all.lines().len()), (0, 6), "{all:?}");
    let line = all.line(&place.id(b"[{"));
    for word in ["not_json", "ingress", "postmark/receipts", " - ", " 2 ", "in so \\u{1b}[31mmany"]
    {
        assert!(line.contains(word), "{word} in {line}");
    }
    let summary =
        "6 letters: bad_headers 1, missing_time 2, not_json 1, row_refused 1, wrong_shape 1";
    assert_eq!(all.err.lines().last(), Some(summary));

    let listed = |filters: &[&str]| {
        let said = place.run(&[&["ls", "--json"], filters].concat());
        assert_eq!(said.code, 0, "{said:?}");
        let rows = said.out.lines().map(|line| serde_json::from_str(line).unwrap());
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
    assert_eq!(row["id"], place.id(b"\xff\0s"));
    assert_eq!((&row["bytes"], &row["state"]), (&3.into(), &"open".into()));
    assert_eq!((&row["origin"], &row["request_id"]), (&origins[0].as_str().into(), &"r1".into()));
    assert_eq!(row["key"], "ada@example.com");
}

#[test]
fn show_explains_a_letter_and_has_its_bytes() {
    let place = Place::new();
    let origins = origins(&place);
    place.write(&of_every_stage(&origins));

    let json = place.run(&["show", &place.id(b"{\"a\":\"\\u001b\"}")]);
    assert_eq!(json.code, 0, "{json:?}");
    let back = format!("redrive would send it on: to {}mail.raw.delivered/1", place.topics.prefix);
    for text in [&back, "does not say when", "teach the provider's `parse`", "  \"a\": \"\\u001b\""]
    {
        assert!(json.out.contains(text), "{text} in {}", json.out);
    }
    assert!(!json.bytes.contains(&0x1b), "the terminal is told nothing");

    let id = place.id(b"\xff\0s");
    let binary = place.run(&["show", &id]);
    assert!(binary.out.contains("\\xff\\u{0}s"), "{}", binary.out);
    let raw = place.run(&["show", "--raw", &id]);
    assert_eq!((raw.code, raw.bytes), (0, b"\xff\0s".to_vec()));

    let counted = place.run(&["show", &place.id(b"m")]);
    assert!(counted.out.contains("redrive would leave it here"), "{}", counted.out);

    for id in ["0/999999", "99/0"] {
        let absent = place.run(&["show", id]);
        assert_eq!(absent.code, 1, "{absent:?}");
        assert!(absent.err.contains("there is no letter"), "{absent:?}");
    }
}

#[test]
fn what_cannot_be_used_is_refused() {
    let place = Place::new();
    for arguments in [
        &["ls", "--reason", "bored"][..],
        &["ls", "--since", "yesterday"],
        &["show", "one"],
        &["redrive"],
        &["redrive", "--yes"],
        &["redrive", "0/1", "--stage", "enrich"],
        // Nobody to ask.
        &["redrive", "0/1"],
    ] {
        let said = place.run(arguments);
        assert_eq!(said.code, 2, "{arguments:?}: {said:?}");
        assert!(said.out.is_empty(), "{said:?}");
    }
    std::fs::write(place.config(), "[kafka]\nbootstraps = 1\n").unwrap();
    let said = place.run(&["ls"]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.contains("bootstrap"), "{said:?}");
}

#[test]
fn help_shows_an_example_for_each_verb() {
    let place = Place::new();
    for verb in ["ls", "show", "redrive"] {
        let said = place.run(&[verb, "--help"]);
        assert!(said.out.contains(&format!("  mailpulse dead-letters {verb} ")), "{said:?}");
    }
}
