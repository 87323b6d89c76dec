//! `mailpulse suppressions` on a real Kafka and ClickHouse.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stored;

use archive::tables::{Coordinates, Events, Table};
use harness::{Database, Outgoing};
use privacy::ErasureKey;
use serde_json::json;
use stored::Setup;
use suppression::entry::{EntryKey, EntryValue, Evidence};
use suppression::{Author, Reason, RecipientKey, State};

const KEY: &str = "a key of the tests alone";
const SETTINGS: &str = "[privacy]\nerasure_key = \"a key of the tests alone\"\n";
const LIST: &str = "ses/news";

fn setup(name: &str) -> Setup {
    Setup::with(name, Database::new(name), SETTINGS)
}

/// Returns a record of an event, as `suppress` writes it.
fn record(setup: &Setup, address: &str, reason: Reason, since: &str, wording: &str) -> Outgoing {
    record_with(setup, address, reason, since, wording, None)
}

/// Returns a record as [`record`] does; with an incident, it is provisional.
fn record_with(
    setup: &Setup,
    address: &str,
    reason: Reason,
    since: &str,
    wording: &str,
    incident: Option<char>,
) -> Outgoing {
    let keys = RecipientKey::new(ErasureKey::new(KEY.as_bytes()).unwrap(), None);
    let key = EntryKey {
        list: LIST.into(),
        recipient: keys.of_address(address).unwrap(),
        reason,
        scope: "".into(),
        author: Author::Event,
    };
    let since: jiff::Timestamp = since.parse().unwrap();
    let mut value = EntryValue::new(&key, State::Suppressed, since.as_microsecond());
    value.evidence = Evidence {
        mailbox_provider: Some(address.split(['@', '.']).nth(1).unwrap().to_owned()),
        wording: Some(wording.to_owned()),
        incident: incident.map(|id| id.to_string().repeat(32)),
        ..Evidence::default()
    };
    value.provisional = incident.is_some();
    let topic = &setup.cluster.topics.suppressions;
    Outgoing::new(topic, key.to_string(), serde_json::to_vec(&value).unwrap())
}

/// Runs `mailpulse suppressions …` and returns what it prints.
fn run(setup: &Setup, arguments: &[&str], code: i32) -> (String, String) {
    let output = setup.run(&[&["suppressions"], arguments].concat());
    assert_eq!(output.code, code, "{arguments:?}: {output:?}");
    (output.out, output.err)
}

fn may_be_mailed(setup: &Setup, address: &str) -> bool {
    let (out, _) = run(setup, &["show", address, "--list", LIST], 0);
    assert!(out.contains("may be sent") != out.contains("must not be sent"), "{out}");
    out.contains("may be sent")
}

/// The answers of a mailbox provider on two days when they were wrong, and before.
fn write_incident(setup: &Setup) {
    let hard = |address: &str, since: &str, wording: &str| {
        record(setup, address, Reason::HardBounce, since, wording)
    };
    let wrong = "550-5.1.1 The email account that you tried to reach does not exist";
    setup.cluster.produce(&[
        hard("ada@gmail.com", "2020-12-14T21:00:00Z", wrong),
        hard("bob@gmail.com", "2020-12-15T21:00:00Z", wrong),
        record(setup, "bob@gmail.com", Reason::Complaint, "2020-12-15T22:00:00Z", ""),
        hard("old@gmail.com", "2020-12-01T21:00:00Z", wrong),
        hard("full@gmail.com", "2020-12-15T21:00:00Z", "552 account is disabled"),
        hard("eve@yahoo.com", "2020-12-15T21:00:00Z", wrong),
    ]);
}

#[test]
fn a_batch_is_lifted_by_what_its_evidence_has_in_common() {
    let setup = setup("suppressions_batch");
    write_incident(&setup);
    let batch = [
        "lift",
        "--provider",
        "gmail",
        "--since",
        "2020-12-14T00:00:00Z",
        "--until",
        "2020-12-16T00:00:00Z",
        "--wording",
        "Does Not Exist",
        "--note",
        "wrong, see the mail of ada@gmail.com",
    ];
    let (out, err) = run(&setup, &[&batch[..], &["--dry-run"]].concat(), 0);
    assert_eq!(out.lines().count(), 2, "{out}");
    assert!(err.contains("2 entries would be lifted; nothing was"), "{err}");
    assert!(!may_be_mailed(&setup, "ada@gmail.com"));
    let (_, err) = run(&setup, &batch, 0);
    assert!(err.contains("2 records were written"), "{err}");
    let mailed =
        ["ada", "bob", "old", "full"].map(|it| may_be_mailed(&setup, &format!("{it}@gmail.com")));
    assert_eq!(mailed, [true, false, false, false], "bob has complained too");
    assert!(!may_be_mailed(&setup, "eve@yahoo.com"));
    let (_, err) = run(&setup, &batch, 0);
    assert!(err.contains("nothing was lifted"), "{err}");
    let audit: (u64, String) = setup.database.one(
        "SELECT count(), anyIf(concat(toString(counts), detail), result = 'done') FROM audit \
         WHERE command = 'suppressions lift'",
    );
    assert_eq!(audit.0, 2);
    assert!(audit.1.starts_with("{'mail.suppressions':2}batch: mailbox provider"), "{audit:?}");

    let (listed, _) = run(&setup, &["ls", "--reason", "hard_bounce", "--provider", "gmail"], 0);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let (all, _) = run(&setup, &["ls", "--all", "--json"], 0);
    assert_eq!(all.lines().count(), 8, "with what was lifted, and the lifts: {all}");
    assert!(all.contains("wrong, see the mail of <address>"), "{all}");
    assert!(!all.contains("gmail.com"), "{all}");
}

