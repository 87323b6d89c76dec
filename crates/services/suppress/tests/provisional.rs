//! Hard bounces at a mailbox provider are provisional while an incident about them is open.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;

use common::{Member, START, Setup, digest};
use event::Kind;
use harness::{DEADLINE, Outgoing, eventually};
use serde_json::{Value, json};
use suppression::{Author, EntryKey, EntryValue, Reason, State};

const HARD: (&str, &str) = ("hard", "recipient");
/// When the incidents begin, seconds after [`START`].
const OPENED: i64 = 100;

/// Returns a record of an incident of the source `ses/news`, whose hard bounces Gmail causes.
fn incident(setup: &Setup, name: char, state: &str, more: &Value) -> Outgoing {
    let (id, at) = (name.to_string().repeat(32), (START + OPENED) * 1_000_000);
    let gmail = json!({
        "scope": "mailbox_provider", "provider": "ses", "source": "news", "mailbox_provider": "gmail",
    });
    let mut value = json!({
        "id": id, "seq": 1, "page": 1, "change": "updated", "state": state, "severity": "page", "family": "bounces",
        "group": "source", "of": "ses/news", "opened_at": at, "at": at, "episodes": 1, "open_episodes": 1,
        "opened_by": "e".repeat(32),
        "cause": {
            "scope": gmail, "share": 0.9, "numerator": 9, "volume": 10, "rest_numerator": 0, "rest_volume": 90,
        },
        "lead": {
            "episode_id": "e".repeat(32), "rule": "hard_bounces", "scope": "source", "provider": "ses", "source": "news",
            "severity": "page", "state": "firing", "metric": "hard_bounce", "width": "5m", "value": 0.2, "threshold": 0.1,
            "numerator": 200, "volume": 1000, "started_at": at, "at": at, "runbook": "r", "summary": "s",
            "family": "bounces", "basis": "arrival", "seq": 1, "from": at, "to": at, "as_of": {},
        },
    });
    value.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    Outgoing::new(&setup.cluster.topics.incidents, id, value.to_string())
}

/// Returns a hard bounce at another mailbox provider.
fn at_yahoo(setup: &Setup, recipient: &str, at: i64) -> Outgoing {
    let bounce = json!({"mailbox_provider": "yahoo", "bounce": {
        "permanence": "hard", "class": "invalid_recipient", "side": "recipient", "status": "5.1.1",
    }});
    setup.event(Kind::Bounced, recipient, at, &bounce)
}

/// Returns whether the only entry of an address is provisional. `None`: there is none.
fn is_provisional(member: &Member, address: &str) -> Option<bool> {
    let answer = member.get(&format!("/suppressions/{address}"));
    let entries = answer["entries"].as_array().unwrap();
    assert!(entries.len() <= 1, "{answer}");
    assert_eq!(answer["suppressed"], !entries.is_empty(), "{answer}");
    Some(entries.first()?["provisional"] == true)
}

