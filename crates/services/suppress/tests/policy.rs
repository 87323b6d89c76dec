//! The policy on a real Kafka, from events to answers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{DAY, KEY, READER, START, Setup, digest};
use event::Kind;
use harness::{DEADLINE, Outgoing, eventually, seen};
use privacy::ErasureKey;
use record::names;
use serde_json::json;
use suppression::list::MAX_SCOPES;

const HARD: (&str, &str) = ("hard", "recipient");
const SOFT: (&str, &str) = ("soft", "recipient");
const NEWS: &str = "?list=ses/news";

#[test]
fn what_recipients_do_decides_who_is_mailed() {
    let setup = Setup::new("suppress-policy");
    let member =
        setup.start("", "[[suppress.purpose]]\nscope = \"receipts\"\npurpose = \"transactional\"");
    let event = |kind, who: &str, at, more| setup.event(kind, who, at, &more);
    let soft = |who: &str, day: i64| setup.bounce(who, day * DAY, SOFT);
    let mut events = vec![
        setup.bounce("hard@x.com", 1, HARD),
        setup.bounce("sender@x.com", 1, ("hard", "sender")),
        setup.bounce("network@x.com", 1, ("hard", "network")),
        event(Kind::Complained, "complained@x.com", 1, json!({})),
        event(Kind::Complained, "forged@x.com", 1, json!({"authentic": false}))
            .header(names::UNAUTHENTIC, ""),
        event(Kind::Unsubscribed, "left@x.com", 1, json!({"stream": "weekly"})),
        event(Kind::Unsubscribed, "receipts@x.com", 1, json!({"stream": "receipts"})),
        event(Kind::Unsubscribed, "back@x.com", 1, json!({})),
        event(Kind::Subscribed, "back@x.com", 2, json!({})),
        event(Kind::Subscribed, "late@x.com", 5, json!({})),
        event(Kind::Unsubscribed, "late@x.com", 4, json!({})),
        setup.bounce("both@x.com", 1, HARD),
        event(Kind::Complained, "both@x.com", 2, json!({})),
    ];
    for day in 1..=5 {
        events.push(soft("full@x.com", day));
        events.push(soft("works@x.com", day));
        events.push(soft("robot@x.com", day));
        events.push(soft("slow@x.com", day * 10));
        if day < 5 {
            events.push(soft("almost@x.com", day));
            events.push(soft("again@x.com", day));
        }
    }
    // The fifth was read before, or may have been.
    events.push(soft("almost@x.com", 5).header(names::UNJUDGED, ""));
    events.push(soft("almost@x.com", 5).header(names::REDRIVEN, "monitor-fold"));
    events.push(soft("again@x.com", 5).header(names::REDRIVEN, "suppress"));
    events.push(setup.bounce("old@x.com", 1, HARD).header(names::UNJUDGED, ""));
    events.push(event(Kind::Opened, "works@x.com", 6 * DAY, json!({})));
    let machine = json!({"automation": {"reason": "proxy", "confidence": 0.9}});
    events.push(event(Kind::Opened, "robot@x.com", 6 * DAY, machine));
    setup.process(&events);

    for (who, expected) in [
        ("hard@x.com", &["hard_bounce"][..]),
        ("HARD@X.com", &["hard_bounce"]),
        ("sender@x.com", &[]),
        ("network@x.com", &[]),
        ("complained@x.com", &["complaint"]),
        ("forged@x.com", &[]),
        ("left@x.com", &["unsubscribe"]),
        ("receipts@x.com", &[]),
        ("back@x.com", &[]),
        ("late@x.com", &[]),
        ("both@x.com", &["hard_bounce", "complaint"]),
        ("almost@x.com", &[]),
        ("old@x.com", &["hard_bounce"]),
        ("slow@x.com", &[]),
        ("nobody@x.com", &[]),
    ] {
        member.await_reasons(who, NEWS, expected);
    }
    // Whether these still count depends on the present: they end 90 days after the fifth.
    let (since, expires) = (Some(START + 5 * DAY), Some(START + 95 * DAY));
    for (who, expected) in [
        ("full@x.com", (json!("soft_bounces"), since, expires)),
        ("again@x.com", (json!("soft_bounces"), since, expires)),
        ("robot@x.com", (json!("soft_bounces"), since, expires)),
        ("works@x.com", (json!("soft_bounces"), Some(START + 6 * DAY), None)),
    ] {
        eventually(&format!("the entry of {who}"), DEADLINE, || {
            let answer = member.get(&format!("/suppressions/{who}{NEWS}"));
            let entry = &answer["entries"][0];
            let at = |name: &str| entry[name].as_i64();
            seen((entry["reason"].clone(), at("since"), at("expires_at")), |it| *it == expected)
        });
    }

    let receipts = "?list=ses/news&purpose=transactional";
    member.await_reasons("left@x.com", receipts, &[]);
    member.await_reasons("receipts@x.com", receipts, &["unsubscribe"]);
    member.await_reasons("hard@x.com", receipts, &["hard_bounce"]);
    member.await_reasons("left@x.com", "?list=ses/news&scope=daily", &[]);
    member.await_reasons("hard@x.com", "?list=ses/other", &[]);
    member.await_reasons("hard@x.com", "", &["hard_bounce"]);

    let records = setup.cluster.read_settled(&setup.cluster.topics.suppressions);
    let hard = records.iter().find(|it| it.text().contains("hard_bounce")).unwrap();
    let key = format!("ses/news|{}|hard_bounce||event", digest("hard@x.com"));
    assert_eq!(std::str::from_utf8(&hard.key).unwrap(), key);
    let value = hard.json();
    assert_eq!(value["wording"], "550 5.1.1 <address>: no such user");
    assert_eq!((&value["status"], &value["mailbox_provider"]), (&json!("5.1.1"), &json!("gmail")));
    assert_eq!(value["event_id"].as_str().unwrap().len(), 32);
    let named = records.iter().filter(|it| it.text().contains("x.com")).count();
    assert_eq!(named, 0, "no record has an address");
}

