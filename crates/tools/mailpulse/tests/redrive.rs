//! `redrive` on real Kafka: every dead letter is redriven at most once, unchanged.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;

use common::{DeadLetter, Setup};
use event::Kind;
use harness::{DEADLINE, Record, eventually, seen};
use record::names;

fn marker_of<'a>(records: &'a [Record], id: &str) -> Option<&'a Record> {
    records.iter().find(|record| {
        let origin = record.header(names::ORIGIN).unwrap_or_default();
        record.header(names::STAGE) == Some(b"redrive")
            && origin.ends_with(format!("/{id}").as_bytes())
    })
}

#[test]
fn records_return_unchanged_to_the_topic_they_came_from() {
    let setup = Setup::new();
    let of = |rest: &str| format!("{}{rest}", setup.topics().prefix);
    let (raw, enriched) = (of("mail.raw.delivered/0/5"), of("mail.enriched/1/6"));
    let (events, rates) = (of("mail.events/2/7"), of("mail.rates/0/8"));
    let base = DeadLetter::default();
    let dead_letters = [
        DeadLetter { origin: &raw, value: b"of enrich\0\xff", ..base },
        DeadLetter { stage: "dedupe", origin: &enriched, value: b"of dedupe", ..base },
        DeadLetter { stage: "archive", origin: &events, value: b"of archive", ..base },
        DeadLetter { stage: "archive", origin: &rates, value: b"of archive, a rate", ..base },
    ];
    setup.write(&dead_letters);
    let before = setup.dead_letters().len();

    let dry = setup.run(&["redrive", "--provider", "postmark", "--dry-run"]);
    assert_eq!((dry.code, dry.lines().len()), (0, 4), "{dry:?}");
    assert_eq!(dry.err.lines().last(), Some("4 would be redriven"));
    assert!(setup.redriven().is_empty());
    assert_eq!(setup.dead_letters().len(), before);

    let output = setup.run(&["redrive", "--provider", "postmark", "--yes"]);
    assert_eq!((output.code, output.lines().len()), (0, 4), "{output:?}");
    let records = setup.redriven();
    assert_eq!(records.len(), 4);
    for dead_letter in &dead_letters {
        let has_value = |record: &&Record| record.value.as_deref() == Some(dead_letter.value);
        let record = records.iter().find(has_value).unwrap();
        let there = format!("{}/{}/", record.topic, record.partition);
        assert!(dead_letter.origin.starts_with(&there), "{there} {dead_letter:?}");
        assert_eq!(record.key, dead_letter.key.as_bytes());
        let mut headers = dead_letter.original_headers();
        let redriven_for: Option<&[u8]> = match dead_letter.value {
            b"of archive" => Some(b"archive"),
            b"of dedupe" => Some(b"dedupe"),
            _ => None,
        };
        headers.extend(redriven_for.map(|stage| (names::REDRIVEN.to_owned(), stage.to_vec())));
        assert_eq!(record.headers, headers, "{dead_letter:?}");
    }

    let all = setup.dead_letters();
    assert_eq!(all.len(), before + 4);
    for dead_letter in &dead_letters {
        let id = setup.id(dead_letter.value);
        let marker = marker_of(&all, &id).expect("a marker");
        assert_eq!(marker.header(names::REASON), Some(&b"redriven"[..]));
        assert_eq!(marker.key, dead_letter.key.as_bytes());
        assert_eq!(marker.value.as_deref(), Some(&b""[..]));
        assert!(id.starts_with(&format!("{}/", marker.partition)), "same partition");
        let origin = format!("{}/{id}", setup.topics().dead_letters);
        assert_eq!(marker.header(names::ORIGIN), Some(origin.as_bytes()));
    }

    let again = setup.run(&["redrive", "--provider", "postmark", "--yes"]);
    assert_eq!((again.code, again.out.as_str()), (0, ""), "{again:?}");
    let named = setup.run(&["redrive", &setup.id(b"of dedupe"), "--yes"]);
    assert!(named.code == 0 && named.out.contains("was redriven before"), "{named:?}");
    assert_eq!(setup.redriven().len(), 4);

    let listed = setup.run(&["ls"]);
    assert_eq!((listed.lines().len(), listed.err.trim_end()), (0, "0 dead letters; 4 redriven"));
    let all = setup.run(&["ls", "--all"]);
    assert_eq!(all.lines().len(), 4, "dead letters without markers: {all:?}");
    assert!(all.lines().iter().all(|line| line.contains("[redriven]")), "{all:?}");
}