fn await_provisional(member: &Member, address: &str, expected: bool) {
    eventually(&format!("{address} to be provisional: {expected}"), DEADLINE, || {
        let found = is_provisional(member, address);
        if found == Some(expected) { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

/// Waits until all members know an incident: hard bounces at Gmail wait for it in every partition.
fn await_known(setup: &Setup, name: char) {
    let mut round = 0;
    eventually(&format!("incident {name} to be known"), DEADLINE, || {
        round += 1;
        let probe = |number: u32| format!("probe{name}{round}-{number}@x.com");
        let bounces: Vec<_> =
            (0..20).map(|number| setup.bounce(&probe(number), OPENED + 1, HARD)).collect();
        setup.process(&bounces);
        let of: BTreeMap<_, _> = (0..20).map(|number| (digest(&probe(number)), number)).collect();
        let values = setup.cluster.read_settled(&setup.cluster.topics.suppressions);
        let values = values.iter().map(harness::Record::json);
        let waiting = values.filter(|it| {
            of.contains_key(it["recipient"].as_str().unwrap_or_default())
                && it["incident"] == *name.to_string().repeat(32)
        });
        let waiting = waiting.count();
        if waiting == 20 { Ok(()) } else { Err(waiting.to_string()) }
    });
}

/// Returns the values that were written about an address, in their order.
fn written(setup: &Setup, address: &str) -> Vec<Value> {
    let part = format!("|{}|", digest(address));
    let records = setup.cluster.read_settled(&setup.cluster.topics.suppressions);
    let of = records.iter().filter(|it| String::from_utf8_lossy(&it.key).contains(&part));
    of.map(harness::Record::json).collect()
}

#[test]
fn entries_are_provisional_until_the_incident_is_over() {
    let setup = Setup::new("suppress-provisional");
    let mut member = setup.start("one", "");
    setup.process(&[setup.bounce("old@x.com", 50, HARD)]);
    await_provisional(&member, "old@x.com", false);
    let (_, cursor) = member.follow("", 100);

    setup.cluster.produce(&[incident(&setup, 'a', "open", &json!({}))]);
    await_known(&setup, 'a');
    setup.process(&[
        setup.bounce("ada@x.com", OPENED + 10, HARD),
        setup.bounce("late@x.com", OPENED - 10, HARD),
        setup.bounce("old@x.com", OPENED + 10, HARD),
        at_yahoo(&setup, "eve@x.com", OPENED + 10),
        setup.event(Kind::Complained, "cal@x.com", OPENED + 10, &json!({})),
    ]);
    await_provisional(&member, "ada@x.com", true);
    for (address, why) in [
        ("late@x.com", "it bounced before the incident began"),
        ("old@x.com", "it had bounced before"),
        ("eve@x.com", "another mailbox provider"),
        ("cal@x.com", "a complaint is no answer of the mailbox provider"),
    ] {
        member.await_reasons(
            address,
            "",
            &[if address == "cal@x.com" { "complaint" } else { "hard_bounce" }],
        );
        assert_eq!(is_provisional(&member, address), Some(false), "{why}");
    }
    let of_ada = |changes: &[Value]| -> Vec<Value> {
        let ada = digest("ada@x.com");
        changes.iter().filter(|it| it["recipient"] == *ada).cloned().collect()
    };
    let (changes, cursor) = member.follow(&cursor, 100);
    assert_eq!(of_ada(&changes)[0]["provisional"], true, "the feed tells it: {changes:?}");

    // What is provisional survives, and so does the end of an incident meanwhile.
    member.service.kill();
    member.service.respawn();
    member.service.await_ready();
    await_provisional(&member, "ada@x.com", true);
    setup.process(&[setup.bounce("bob@x.com", OPENED + 20, HARD)]);
    await_provisional(&member, "bob@x.com", true);
    let joined = json!({"merged_into": "b".repeat(32)});
    let common = json!({"group": "mailbox_provider", "of": "gmail"});
    setup.cluster.produce(&[
        incident(&setup, 'b', "open", &common),
        incident(&setup, 'a', "resolved", &joined),
    ]);
    await_known(&setup, 'b');
    assert_eq!(is_provisional(&member, "ada@x.com"), Some(true), "the other incident is open");
    member.service.kill();
    setup.cluster.produce(&[incident(&setup, 'b', "resolved", &common)]);
    member.service.respawn();
    member.service.await_ready();
    for address in ["ada@x.com", "bob@x.com"] {
        await_provisional(&member, address, false);
    }
    let (changes, _) = member.follow(&cursor, 100);
    let changes = of_ada(&changes);
    assert_eq!((changes.len(), &changes[0]["provisional"]), (1, &Value::Null), "{changes:?}");
    let of_ada = written(&setup, "ada@x.com");
    let [first, last] = &of_ada[..] else { panic!("{of_ada:?}") };
    let mut is_final = first.clone();
    assert_eq!(is_final.as_object_mut().unwrap().remove("provisional"), Some(json!(true)));
    assert_eq!(is_final, *last, "nothing else has changed");
    assert_eq!(last["incident"], "a".repeat(32));
    assert!(last["wording"].as_str().unwrap().contains("no such user"), "{last}");

    setup.process(&[
        setup.bounce("new@x.com", OPENED + 30, HARD),
        setup.bounce("ada@x.com", OPENED + 30, HARD),
    ]);
    await_provisional(&member, "new@x.com", false);
    assert_eq!(newest(&setup, "new@x.com").get("incident"), None);
    let of_ada = newest(&setup, "ada@x.com");
    assert_eq!(of_ada["since"], (START + OPENED + 30) * 1_000_000);
    assert_eq!(of_ada["incident"], "a".repeat(32), "it can still be lifted with the others");
    assert_eq!(of_ada.get("provisional"), None, "{of_ada}");
}

/// Returns the newest value about an address.
fn newest(setup: &Setup, address: &str) -> Value {
    written(setup, address).pop().unwrap()
}

#[test]
fn late_bounces_and_those_after_a_lift_have_the_id_of_their_incident() {
    let setup = Setup::new("suppress-provisional-id");
    let member = setup.start("one", "");
    // `suppress` reads the bounces of the incident after its end.
    let end = json!({"at": (START + OPENED + 100) * 1_000_000});
    setup.cluster.produce(&[incident(&setup, 'a', "resolved", &end)]);
    await_known(&setup, 'a');
    setup.process(&[
        setup.bounce("ada@x.com", OPENED + 100, HARD),
        setup.bounce("bob@x.com", OPENED + 101, HARD),
    ]);
    let of_ada = newest(&setup, "ada@x.com");
    assert_eq!(of_ada["incident"], "a".repeat(32), "{of_ada}");
    assert_eq!(of_ada.get("provisional"), None, "{of_ada}");
    assert_eq!(newest(&setup, "bob@x.com").get("incident"), None);

    // An operator lifts the entry, and the address bounces during the next incident.
    let text = of_ada["recipient"].as_str().unwrap();
    let key = EntryKey {
        list: "ses/news".into(),
        recipient: text.parse().unwrap(),
        reason: Reason::HardBounce,
        scope: "".into(),
        author: Author::Lift,
    };
    let lift = EntryValue::new(&key, State::Lifted, (START + OPENED + 150) * 1_000_000);
    let topic = &setup.cluster.topics.suppressions;
    let lift = Outgoing::new(topic, key.to_string(), serde_json::to_vec(&lift).unwrap());
    let next = json!({"opened_at": (START + OPENED + 200) * 1_000_000});
    setup.cluster.produce(&[lift, incident(&setup, 'b', "open", &next)]);
    member.await_reasons("ada@x.com", "", &[]);
    let mut at = OPENED + 200;
    eventually("incident b to be known", DEADLINE, || {
        at += 1;
        let probe = format!("probe-{at}@x.com");
        setup.process(&[setup.bounce(&probe, at, HARD)]);
        let found = newest(&setup, &probe);
        if found["incident"] == "b".repeat(32) { Ok(()) } else { Err(found.to_string()) }
    });
    setup.process(&[setup.bounce("ada@x.com", at, HARD), setup.bounce("bob@x.com", at, HARD)]);
    await_provisional(&member, "ada@x.com", true);
    assert_eq!(newest(&setup, "ada@x.com")["incident"], "b".repeat(32));
    let of_bob = newest(&setup, "bob@x.com");
    assert_eq!(of_bob.get("incident"), None, "it had bounced before: {of_bob}");
}

#[test]
fn members_that_are_killed_make_every_entry_final_once() {
    let setup = Setup::new("suppress-provisional-kill");
    let small = "batch_records = 50\nbatch_wait = \"5ms\"";
    let mut one = setup.start("one", small);
    let mut two = setup.start("two", small);
    setup.cluster.produce(&[incident(&setup, 'a', "open", &json!({}))]);
    await_known(&setup, 'a');
    let (group, topic) = (setup.cluster.topics.group("suppress"), &setup.cluster.topics.events);
    let before = setup.cluster.committed_sum(&group, topic);
    let who = |number: i64| format!("r{number}@x.com");
    let bounces: Vec<_> =
        (0..3_000).map(|number| setup.bounce(&who(number), OPENED + number, HARD)).collect();
    setup.cluster.produce(&bounces);
    setup.cluster.await_committed(&group, topic, before + 300);
    one.service.kill();
    one.service.respawn();
    setup.await_processed();
    // One is killed while entries become final.
    setup.cluster.produce(&[incident(&setup, 'a', "resolved", &json!({}))]);
    let count = |is_provisional: bool| {
        let records = setup.cluster.read_settled(&setup.cluster.topics.suppressions);
        let values = records.iter().map(harness::Record::json);
        let of_incident = values.filter(|it| it.get("incident").is_some());
        of_incident.filter(|it| (it["provisional"] == true) == is_provisional).count()
    };
    two.service.kill();
    two.service.respawn();
    eventually("all entries to be final", DEADLINE, || {
        let counts = (count(true), count(false));
        if counts.0 == counts.1 { Ok(()) } else { Err(format!("{counts:?}")) }
    });
    let mut by_key: BTreeMap<Vec<u8>, Vec<bool>> = BTreeMap::new();
    for record in setup.cluster.read_settled(&setup.cluster.topics.suppressions) {
        let value = record.json();
        let is_provisional = value["provisional"] == true;
        // Probes may be final from the beginning.
        if value.get("incident").is_some() {
            by_key.entry(record.key.clone()).or_default().push(is_provisional);
        }
    }
    assert!(by_key.len() >= 3_000, "{}", by_key.len());
    for (key, records) in by_key {
        assert_eq!(records, [true, false], "{}", String::from_utf8_lossy(&key));
    }
    for member in [&one, &two] {
        for number in (0..3_000).step_by(97) {
            await_provisional(member, &who(number), false);
        }
    }
}