#[test]
fn what_began_during_an_incident_is_lifted_with_what_has_become_part_of_it() {
    let setup = setup("suppressions_incident");
    let hard = |address: &str, wording: &str, incident: Option<char>| {
        record_with(&setup, address, Reason::HardBounce, "2020-12-14T21:00:00Z", wording, incident)
    };
    let incident = |id: &str, merged_into: Option<&str>| {
        let value = json!({ "id": id, "merged_into": merged_into }).to_string();
        Outgoing::new(&setup.cluster.topics.incidents, id, value)
    };
    let [a, b, c] = ["a", "b", "c"].map(|id| id.repeat(32));
    let like_a = format!("aaaa{}", "0".repeat(28));
    setup.cluster.produce(&[
        hard("ada@gmail.com", "no such user", Some('a')),
        hard("bob@gmail.com", "no such user", Some('b')),
        hard("cal@gmail.com", "no such user", Some('c')),
        hard("full@gmail.com", "account is disabled", Some('a')),
        hard("old@gmail.com", "no such user", None),
        incident(&a, None),
        incident(&b, Some(&c)),
        incident(&c, Some(&a)),
        incident(&like_a, None),
    ]);
    let (shown, _) = run(&setup, &["show", "ada@gmail.com", "--list", LIST], 0);
    assert!(shown.contains(&format!("provisional: incident {a}")), "{shown}");
    assert!(shown.contains("must not be sent: hard_bounce on ses/news, provisional"), "{shown}");

    let (_, err) = run(&setup, &["lift", "--incident", "aaaa"], 2);
    assert!(err.contains("more than one incident begins with `aaaa`"), "{err}");
    let (_, err) = run(&setup, &["lift", "--incident", "dddd"], 2);
    assert!(err.contains("no incident of"), "{err}");
    let (_, err) = run(&setup, &["lift", "--incident", &"d".repeat(32), "--dry-run"], 0);
    assert!(err.contains("0 entries would be lifted"), "its records may be gone: {err}");
    for wrong in [
        &["--incident", "aaa"][..],
        &["--incident", &a, "--provider", "gmail"],
        &["ada@gmail.com", "--incident", &a],
    ] {
        run(&setup, &[&["lift"], wrong].concat(), 2);
    }
    let (out, err) = run(&setup, &["lift", "--incident", "cccc", "--dry-run"], 0);
    assert!(err.contains(&format!("lift --incident {a}`")), "it is part of that one: {err}");
    assert_eq!(
        out.lines().count(),
        2,
        "of an incident that is part of another, not the other: {out}"
    );

    let note = "Gmail was wrong about ada@gmail.com";
    let batch = ["lift", "--incident", "aaaaa", "--wording", "No Such", "--note", note];
    let (_, err) = run(&setup, &batch, 0);
    assert!(err.contains("3 records were written") && !err.contains("is part of"), "{err}");
    let mailed = ["ada", "bob", "cal", "full", "old"]
        .map(|it| may_be_mailed(&setup, &format!("{it}@gmail.com")));
    assert_eq!(mailed, [true, true, true, false, false]);
    let (all, _) = run(&setup, &["ls", "--all", "--json"], 0);
    assert!(all.contains("Gmail was wrong about <address>"), "{all}");
    assert!(!all.contains("gmail.com"), "{all}");
    let detail: String = setup.database.one("SELECT any(detail) FROM audit WHERE result = 'done'");
    assert!(detail.starts_with("batch: incidents") && detail.contains(&b), "{detail}");
}

