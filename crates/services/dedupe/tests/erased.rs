//! Events that were enriched before their recipient was erased are passed on without the recipient, and count for
//! what they would have counted for.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;

use common::{Cluster, id, would_count};
use event::{AutomationReason, CounterSet, Event, Kind, Provider};
use harness::{Launch, Outgoing, Record, eventually, records};
use privacy::{Eraser, ErasureKey};
use record::{ForDedupe, names};

const KEY: &str = "a key of the tests alone";
const ADA: &str = "ada@example.com";
const BOB: &str = "bob@example.com";
const EVE: &str = "eve@example.org";
const SECOND: i64 = 1_000_000;
const START: i64 = 1_780_000_000 * SECOND;

fn member(cluster: &Cluster, key: &str) -> Launch {
    cluster.member("", "").config(&format!("[privacy]\nerasure_key = {key:?}\n"))
}

fn erase(cluster: &Cluster) {
    let key = ErasureKey::new(KEY.as_bytes()).unwrap();
    let value = format!(r#"{{"key_id":"{}","at":1}}"#, key.id());
    cluster.produce(&[Outgoing::new(&cluster.topics.erased, key.digest(ADA).to_string(), value)]);
}

/// Returns an event as enrich published it before the erasure. Of each recipient it is the `number`th, and `others`
/// are named in it.
fn enriched(
    cluster: &Cluster,
    (kind, number): (Kind, u64),
    recipient: &str,
    others: &str,
) -> Outgoing {
    let headers = records::Enriched {
        provider: Provider::Ses,
        id: id(number * 100 + recipient.len() as u64 + recipient.as_bytes()[0] as u64 * 1000),
        kind,
        occurred_at: START + number.cast_signed() * SECOND / 10,
        engagement: Some(id(recipient.as_bytes()[0].into())),
        link: None,
    };
    let (event_id, at) = (headers.id, headers.occurred_at);
    // `later` is a field of a later release. Only an event that is written again loses it.
    let value = format!(
        r#"{{"later":1,"event_id":"{event_id}","kind":"{kind}","provider":"ses","source":"acme","occurred_at":{at},"received_at":{at},"recipient":"{recipient}","recipient_domain":"example.com","user_agent":"agent","ip":"192.0.2.1","url":"https://example.com/?e={recipient}","provider_event":"x","request_id":"r","raw":{{"to":["{recipient}","{others}"]}}}}"#
    );
    let for_dedupe = ForDedupe {
        would_count: CounterSet::from_names(would_count(kind)),
        ..ForDedupe::default()
    };
    records::enriched(&cluster.topics, recipient, value, &headers)
        .header(names::FOR_DEDUPE, for_dedupe.write(&mut [0; ForDedupe::MAX_BYTES]))
        .header(names::SOURCE, "acme")
}

/// Publishes events of the erased recipient, of one whose events name her, and of one whose do not. The click comes so
/// soon after the delivery that it is a machine's.
fn publish(cluster: &Cluster) {
    let event = |kind, recipient, others| enriched(cluster, kind, recipient, others);
    let unreadable = |number, recipient| {
        let event = enriched(cluster, (Kind::Bounced, number), recipient, "");
        Outgoing { value: format!("no event of {ADA}").into_bytes(), ..event }
    };
    cluster.produce(&[
        event((Kind::Delivered, 1), ADA, BOB),
        event((Kind::Delivered, 1), BOB, ADA),
        event((Kind::Delivered, 1), EVE, "x"),
        event((Kind::Clicked, 2), ADA, BOB),
        event((Kind::Clicked, 2), EVE, "x"),
        unreadable(3, ADA),
        unreadable(3, BOB),
        Outgoing::new(&cluster.topics.enriched, ADA, format!("bare, to {ADA}")),
        Outgoing::new(&cluster.topics.enriched, BOB, format!("bare, to {ADA}")),
    ]);
}

/// Runs dedupe over the events, and returns what it passes on and its dead letters. Another run over the same events
/// follows.
fn outputs(cluster: &Cluster) -> (Vec<Record>, Vec<Record>) {
    let mut member = member(cluster, KEY).start();
    cluster.await_all_processed();
    publish(cluster);
    cluster.await_all_processed();
    member.stop();
    let read = |topic: &str| cluster.read_settled(topic);
    (read(&cluster.topics.events), read(&cluster.topics.dead_letters))
}

#[test]
fn events_from_before_the_erasure_name_nobody_and_count_as_before() {
    let (before, after) = (Cluster::new(), Cluster::new());
    publish(&before);
    publish(&after);
    erase(&after);
    let ((originals, original_dead), (passed, dead)) = (outputs(&before), outputs(&after));
    assert_eq!((passed.len(), dead.len()), (7, 4), "a second run doubles no event");
    assert_eq!((originals.len(), original_dead.len()), (7, 4));
    let pseudonym = ErasureKey::new(KEY.as_bytes()).unwrap().pseudonym(ADA).unwrap();
    for (original, passed) in originals.iter().zip(&passed) {
        assert_eq!(passed.partition, original.partition);
        assert_eq!(passed.headers, original.headers, "identity and counts stay");
        assert!(!String::from_utf8_lossy(passed.value()).contains("ada@"), "{passed:?}");
        let key = if original.key == ADA.as_bytes() {
            &pseudonym
        } else {
            std::str::from_utf8(&original.key).unwrap()
        };
        assert_eq!(passed.key, key.as_bytes());
        if original.key == EVE.as_bytes() {
            assert_eq!(passed.value, original.value, "not a byte is different");
        }
    }
    let event = |kind: Kind, key: &str| -> Event<'_> {
        let is = |record: &&Record| {
            record.key == key.as_bytes()
                && record.header(names::KIND) == Some(kind.as_str().as_bytes())
        };
        serde_json::from_slice(passed.iter().find(is).unwrap().value()).unwrap()
    };
    let clicked = event(Kind::Clicked, &pseudonym);
    assert_eq!(clicked.automation.unwrap().reason, AutomationReason::Immediate);
    assert_eq!((clicked.recipient.as_deref(), clicked.raw.get()), (Some(&*pseudonym), "{}"));
    assert_eq!((&clicked.ip, clicked.url.as_deref()), (&None, Some("https://example.com/")));
    let delivered = event(Kind::Delivered, BOB);
    assert_eq!(delivered.raw.get(), format!(r#"{{"to":["{BOB}","{pseudonym}"]}}"#));
    let unreadable = |key: &str| {
        let is =
            |it: &&Record| it.key == key.as_bytes() && it.header(names::KIND) == Some(b"bounced");
        passed.iter().find(is).unwrap().text().to_owned()
    };
    assert_eq!(unreadable(&pseudonym), "{}");
    assert_eq!(unreadable(BOB), format!("no event of {pseudonym}"));
    for dead in &dead {
        match &dead.value {
            None => assert_eq!(dead.key, pseudonym.as_bytes()),
            Some(value) => {
                let expected = format!("bare, to {pseudonym}");
                assert_eq!((&*dead.key, &**value), (BOB.as_bytes(), expected.as_bytes()));
            }
        }
    }
    assert!(original_dead.iter().all(|dead| dead.text() == format!("bare, to {ADA}")));
}

#[test]
fn events_are_read_only_if_enrich_did_not_know_the_same_erased_recipients() {
    let cluster = Cluster::new();
    erase(&cluster);
    let fingerprint = |addresses: &[&str]| {
        let key = ErasureKey::new(KEY.as_bytes()).unwrap();
        let digests = addresses.iter().map(|address| key.digest(address)).collect();
        Eraser::new(key, Arc::new(digests)).fingerprint().unwrap()
    };
    let event = |number, erased: &[&str]| {
        let event = enriched(&cluster, (Kind::Clicked, number), EVE, ADA);
        event.header(names::ERASED, fingerprint(erased))
    };
    let _member = member(&cluster, KEY).start();
    cluster.produce(&[event(1, &[ADA]), event(2, &[BOB]), event(3, &[ADA, BOB])]);
    cluster.await_all_processed();
    let passed = cluster.read_settled(&cluster.topics.events);
    // No real event with the first header names her. That this one still does, shows that it was not read.
    let named: Vec<_> = passed.iter().map(|event| event.text().contains(ADA)).collect();
    assert_eq!(named, [true, false, false]);
}

#[test]
fn a_recipient_who_is_erased_while_dedupe_runs() {
    let cluster = Cluster::new();
    let member = member(&cluster, KEY).start();
    cluster.produce(&[enriched(&cluster, (Kind::Delivered, 1), ADA, "")]);
    cluster.await_all_processed();
    erase(&cluster);
    member.await_metric("mailpulse_erasure_recipients", &[], |recipients| recipients == 1.0);
    cluster.produce(&[enriched(&cluster, (Kind::Bounced, 2), ADA, "")]);
    let named = || {
        let events = cluster.read_settled(&cluster.topics.events);
        let named: Vec<_> = events.iter().map(|it| it.key == ADA.as_bytes()).collect();
        if named.len() == 2 { Ok(named) } else { Err(format!("{} events", named.len())) }
    };
    assert_eq!(eventually("both events", harness::DEADLINE, named), [true, false]);
}

#[test]
fn dedupe_does_not_start_without_the_key_of_the_tombstones() {
    let cluster = Cluster::new();
    erase(&cluster);
    for (configured, expected) in
        [("", "privacy.erasure_key is not set"), ("another key of the tests", "with another key")]
    {
        let (status, log) = member(&cluster, configured).run();
        assert!(!status.success() && log.contains(expected), "{log}");
    }
}
