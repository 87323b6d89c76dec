//! `redrive` on real Kafka: every letter goes back at most once, as it was.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;

use common::{Letter, PARTITIONS, Place, wait_until};
use event::Kind;
use record::names;
use kafka::{OwnedRecord, admin};

fn marker_of<'a>(records: &'a [OwnedRecord], id: &str) -> Option<&'a OwnedRecord> {
    records.iter().find(|record| {
        let origin = record.header(names::ORIGIN).unwrap_or_default();
        record.header(names::STAGE) == Some(b"redrive")
            && origin.ends_with(format!("/{id}").as_bytes())
    })
}

#[test]
fn records_go_back_to_where_they_came_from_as_they_were() {
    let place = Place::new();
    let of = |rest: &str| format!("{}{rest}", place.topics.prefix);
    let (raw, enriched) = (of("mail.raw.delivered/0/5"), of("mail.enriched/1/6"));
    let (events, rates) = (of("mail.events/2/7"), of("mail.rates/0/8"));
    let base = Letter::default();
    let letters = [
        Letter { origin: &raw, value: b"of enrich\0\xff", ..base },
        Letter { stage: "dedupe", origin: &enriched, value: b"of dedupe", ..base },
        Letter { stage: "archive", origin: &events, value: b"of archive", ..base },
        Letter { stage: "archive", origin: &rates, value: b"of archive, a rate", ..base },
    ];
    place.write(&letters);
    let before = place.read(&place.topics.dead_letters).len();

    let dry = place.run(&["redrive", "--provider", "postmark", "--dry-run"]);
    assert_eq!((dry.code, dry.lines().len()), (0, 4), "{dry:?}");
    assert_eq!(dry.err.lines().last(), Some("4 would be redriven"));
    assert!(place.sent_back().is_empty());
    assert_eq!(place.read(&place.topics.dead_letters).len(), before);

    let said = place.run(&["redrive", "--provider", "postmark", "--yes"]);
    assert_eq!((said.code, said.lines().len()), (0, 4), "{said:?}");
    let records = place.sent_back();
    assert_eq!(records.len(), 4);
    for letter in &letters {
        let is_it = |record: &&OwnedRecord| record.value.as_deref() == Some(letter.value);
        let record = records.iter().find(is_it).unwrap();
        let there = format!("{}/{}/", record.topic, record.partition);
        assert!(letter.origin.starts_with(&there), "{there} {letter:?}");
        assert_eq!(record.key, letter.key.as_bytes());
        let mut headers = Place::original_headers(letter);
        let again_for: Option<&[u8]> = match letter.value {
            b"of archive" => Some(b"archive"),
            b"of dedupe" => Some(b"dedupe"),
            _ => None,
        };
        headers.extend(again_for.map(|stage| (names::REDRIVEN.to_owned(), stage.to_vec())));
        assert_eq!(record.headers, headers, "{letter:?}");
    }

    let dead = place.read(&place.topics.dead_letters);
    assert_eq!(dead.len(), before + 4);
    for letter in &letters {
        let id = place.id(letter.value);
        let marker = marker_of(&dead, &id).expect("a marker");
        assert_eq!(marker.header(names::REASON), Some(&b"redriven"[..]));
        assert_eq!(marker.key, letter.key.as_bytes());
        assert_eq!(marker.value.as_deref(), Some(&b""[..]));
        assert!(id.starts_with(&format!("{}/", marker.partition)), "on the letter's partition");
        let origin = format!("{}/{id}", place.topics.dead_letters);
        assert_eq!(marker.header(names::ORIGIN), Some(origin.as_bytes()));
    }

    let again = place.run(&["redrive", "--provider", "postmark", "--yes"]);
    assert_eq!((again.code, again.out.as_str()), (0, ""), "{again:?}");
    let named = place.run(&["redrive", &place.id(b"of dedupe"), "--yes"]);
    assert!(named.code == 0 && named.out.contains("was redriven before"), "{named:?}");
    assert_eq!(place.sent_back().len(), 4);

    let listed = place.run(&["ls"]);
    assert_eq!((listed.lines().len(), listed.err.trim_end()), (0, "0 letters; 4 redriven"));
    let all = place.run(&["ls", "--all"]);
    assert_eq!(all.lines().len(), 4, "letters, not markers: {all:?}");
    assert!(all.lines().iter().all(|line| line.contains("[redriven]")), "{all:?}");
}

