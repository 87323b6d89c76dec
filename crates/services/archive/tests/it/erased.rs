//! Records that name an erased recipient become rows that do not.

use harness::{Launch, Outgoing};
use privacy::ErasureKey;

use crate::records::event;
use crate::stack::{Stack, record};

const KEY: &str = "a key of the tests alone";

fn tombstone(stack: &Stack, key: &ErasureKey, address: &str) -> Outgoing {
    let value = format!(r#"{{"key_id":"{}","at":1}}"#, key.id());
    Outgoing::new(&stack.cluster.topics.erased, key.digest(address).to_string(), value)
}

fn launch(stack: &Stack, key: &str) -> Launch {
    stack.launch().config(&format!("[privacy]\nerasure_key = {key:?}\n"))
}

#[test]
fn a_recipient_who_was_erased_before_and_one_who_is_erased_meanwhile() {
    let stack = Stack::new();
    let key = ErasureKey::new(KEY.as_bytes()).unwrap();
    stack.cluster.produce(&[tombstone(&stack, &key, "u1@example.com")]);
    let archive = launch(&stack, KEY).start();
    let topic = &stack.cluster.topics.events;
    let events: Vec<_> = (0..3).map(|n| record(topic, 0, &event(n), &[])).collect();
    let dead = record(
        &stack.cluster.topics.dead_letters,
        0,
        b"to u1@example.com",
        &[("reason", b"not_json")],
    );
    stack.produce(&[&events[..], &[dead]].concat(), 4);
    stack.database.await_count("events", 3);
    stack.database.await_count("dead_letters", 1);
    let recipients: Vec<String> = stack
        .database
        .one("SELECT groupArray(recipient) FROM (SELECT * FROM events ORDER BY kafka_offset)");
    let pseudonym = key.pseudonym("u1@example.com").unwrap();
    assert_eq!(recipients, ["u0@example.com", &pseudonym, "u2@example.com"]);
    let raw: String =
        stack.database.one(&format!("SELECT raw FROM events WHERE recipient = '{pseudonym}'"));
    assert_eq!(raw, "{}");
    let lives: u64 =
        stack.database.one("SELECT count() FROM message_life WHERE recipient = 'u1@example.com'");
    assert_eq!(lives, 0);
    let value: String = stack.database.one("SELECT value FROM dead_letters");
    assert_eq!(value, format!("to {pseudonym}"));

    // The key tells whose unreadable record it is.
    stack.produce(&[Outgoing::new(topic, "u1@example.com", "no event of Ada").on(0)], 1);
    let dead = stack.cluster.reader(&[&stack.cluster.topics.dead_letters]).records(2);
    let dead: Vec<_> = dead.iter().filter(|it| it.header("stage") == Some(b"archive")).collect();
    assert_eq!(dead.len(), 1);
    assert_eq!((&*dead[0].key, &dead[0].value), (pseudonym.as_bytes(), &Some(Vec::new())));

    stack.cluster.produce(&[tombstone(&stack, &key, "u2@example.com")]);
    archive.await_metric("mailpulse_erasure_recipients", &[], |recipients| recipients == 2.0);
    stack.produce(&[record(topic, 0, &event(2), &[])], 1);
    stack.database.await_count("events", 4);
    let named: u64 =
        stack.database.one("SELECT count() FROM events WHERE recipient = 'u2@example.com'");
    assert_eq!(named, 1, "only the row from before");
}

#[test]
fn an_action_of_an_erased_recipient_and_one_that_names_her() {
    let stack = Stack::new();
    let key = ErasureKey::new(KEY.as_bytes()).unwrap();
    stack.cluster.produce(&[tombstone(&stack, &key, "ada@example.com")]);
    let mut of_ada = crate::actions::full();
    assert_eq!(of_ada.subject.recipient(), Some("ada@example.com"));
    crate::actions::event_of(&mut of_ada).message_id = Some("ref=ada@example.com".to_owned());
    let mut of_bob = of_ada.clone();
    crate::actions::event_of(&mut of_bob).recipient = "bob@example.com".to_owned();
    crate::actions::event_of(&mut of_bob).campaign = Some("for Ada@Example.com".to_owned());
    crate::actions::event_of(&mut of_bob).message_id = Some("<m-1@example.com>".to_owned());
    let actions = [&of_ada, &of_bob].map(|action| crate::actions::record(&stack, action));
    let unreadable =
        Outgoing::new(&stack.cluster.topics.actions, "ada@example.com", "no action of Ada").on(0);
    stack.produce(&[&actions[..], &[unreadable]].concat(), 3);
    let archive = launch(&stack, KEY).start();
    stack.database.await_count("actions", 2);
    let rows: Vec<(String, String, String)> = stack.database.one(
        "SELECT groupArray((recipient, campaign, message_id)) FROM (SELECT * FROM actions ORDER BY kafka_offset)",
    );
    let pseudonym = key.pseudonym("ada@example.com").unwrap();
    let campaign = of_ada.subject.campaign().unwrap().to_owned();
    let in_a_text = format!("for {}", pseudonym.replace("@example", "@Example"));
    let expected = [
        (pseudonym.clone(), campaign, format!("ref={pseudonym}")),
        ("bob@example.com".to_owned(), in_a_text, "<m-1@example.com>".to_owned()),
    ];
    assert_eq!(rows, expected);
    stack.database.await_count("dead_letters", 1);
    let dead: (String, String) = stack.database.one("SELECT key, value FROM dead_letters");
    assert_eq!(dead, (pseudonym, String::new()));
    archive.await_ready();
}

#[test]
fn archive_does_not_start_without_the_key_of_the_tombstones() {
    let stack = Stack::new();
    let key = ErasureKey::new(KEY.as_bytes()).unwrap();
    stack.cluster.produce(&[tombstone(&stack, &key, "u1@example.com")]);
    for (configured, expected) in
        [("", "privacy.erasure_key is not set"), ("another key of the tests", "with another key")]
    {
        let (status, log) = launch(&stack, configured).run();
        assert!(!status.success() && log.contains(expected), "{log}");
    }
}