#[test]
fn a_body_is_split_again_and_stays_if_that_fails() {
    let setup = Setup::new();
    let body = br#"[{"event":"delivered","email":"Ada@example.com","sg_event_id":"1"},
                    {"event":"open","email":"bob@example.com","sg_event_id":"2"}]"#;
    let base = DeadLetter {
        stage: "ingress",
        reason: "wrong_shape",
        provider: "sendgrid",
        key: "",
        ..DeadLetter::default()
    };
    let dead_letters = [DeadLetter { value: body, ..base }, DeadLetter { value: b"[{", ..base }];
    setup.write(&dead_letters);

    for is_first in [true, false] {
        let output = setup.run(&["redrive", "--stage", "ingress", "--yes"]);
        assert_eq!(output.code, 1, "one cannot be split: {output:?}");
        assert!(output.line(&setup.id(b"[{")).contains("still cannot be split"), "{output:?}");
        assert_eq!(output.err.contains("1 redriven, 1 not"), is_first, "{output:?}");
        assert_eq!(setup.redriven().len(), 2, "a body is split once");
    }
    let delivered = setup.read(setup.topics().raw(Kind::Delivered));
    let opened = setup.read(setup.topics().raw(Kind::Opened));
    assert_eq!((delivered.len(), opened.len()), (1, 1));
    assert_eq!(delivered[0].key, b"ada@example.com");
    let first = br#"{"event":"delivered","email":"Ada@example.com","sg_event_id":"1"}"#;
    assert_eq!(delivered[0].value.as_deref(), Some(&first[..]));
    assert_eq!(delivered[0].headers, dead_letters[0].original_headers());
    assert_eq!(setup.run(&["ls"]).lines().len(), 1, "the other body stays");
}

#[test]
fn dead_letters_that_cannot_be_redriven_stay_and_are_listed_with_the_reason() {
    let setup = Setup::new();
    let of = |rest: &str| format!("{}{rest}", setup.topics().prefix);
    let (events, alerts) = (of("mail.events/0/1"), of("mail.alerts/0/1"));
    let base = DeadLetter::default();
    setup.write(&[
        DeadLetter { stage: "monitor-fold", origin: &events, value: b"counted", ..base },
        DeadLetter { stage: "notify", origin: &alerts, value: b"told", ..base },
        DeadLetter { origin: "elsewhere/0/1", value: b"foreign", ..base },
        DeadLetter { stage: "later", origin: &events, value: b"later", ..base },
    ]);
    let output = setup.run(&["redrive", "--source", "receipts", "--yes"]);
    assert_eq!(output.code, 1, "{output:?}");
    for (value, why) in [
        (&b"counted"[..], "would store it twice"),
        (b"told", "delivers incidents, not alerts"),
        (b"foreign", "`enrich` does not read"),
        (b"later", "does not know the stage `later`"),
    ] {
        let line = output.line(&setup.id(value)).to_owned();
        assert!(line.contains(why), "{line}");
    }
    assert!(setup.redriven().is_empty());

    let absent = setup.run(&["redrive", "0/99999", "--yes"]);
    assert!(absent.code == 1 && absent.out.contains("no such dead letter"), "{absent:?}");
}