#[test]
fn a_body_is_split_again_and_one_that_still_cannot_be_stays() {
    let place = Place::new();
    let body = br#"[{"event":"delivered","email":"Ada@example.com","sg_event_id":"1"},
                    {"event":"open","email":"bob@example.com","sg_event_id":"2"}]"#;
    let base = Letter {
        stage: "ingress",
        reason: "wrong_shape",
        provider: "sendgrid",
        key: "",
        ..Letter::default()
    };
    let letters = [Letter { value: body, ..base }, Letter { value: b"[{", ..base }];
    place.write(&letters);

    for (go, moved) in [(2, "2 events"), (0, "nothing more")] {
        let said = place.run(&["redrive", "--stage", "ingress", "--yes"]);
        assert_eq!(said.code, 1, "one cannot be split: {said:?}");
        assert!(said.line(&place.id(b"[{")).contains("still cannot be split"), "{said:?}");
        assert_eq!(said.err.contains("1 redriven, 1 not"), go == 2, "{said:?}");
        assert_eq!(place.sent_back().len(), 2, "{moved}");
    }
    let delivered = place.read(place.topics.raw(Kind::Delivered));
    let opened = place.read(place.topics.raw(Kind::Opened));
    assert_eq!((delivered.len(), opened.len()), (1, 1));
    assert_eq!(delivered[0].key, b"ada@example.com");
    let first = br#"{"event":"delivered","email":"Ada@example.com","sg_event_id":"1"}"#;
    assert_eq!(delivered[0].value.as_deref(), Some(&first[..]));
    assert_eq!(delivered[0].headers, Place::original_headers(&letters[0]));
    assert_eq!(place.run(&["ls"]).lines().len(), 1, "the other stays");
}

#[test]
fn what_has_no_way_back_stays_and_is_named() {
    let place = Place::new();
    let of = |rest: &str| format!("{}{rest}", place.topics.prefix);
    let (events, alerts) = (of("mail.events/0/1"), of("mail.alerts/0/1"));
    let base = Letter::default();
    place.write(&[
        Letter { stage: "monitor-fold", origin: &events, value: b"counted", ..base },
        Letter { stage: "archive", origin: &alerts, value: b"told", ..base },
        Letter { origin: "elsewhere/0/1", value: b"foreign", ..base },
        Letter { stage: "later", origin: &events, value: b"later", ..base },
    ]);
    let said = place.run(&["redrive", "--source", "receipts", "--yes"]);
    assert_eq!(said.code, 1, "{said:?}");
    for (value, why) in [
        (&b"counted"[..], "would be there twice"),
        (b"told", "tell people again"),
        (b"foreign", "`enrich` does not read"),
        (b"later", "knows no stage `later`"),
    ] {
        let line = said.line(&place.id(value)).to_owned();
        assert!(line.contains(why), "{line}");
    }
    assert!(place.sent_back().is_empty());

    let absent = place.run(&["redrive", "0/99999", "--yes"]);
    assert!(absent.code == 1 && absent.out.contains("no such letter"), "{absent:?}");
}