#[test]
fn one_address_is_added_shown_and_lifted() {
    let setup = setup("suppressions_one");
    let ada = "Ada@Example.com";
    assert!(may_be_mailed(&setup, ada));
    run(&setup, &["add", ada, "--list", LIST, "--note", "ada asked by phone"], 0);
    assert!(!may_be_mailed(&setup, "ada@example.com"));
    let wrong = record(&setup, ada, Reason::Complaint, "2020-01-01T00:00:00Z", "\u{1b}[2Jgone");
    setup.cluster.produce(&[wrong]);
    let (shown, _) = run(&setup, &["show", ada], 0);
    assert!(shown.contains("manual") && shown.contains("<local> asked by phone"), "{shown}");
    assert!(shown.contains("\\u{1b}[2Jgone") && !shown.contains('\u{1b}'), "{shown}");
    run(&setup, &["lift", ada, "--list", "ses/other"], 0);
    assert!(!may_be_mailed(&setup, ada));
    run(&setup, &["lift", ada, "--list", LIST], 0);
    assert!(may_be_mailed(&setup, ada));
    run(&setup, &["add", ada, "--list", LIST], 0);
    assert!(!may_be_mailed(&setup, ada), "in the same second, too");
    for wrong in [
        &["add", "ada"][..],
        &["lift"],
        &["lift", "--provider", "gmail"],
        &["add", ada, "--expires", "2020-01-01T00:00:00Z"],
    ] {
        run(&setup, wrong, 2);
    }
}

#[test]
fn lists_of_providers_are_imported_compared_and_exported() {
    let setup = setup("suppressions_files");
    let file = setup.home.path().join("list.json");
    let path = file.to_str().unwrap();
    let items = json!({"items": [
        {"address": "ada@example.com", "code": "550", "error": "no such user ada@example.com",
         "created_at": "Wed, 30 Sep 2015 22:12:05 UTC"},
        {"address": "Bob@example.com", "code": "550", "error": "x", "created_at": "Wed, 30 Sep 2015 22:12:05 UTC"},
        {"address": "nobody", "code": "550"},
    ]});
    std::fs::write(&file, items.to_string()).unwrap();
    setup.cluster.produce(&[record(
        &setup,
        "eve@example.com",
        Reason::HardBounce,
        "2026-01-01T00:00:00Z",
        "",
    )]);
    let mailgun = |verb| [verb, path, "--format", "mailgun", "--list", LIST];
    let (drift, err) = run(&setup, &mailgun("drift"), 1);
    assert_eq!(
        drift.lines().filter(|line| line.starts_with("only theirs\t")).count(),
        2,
        "{drift}"
    );
    assert_eq!(drift.lines().filter(|line| line.starts_with("only ours\t")).count(), 1, "{drift}");
    assert!(err.contains("0 entries are the same, 3 differ"), "{err}");

    let (_, err) = run(&setup, &mailgun("import"), 0);
    assert!(
        err.contains("2 entries: 2 are new, 0 are known") && err.contains("1 entries are left out"),
        "{err}"
    );
    assert!(!may_be_mailed(&setup, "bob@example.com"));
    let (_, err) = run(&setup, &mailgun("import"), 0);
    assert!(err.contains("0 are new, 2 are known"), "{err}");
    run(&setup, &["lift", "bob@example.com"], 0);
    let (_, err) = run(&setup, &mailgun("import"), 0);
    assert!(err.contains("0 are new, 1 are known, 1 were lifted here"), "{err}");
    let (drift, _) = run(&setup, &mailgun("drift"), 1);
    assert!(drift.contains("lifted here\tBob@example.com"), "{drift}");
    let (listed, _) = run(&setup, &["ls", "--json"], 0);
    assert!(
        listed.contains("no such user <address>") && !listed.contains("example.com"),
        "{listed}"
    );

    // Addresses come from a file or from the events.
    let addresses = setup.home.path().join("addresses.txt");
    std::fs::write(&addresses, "ada@example.com\nbob@example.com\nnew@example.com\n").unwrap();
    let (out, _) = run(
        &setup,
        &["export", "--format", "ses", "--list", LIST, "--addresses", addresses.to_str().unwrap()],
        0,
    );
    assert_eq!(out, "ada@example.com,BOUNCE\n");
    let mut rows = Events::default();
    for (offset, recipient) in (0..).zip(["eve@example.com", "new@example.com"]) {
        let event = json!({
            "event_id": format!("{offset:032x}"), "kind": "bounced", "provider": "ses",
            "source": "news", "occurred_at": 1_767_225_600_000_000_i64, "received_at": 1_767_225_600_000_000_i64,
            "recipient": recipient, "provider_event": "x", "request_id": "r", "raw": {},
        });
        let event = event.to_string();
        rows.push(Coordinates { partition: 0, offset }, event.as_bytes(), |_| None).unwrap();
    }
    setup.insert(Table::Events, &rows.finish());
    let (out, _) = run(&setup, &["export", "--format", "mailgun", "--reason", "hard_bounce"], 0);
    let out: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&out[0]["address"], out.as_array().unwrap().len()), (&json!("eve@example.com"), 1));
    run(&setup, &["export", "--format", "postmark"], 2);
}
