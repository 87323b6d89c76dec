//! What events say about the sending of their message, and the table in `docs/providers.md` that says
//! which provider reports it.

use std::collections::{BTreeMap, BTreeSet};

use event::Provider;
use serde_json::Value;

use crate::{RECEIVED_AT, read_at, read_one};

/// The columns of the table, and the fields of an event that they stand for.
const COLUMNS: [(&str, &[&str]); 5] = [
    ("`sent_at`", &["/sent_at"]),
    ("`sender`", &["/sender"]),
    ("`sending_ip`", &["/sending_ip"]),
    (
        "`delivery`",
        &["/delivery/server", "/delivery/response", "/delivery/tls", "/delivery/millis"],
    ),
    ("`geo`", &["/geo/country", "/geo/region", "/geo/city"]),
];

/// Returns the pointers of the fields that some event of a provider's fixtures has.
fn found(provider: Provider) -> BTreeSet<&'static str> {
    let folder = format!("{}/src/{provider}/fixtures", env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let body = std::fs::read(file.unwrap().path()).unwrap();
        if providers::split(provider, &body).is_err() {
            continue;
        }
        for read in read_at(provider, &body, RECEIVED_AT) {
            let Ok(event) = read.event else { continue };
            let fields = COLUMNS.iter().flat_map(|(_, fields)| *fields).copied();
            found.extend(fields.filter(|field| event.pointer(field).is_some()));
        }
    }
    found
}

/// The rows of the table: the cells by column, without the row's title.
fn documented() -> BTreeMap<String, BTreeMap<String, String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/providers.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, part) = page.split_once("## Sending\n").unwrap();
    let rows = part.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with('|'));
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut rows = rows.map(cells);
    let header = rows.next().unwrap();
    let rows = rows.skip(1).map(|row| {
        let cells = header.iter().cloned().zip(row.iter().cloned()).skip(1).collect();
        (row[0].to_lowercase().replace([' ', '-'], ""), cells)
    });
    rows.collect()
}

#[test]
fn the_table_says_which_provider_reports_what() {
    let documented = documented();
    assert_eq!(documented.len(), Provider::ALL.len(), "{:?}", documented.keys());
    let mut wrong = Vec::new();
    for provider in Provider::ALL {
        let found = found(provider);
        let row = &documented[provider.as_str()];
        for (column, fields) in COLUMNS {
            let reported: Vec<&str> =
                fields.iter().filter(|field| found.contains(*field)).copied().collect();
            let names: Vec<&str> =
                reported.iter().filter_map(|field| field.rsplit('/').next()).collect();
            let cell = &row[column];
            let is_right = match fields {
                [_] => (cell == "–") == names.is_empty(),
                _ if names.is_empty() => cell == "–",
                _ => *cell == names.join(", "),
            };
            if !is_right {
                wrong.push(format!("{provider} {column}: {cell:?}, not {names:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "docs/providers.md differs from the fixtures:\n{}", wrong.join("\n"));
}

#[test]
fn a_sending_time_that_cannot_be_right_is_absent() {
    let sent_at = |sent: &str| {
        let body =
            format!(r#"{{"event":"delivered","id":"1","timestamp":1762787700,"sent_at":{sent}}}"#);
        let event = read_one(Provider::Generic, &body).event.unwrap();
        (event["sent_at"].as_i64(), event.get("time_fault").cloned())
    };
    assert_eq!(sent_at("1762787690.5"), (Some(1_762_787_690_500_000), None));
    assert_eq!(sent_at("\"2025-11-10T15:14:50Z\""), (Some(1_762_787_690_000_000), None));
    for absent in ["1262787690", "1862787690", "\"soon\"", "-1", "null", "{}"] {
        assert_eq!(sent_at(absent), (None, None), "{absent}");
    }
}

#[test]
fn an_implausible_time_is_kept_as_the_claimed_time() {
    let read = |time: &str| {
        let body = format!(r#"{{"event":"delivered","id":"1","timestamp":{time}}}"#);
        let event = read_one(Provider::Generic, &body).event.unwrap();
        (
            event["occurred_at"].as_i64().unwrap(),
            event["claimed_at"].as_i64(),
            event["time_fault"].clone(),
        )
    };
    let implausible = Value::from("implausible");
    let claimed = 1_862_787_690_000_000;
    assert_eq!(read("1862787690"), (RECEIVED_AT, Some(claimed), implausible.clone()));
    assert_eq!(read("7"), (RECEIVED_AT, Some(7_000_000), implausible));
    assert_eq!(read("1762787690"), (1_762_787_690_000_000, None, Value::Null));
    assert_eq!(read("99999999999"), (RECEIVED_AT, None, Value::from("out_of_range")));
}

#[test]
fn the_address_of_the_sending_server_is_not_the_readers() {
    let body = |event: &str| {
        format!(
            r#"[{{"event":"{event}","email":"jun@ropewalk.example","timestamp":1762787700,
                "ip":"198.51.100.7"}}]"#
        )
    };
    for (event, sending, reader) in [
        ("processed", true, false),
        ("delivered", true, false),
        ("bounce", true, false),
        ("open", false, true),
        ("click", false, true),
        ("group_unsubscribe", false, true),
    ] {
        let event = read_one(Provider::SendGrid, &body(event)).event.unwrap();
        let has = |name: &str| event.get(name).is_some();
        assert_eq!((has("sending_ip"), has("ip")), (sending, reader), "{event}");
    }
}