#[test]
fn the_archives_copies_of_one_letter_go_back_once() {
    let place = Place::new();
    let origin = format!("{}mail.events/1/5", place.topics.prefix);
    let other = format!("{}mail.events/1/6", place.topics.prefix);
    let base = Letter { stage: "archive", reason: "row_refused", ..Letter::default() };
    place.write(&[
        Letter { origin: &origin, value: b"first", ..base },
        Letter { origin: &other, value: b"other", ..base },
        // The archive died between writing its letters and its commit, and wrote them again.
        Letter { origin: &origin, value: b"copy", ..base },
    ]);
    let (first, copy) = (place.id(b"first"), place.id(b"copy"));
    assert_eq!(place.run(&["ls"]).lines().len(), 2);
    let listed = place.run(&["ls", "--all"]);
    assert!(listed.line(&copy).contains(&format!("[copy of {first}]")), "{listed:?}");

    let of_copy = place.run(&["redrive", &copy, "--yes"]);
    assert!(of_copy.code == 1 && of_copy.out.contains(&first), "{of_copy:?}");
    assert!(place.sent_back().is_empty());
    assert_eq!(place.run(&["redrive", "--stage", "archive", "--yes"]).code, 0);
    assert_eq!(place.read(&place.topics.events).len(), 2);
    let of_copy = place.run(&["redrive", &copy, "--yes"]);
    assert!(of_copy.code == 0 && of_copy.out.contains("before"), "{of_copy:?}");
    assert_eq!(place.read(&place.topics.events).len(), 2);
}

const MANY: usize = 20_000;

/// Many letters, over all partitions, and several transactions to send them back.
fn many(place: &Place) {
    let origin = format!("{}mail.raw.delivered/0/1", place.topics.prefix);
    let keys: Vec<String> = (0..MANY).map(|number| format!("r{number}@example.com")).collect();
    let letters: Vec<_> =
        keys.iter().map(|key| Letter { key, origin: &origin, ..Letter::default() }).collect();
    place.write(&letters);
}

fn assert_each_once(place: &Place) {
    let mut times: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    for record in place.sent_back() {
        *times.entry(record.key).or_default() += 1;
    }
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{} letters more than once", twice.len());
    assert_eq!(times.len(), MANY);
    assert!(place.run(&["ls"]).out.is_empty());
}

/// Offsets of the raw topic that are decided, those of aborted transactions included.
fn sent_at_all(place: &Place) -> i64 {
    let topic = place.topics.raw(Kind::Delivered);
    let ends = admin::watermarks(&place.connection, topic, PARTITIONS).unwrap();
    ends.iter().map(|(_, end)| end).sum()
}

const ALL: [&str; 4] = ["redrive", "--stage", "enrich", "--yes"];

#[test]
fn redrives_at_the_same_time_send_each_letter_once() {
    let place = Place::new();
    many(&place);
    let first = place.start(&ALL);
    // Into the middle of it.
    wait_until("the first redrive to have sent some", || sent_at_all(&place) > 500);
    let second = place.start(&ALL);
    let (first, second) = (first.end(), second.end());
    assert_eq!(second.code, 0, "the last one to begin ends well: {}", second.err);
    if first.code != 0 {
        assert!(first.err.contains("another redrive has begun"), "{}", first.err);
    }
    assert_eq!(first.lines().len() + second.lines().len(), MANY, "each reported once");
    assert_each_once(&place);
}

#[test]
fn a_redrive_that_is_killed_is_finished_by_the_next() {
    let place = Place::new();
    many(&place);
    let mut kills = 0;
    loop {
        let before = sent_at_all(&place);
        let mut redrive = place.start(&ALL);
        // Sooner or later in it: between transactions, and in the middle of one.
        let more = 1 + (kills % 5) * 170;
        wait_until("the redrive to have sent some, or to be through", || {
            sent_at_all(&place) > before + more || redrive.has_ended()
        });
        let said = redrive.kill();
        if said.code == 0 {
            break;
        }
        assert_eq!(said.code, -1, "killed, not failed: {}", said.err);
        kills += 1;
    }
    assert!(kills > 0, "it was through before it could be killed");
    assert_each_once(&place);
}