#[test]
fn copies_of_one_dead_letter_of_archive_are_redriven_once() {
    let setup = Setup::new();
    let origin = format!("{}mail.events/1/5", setup.topics().prefix);
    let other = format!("{}mail.events/1/6", setup.topics().prefix);
    let base = DeadLetter { stage: "archive", reason: "row_refused", ..DeadLetter::default() };
    setup.write(&[
        DeadLetter { origin: &origin, value: b"first", ..base },
        DeadLetter { origin: &other, value: b"other", ..base },
        // Archive was killed between writing its dead letters and its commit, and wrote them again.
        DeadLetter { origin: &origin, value: b"copy", ..base },
    ]);
    let (first, copy) = (setup.id(b"first"), setup.id(b"copy"));
    assert_eq!(setup.run(&["ls"]).lines().len(), 2);
    let listed = setup.run(&["ls", "--all"]);
    assert!(listed.line(&copy).contains(&format!("[copy of {first}]")), "{listed:?}");

    let of_copy = setup.run(&["redrive", &copy, "--yes"]);
    assert!(of_copy.code == 1 && of_copy.out.contains(&first), "{of_copy:?}");
    assert!(setup.redriven().is_empty());
    assert_eq!(setup.run(&["redrive", "--stage", "archive", "--yes"]).code, 0);
    assert_eq!(setup.read(&setup.topics().events).len(), 2);
    let of_copy = setup.run(&["redrive", &copy, "--yes"]);
    assert!(of_copy.code == 0 && of_copy.out.contains("before"), "{of_copy:?}");
    assert_eq!(setup.read(&setup.topics().events).len(), 2);
}

const MANY: usize = 20_000;

/// Writes so many dead letters, on all partitions, that redriving them takes several transactions.
fn write_many(setup: &Setup) {
    let origin = format!("{}mail.raw.delivered/0/1", setup.topics().prefix);
    let keys: Vec<String> = (0..MANY).map(|number| format!("r{number}@example.com")).collect();
    let dead_letters: Vec<_> = keys
        .iter()
        .map(|key| DeadLetter { key, origin: &origin, ..DeadLetter::default() })
        .collect();
    setup.write(&dead_letters);
}

fn assert_each_once(setup: &Setup) {
    let mut times: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    for record in setup.redriven() {
        *times.entry(record.key).or_default() += 1;
    }
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{} dead letters were redriven more than once", twice.len());
    assert_eq!(times.len(), MANY);
    assert!(setup.run(&["ls"]).out.is_empty());
}

/// Returns how many records were sent to the raw topic, including those of aborted transactions.
fn sent(setup: &Setup) -> i64 {
    setup.cluster.end_offsets(setup.topics().raw(Kind::Delivered)).iter().sum()
}

const ALL: [&str; 4] = ["redrive", "--stage", "enrich", "--yes"];

#[test]
fn concurrent_redrives_send_each_dead_letter_once() {
    let setup = Setup::new();
    write_many(&setup);
    let mut first = setup.start(&ALL);
    eventually("the first redrive to be in the middle of its work", DEADLINE, || {
        seen(sent(&setup), |sent| *sent > 500 || first.has_ended())
    });
    let second = setup.start(&ALL);
    let (first, second) = (first.end(), second.end());
    assert_eq!(second.code, 0, "the last to start succeeds: {}", second.err);
    if first.code != 0 {
        assert!(first.err.contains("another redrive has started"), "{}", first.err);
    }
    assert_eq!(first.lines().len() + second.lines().len(), MANY, "each reported once");
    assert_each_once(&setup);
}

#[test]
fn a_redrive_that_is_killed_is_finished_by_the_next() {
    let setup = Setup::new();
    write_many(&setup);
    let mut kills = 0;
    loop {
        let before = sent(&setup);
        let mut redrive = setup.start(&ALL);
        // At another point each time: between transactions, or in the middle of one.
        let more = 1 + (kills % 5) * 170;
        eventually("the redrive to send some records or to end", DEADLINE, || {
            seen(sent(&setup), |sent| *sent > before + more || redrive.has_ended())
        });
        let output = redrive.kill();
        if output.code == 0 {
            break;
        }
        assert_eq!(output.code, -1, "killed, not failed: {}", output.err);
        kills += 1;
    }
    assert!(kills > 0, "it ended before it could be killed");
    assert_each_once(&setup);
}
