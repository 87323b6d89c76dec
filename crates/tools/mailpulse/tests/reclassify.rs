//! `mailpulse reclassify` on events that were classified wrongly.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stored;

use archive::tables::{Coordinates, Events, Table};
use harness::Database;
use stored::{Output, Setup};

/// An event of SendGrid, as enrich publishes it, with a classification and what dedupe made of it.
struct Published<'a> {
    kind: &'a str,
    name: &'a str,
    bounce: &'a str,
    counts: &'a str,
    corrections: &'a str,
    reason: &'a str,
}

const AT: i64 = 1_790_000_000_000_000;

/// The bounce of an address that does not exist, classified as a full mailbox.
const WRONG: &str = r#""bounce":{"permanence":"soft","class":"mailbox_full","side":"recipient","status":"4.2.2","diagnostic":"550 5.1.1 no such user"},"#;

fn insert(setup: &Setup, offset: u64, message: &str, event: &Published<'_>) {
    insert_seen(setup, offset, message, event, Some(1));
}

/// Inserts an event with its ordinal. Without one, `dedupe` did not remember it.
fn insert_seen(
    setup: &Setup,
    offset: u64,
    message: &str,
    event: &Published<'_>,
    seen: Option<u32>,
) {
    let Published { kind, name, bounce, counts, corrections, reason } = *event;
    let at = AT + offset.cast_signed() * 60_000_000;
    let seconds = at / 1_000_000;
    let value = format!(
        r#"{{"event_id":"{offset:032x}","kind":"{kind}","provider":"sendgrid","source":"acme","occurred_at":{at},"received_at":{at},"recipient":"ada@example.com","recipient_domain":"example.com","mailbox_provider":"other","message_id":"{message}",{bounce}"provider_event":"{name}","request_id":"r","raw":{{"email":"ada@example.com","event":"{name}","timestamp":{seconds},"sg_event_id":"e{offset}","sg_message_id":"{message}","smtp-id":"<{message}>","reason":"{reason}","status":"5.1.1","type":"bounce"}}}}"#
    );
    let seen = seen.map(|seen| seen.to_string()).unwrap_or_default();
    let tally = format!("{seen};{at};{counts}");
    let header = |name: &str| match name {
        "tally" => Some(tally.as_bytes()),
        "corrections" if !corrections.is_empty() => Some(corrections.as_bytes()),
        _ => None,
    };
    let mut rows = Events::default();
    rows.push(Coordinates { partition: 0, offset }, value.as_bytes(), header).unwrap();
    setup.insert(Table::Events, &rows.finish());
}

const BOUNCED: Published<'_> = Published {
    kind: "bounced",
    name: "bounce",
    bounce: WRONG,
    counts: "bounced_soft",
    corrections: "",
    reason: "550 5.1.1 no such user",
};

fn run(setup: &Setup, more: &[&str]) -> Output {
    setup.run(
        &[&["reclassify", "--from", "2026-01-01T00:00:00Z", "--to", "2027-01-01T00:00:00Z"], more]
            .concat(),
    )
}

fn sums(setup: &Setup) -> (i64, i64) {
    setup.database.one("SELECT sum(bounced_soft), sum(bounced_hard) FROM traffic")
}