#[test]
fn entries_end_and_lifts_are_forgotten_as_time_passes() {
    let setup = Setup::new("suppress-time");
    let member = setup.start("", "");
    let mut events: Vec<_> =
        (1..=5).map(|day| setup.bounce("full@x.com", day * DAY, SOFT)).collect();
    events.push(setup.bounce("once@x.com", DAY, SOFT));
    events.push(setup.event(Kind::Subscribed, "back@x.com", 0, &json!({})));
    setup.process(&events);
    assert_eq!(setup.replay().len(), 2);
    setup.process(&setup.time(30 * DAY - 1));
    assert_eq!(setup.replay().len(), 2);
    setup.process(&setup.time(30 * DAY));
    assert_eq!(setup.replay().len(), 1, "the lift of 30 days ago is forgotten");
    setup.process(&setup.time(95 * DAY));
    let replay = setup.replay();
    let (_, (state, since)) = replay.iter().next().unwrap();
    assert_eq!((state.as_str(), *since), ("Lifted", START + 95 * DAY));
    let changelog = setup.cluster.read_settled(&setup.cluster.topics.suppress_changelog);
    let mut once =
        changelog.iter().filter(|it| it.key.starts_with(digest("once@x.com").as_bytes()));
    assert_eq!(once.next_back().unwrap().value, None, "its soft bounces are too old");
    setup.process(&setup.time(125 * DAY));
    assert!(setup.replay().is_empty());
    assert!(member.reasons("full@x.com", NEWS).is_empty());
}

