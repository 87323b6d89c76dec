//! Events of an erased recipient are published with a pseudonym, under the same id and in the same partition.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;

use common::Stage;
use event::{Event, Kind, Provider};
use harness::{Outgoing, Record, records};
use privacy::{Eraser, ErasureKey};
use record::names;

const KEY: &str = "a key of the tests alone";
const SETTINGS: &str = "[privacy]\nerasure_key = \"a key of the tests alone\"\n";
const ADA: &str = "ada@example.com";
const SOURCE: (Provider, &str) = (Provider::SendGrid, "acme");

/// Returns what SendGrid posts about a recipient, with the address of somebody else in it.
fn clicked(recipient: &str, other: &str) -> String {
    format!(
        r#"{{"email":"{recipient}","event":"click","timestamp":1799999990,"sg_event_id":"e{}","sg_message_id":"m1","url":"https://example.com/?e={recipient}","useragent":"agent","ip":"192.0.2.1","cc":["{other}"]}}"#,
        recipient.len(),
    )
}

fn publish(stage: &Stage) {
    stage.publish(SOURCE, Kind::Clicked, ADA, clicked(ADA, "bob@example.com").as_bytes());
    stage.publish(
        SOURCE,
        Kind::Clicked,
        "bob@example.com",
        clicked("bob@example.com", ADA).as_bytes(),
    );
    stage.publish(SOURCE, Kind::Clicked, ADA, format!("not JSON about {ADA}").as_bytes());
}

fn erase(stage: &Stage, key: &ErasureKey) {
    let value = format!(r#"{{"key_id":"{}","at":1}}"#, key.id());
    let digest = key.digest(ADA).to_string();
    stage.cluster.produce(&[Outgoing::new(&stage.cluster.topics.erased, digest, value)]);
    stage.enrich.await_metric("mailpulse_erasure_recipients", &[], |recipients| recipients == 1.0);
}

fn ids(record: &Record) -> Vec<Option<Vec<u8>>> {
    let ids = [names::EVENT_ID, names::ENGAGEMENT_ID, names::LINK, names::FOR_DEDUPE];
    ids.map(|name| record.header(name).map(<[u8]>::to_vec)).to_vec()
}

#[test]
fn a_replay_after_the_erasure_has_the_same_ids_and_names_nobody() {
    let stage = Stage::start(SETTINGS);
    let key = ErasureKey::new(KEY.as_bytes()).unwrap();
    publish(&stage);
    let before = stage.enriched(2);
    assert_eq!(stage.dead_letters(1)[0].key, ADA.as_bytes());
    erase(&stage, &key);
    publish(&stage);
    let all = stage.enriched(4);
    let pseudonym = key.pseudonym(ADA).unwrap();
    let erased = Arc::new([key.digest(ADA)].into_iter().collect());
    let fingerprint = Eraser::new(key.clone(), erased).fingerprint();
    for first in &before {
        assert_eq!(first.header(names::ERASED), None);
        let of = |record: &&Record| ids(record) == ids(first) && record.value != first.value;
        let again = all.iter().find(of).expect("an event with the same ids and another value");
        assert_eq!(again.partition, first.partition);
        assert_eq!(again.header(names::ERASED), fingerprint.as_ref().map(|it| &it[..]));
        let event: Event<'_> = serde_json::from_slice(again.value()).unwrap();
        assert!(!again.text().contains("ada@"), "{}", again.text());
        if first.key == ADA.as_bytes() {
            assert_eq!(
                (&*again.key, event.recipient.as_deref()),
                (pseudonym.as_bytes(), Some(&*pseudonym))
            );
            assert_eq!((event.raw.get(), event.ip.is_none()), ("{}", true));
            assert_eq!(event.url.as_deref(), Some("https://example.com/"));
        } else {
            assert_eq!(again.key, first.key);
            assert!(event.raw.get().contains(&format!(r#""cc":["{pseudonym}"]"#)), "{}", event.raw);
        }
    }
    let dead = stage.dead_letters(2);
    let dead = dead.iter().find(|record| record.key != ADA.as_bytes()).unwrap();
    assert_eq!((&*dead.key, &dead.value), (pseudonym.as_bytes(), &None));
    let headers = dead.headers.iter().map(|(_, value)| String::from_utf8_lossy(value).into_owned());
    assert!(headers.into_iter().all(|value| !value.contains("ada@")), "{dead:?}");
}

#[test]
fn an_erased_recipient_stays_in_the_partition_of_the_address() {
    const PARTITIONS: i32 = 3;
    let stage = Stage::start(SETTINGS);
    erase(&stage, &ErasureKey::new(KEY.as_bytes()).unwrap());
    // A partition that was chosen by the pseudonym would be the same for all.
    let (provider, source) = SOURCE;
    let on = |partition| {
        let value = clicked(ADA, "bob@example.com").replace("m1", &format!("m{partition}"));
        records::raw(&stage.cluster.topics, provider, source, Kind::Clicked, ADA, value)
            .on(partition)
    };
    stage.cluster.produce(&(0..PARTITIONS).map(on).collect::<Vec<_>>());
    let mut enriched = stage.enriched(PARTITIONS as usize);
    enriched.sort_by_key(|record| record.partition);
    assert!(enriched.iter().map(|record| record.partition).eq(0..PARTITIONS), "{enriched:?}");
    assert!(enriched.iter().all(|record| record.key != ADA.as_bytes()));
}

#[test]
fn enrich_that_starts_after_the_erasure_knows_it() {
    let mut stage = Stage::start(SETTINGS);
    let key = ErasureKey::new(KEY.as_bytes()).unwrap();
    erase(&stage, &key);
    stage.enrich.kill();
    publish(&stage);
    stage.enrich.restart();
    assert!(stage.enriched(2).iter().all(|record| !record.text().contains("ada@")));
}