#[test]
fn a_wrong_bounce_is_shown_and_then_corrected_everywhere() {
    let settings = "[archive.retention]\nevents = \"0s\"\n";
    let setup = Setup::with("reclassify", Database::new("reclassify"), settings);
    insert(&setup, 1, "m1", &BOUNCED);
    // The right one already, and one that counts otherwise than the rules say.
    let right = WRONG
        .replace("soft", "hard")
        .replace("mailbox_full", "invalid_recipient")
        .replace("4.2.2", "5.1.1");
    insert(&setup, 2, "m2", &Published { bounce: &right, counts: "bounced_hard", ..BOUNCED });
    insert(&setup, 3, "m3", &Published { counts: "", ..BOUNCED });
    assert_eq!(sums(&setup), (1, 1));

    let shown = run(&setup, &["--diff"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    let expected = "2\tbounced soft mailbox_full recipient 4.2.2\tbounced hard invalid_recipient recipient 5.1.1\n";
    assert_eq!(shown.out, expected, "{shown:?}");
    assert_eq!(sums(&setup), (1, 1), "nothing is changed");

    let corrected = run(&setup, &[]);
    assert_eq!((corrected.code, &*corrected.out), (1, expected), "{corrected:?}");
    assert!(corrected.err.contains("1 events are corrected"), "{corrected:?}");
    assert!(corrected.err.contains("1 messages were left"), "{corrected:?}");
    assert_eq!(sums(&setup), (0, 2));
    let row: (String, String, String) = setup.database.one(
        "SELECT concat(bounce_permanence, ' ', bounce_class, ' ', bounce_status), toString(counts), bounce_diagnostic \
         FROM events WHERE message_id = 'm1'",
    );
    assert_eq!((&*row.0, &*row.1), ("hard invalid_recipient 5.1.1", "['bounced_hard']"));
    assert_eq!(row.2, "550 5.1.1 no such user", "the provider's text stays");
    let life: String = setup
        .database
        .one("SELECT bounce FROM (SELECT * FROM message_life FINAL) WHERE message_id = 'm1'");
    assert!(life.contains("hard") && !life.contains("soft"), "{life}");
    assert_eq!(setup.run(&["heal"]).code, 0);
    let audit: (String, String) = setup.database.one("SELECT command, toString(counts) FROM audit");
    assert_eq!(audit, ("reclassify".to_owned(), "{'events':1}".to_owned()));
}

/// `dedupe` counts unauthentic events only with `enrich.count_unauthentic`, which an operator can switch on at any time.
#[test]
fn an_unauthentic_event_is_counted_again_if_it_was_counted() {
    let settings = "[archive.retention]\nevents = \"0s\"\n";
    let setup = Setup::with("reclassify_unauthentic", Database::new("reclassify"), settings);
    let unauthentic = format!(r#""authentic":false,{WRONG}"#);
    let counted = Published { bounce: &unauthentic, ..BOUNCED };
    insert(&setup, 1, "m1", &counted);
    insert_seen(&setup, 2, "m2", &Published { counts: "", ..counted }, None);
    assert_eq!(sums(&setup), (1, 0));

    let corrected = run(&setup, &[]);
    assert_eq!(corrected.code, 0, "{corrected:?}");
    assert!(corrected.err.contains("2 events are corrected"), "{corrected:?}");
    assert_eq!(sums(&setup), (0, 1), "the second one counts nowhere");
    let rows: Vec<(String, String, u32)> = setup.database.one(
        "SELECT groupArray((toString(bounce_class), toString(counts), seen)) FROM (SELECT * FROM events ORDER BY kafka_offset)",
    );
    let row = |counts: &str, seen| ("invalid_recipient".to_owned(), counts.to_owned(), seen);
    assert_eq!(rows, [row("['bounced_hard']", 1), row("[]", 0)]);
    assert_eq!(setup.run(&["heal"]).code, 0);
}

#[test]
fn a_bounce_before_a_delivery_is_counted_again_with_its_corrections() {
    let settings = "[archive.retention]\nevents = \"0s\"\n";
    let setup = Setup::with("reclassify", Database::new("reclassify"), settings);
    insert(&setup, 1, "m1", &BOUNCED);
    let bounced_at = AT + 60_000_000;
    let corrections = format!(
        "mailbox_provider,campaign,sender_domain,sending_ip,tenant:-bounced_soft@{bounced_at},+deferred@{bounced_at}"
    );
    insert(
        &setup,
        2,
        "m1",
        &Published {
            kind: "delivered",
            name: "delivered",
            bounce: "",
            counts: "delivered,deferred_settled",
            corrections: &corrections,
            reason: "250 ok",
        },
    );
    let corrected = run(&setup, &[]);
    let stored: (String, String) = setup.database.one(
        "SELECT groupArray(toString(counts))[1], groupArray(corrections)[2] FROM (SELECT * FROM events ORDER BY kafka_offset)",
    );
    assert_eq!(corrected.code, 0, "{corrected:?}");
    assert_eq!(stored.0, "['bounced_hard']");
    assert!(stored.1.contains("-bounced_hard@") && stored.1.contains("+deferred@"), "{stored:?}");
    let sums: (i64, i64, i64) = setup
        .database
        .one("SELECT sum(bounced_soft), sum(bounced_hard), sum(deferred) FROM traffic");
    assert_eq!(sums, (0, 0, 1));
}