#[test]
fn beyond_a_thousand_scopes_of_a_list_an_unsubscription_stops_all_mail() {
    let setup = Setup::new("suppress-scopes");
    let member = setup.start("", "");
    let event =
        |kind, who: &str, at, scope: &str| setup.event(kind, who, at, &json!({ "stream": scope }));
    let leave = |number: usize| {
        event(Kind::Unsubscribed, &format!("r{number}@x.com"), 1, &format!("s{number}"))
    };
    setup.process(&(0..MAX_SCOPES).map(leave).collect::<Vec<_>>());
    setup.process(&[
        event(Kind::Unsubscribed, "known@x.com", 1, "s7"),
        event(Kind::Unsubscribed, "new@x.com", 1, "new"),
        event(Kind::Subscribed, "new@x.com", 2, "other"),
    ]);
    let transactional = "?list=ses/news&purpose=transactional&scope=s8";
    member.await_reasons("new@x.com", "?list=ses/news&scope=s8", &["unsubscribe"]);
    member.await_reasons("new@x.com", transactional, &["unsubscribe"]);
    member.await_reasons("known@x.com", "?list=ses/news&scope=s7", &["unsubscribe"]);
    member.await_reasons("known@x.com", "?list=ses/news&scope=s8", &[]);
    member.await_reasons("known@x.com", "?list=ses/news&purpose=transactional&scope=s7", &[]);
    let replay = setup.replay();
    assert_eq!(replay.len(), MAX_SCOPES + 2);
    assert!(replay.contains_key(&format!("ses/news|{}|Unsubscribe||Event", digest("new@x.com"))));
}

#[test]
fn an_erased_recipient_stays_blocked_and_is_blocked_by_what_happens_later() {
    let setup = Setup::new("suppress-erased");
    let member = setup.start("", "");
    setup.process(&[setup.bounce("ada@x.com", 1, HARD)]);
    member.await_reasons("ada@x.com", NEWS, &["hard_bounce"]);
    let key = ErasureKey::new(KEY.as_bytes()).unwrap();
    let tombstone = format!(r#"{{"key_id":"{}","at":1}}"#, key.id());
    for who in ["ada@x.com", "bob@x.com"] {
        let erased = &setup.cluster.topics.erased;
        setup.cluster.produce(&[Outgoing::new(erased, key.digest(who).to_string(), &tombstone)]);
    }
    member.service.await_metric("mailpulse_erasure_recipients", &[], |known| known == 2.0);
    // Both events were published after the erasure.
    let pseudonym = |who| key.pseudonym(who).unwrap();
    setup.process(&[
        setup.event(Kind::Complained, &pseudonym("ada@x.com"), 2, &json!({})),
        setup.event(Kind::Complained, &pseudonym("bob@x.com"), 2, &json!({})),
    ]);
    member.await_reasons("ada@x.com", NEWS, &["hard_bounce", "complaint"]);
    member.await_reasons("bob@x.com", NEWS, &["complaint"]);
    // A member that starts now knows the same.
    let other = setup.start("other", "");
    other.await_reasons("bob@x.com", NEWS, &["complaint"]);
}

#[test]
fn records_that_cannot_be_read_become_dead_letters() {
    let setup = Setup::new("suppress-dead");
    let member = setup.start("", "");
    let mut broken = setup.bounce("ada@x.com", 1, HARD);
    broken.value = b"{\"kind\":".to_vec();
    let bare = Outgoing::new(&setup.cluster.topics.events, "bob@x.com", "{}");
    setup.process(&[broken, bare, setup.bounce("eve@x.com", 1, HARD)]);
    let dead = setup.cluster.read_settled(&setup.cluster.topics.dead_letters);
    let header = |name| {
        let values =
            dead.iter().map(|it| String::from_utf8(it.header(name).unwrap().to_vec()).unwrap());
        let mut values: Vec<_> = values.collect();
        values.sort();
        values
    };
    assert_eq!(header(names::REASON), ["bad_headers", "not_json"]);
    assert_eq!(header(names::STAGE), ["suppress", "suppress"]);
    member.await_reasons("eve@x.com", NEWS, &["hard_bounce"]);
    assert_eq!(member.send("GET", "/suppressions/eve@x.com", READER, "").status, 200);
}

#[test]
fn suppress_does_not_start_without_the_key() {
    let setup = Setup::new("suppress-key");
    let (launch, _) = setup.launch("", "");
    let (status, log) = launch.env("MAILPULSE__PRIVACY__ERASURE_KEY", "").run();
    assert!(!status.success() && log.contains("privacy.erasure_key"), "{log}");
}
