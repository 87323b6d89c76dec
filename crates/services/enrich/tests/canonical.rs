//! The real binary on real Kafka: raw events in, canonical events out.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{RECEIVED_AT, Stage, source};
use enrich::{EnrichSettings, Enrichment, RawRecord};
use event::{Event, EventId, Kind, Permanence, Provider, ReceivedAt};
use providers::Envelope;
use record::{EnrichedHeaders, names};
use service::Settings;
use testkit::{Credentials, Fact, Plan, SignedRequest, Traffic, shape, sign};

/// What an event of any provider must say of a fact: everything that is a function of it.
fn told(fact: &Fact) -> String {
    let Fact { provider, source, kind, recipient, message_id, occurred_at_micros, .. } = fact;
    let campaign = fact.told_campaign();
    let is_hard = (*kind == Kind::Bounced).then_some(fact.is_hard_bounce());
    let machine = fact.machine;
    format!(
        "{provider}/{source} {kind} {recipient} {message_id} {campaign:?} {occurred_at_micros} \
         {is_hard:?} {machine}"
    )
}

/// The same of a canonical event.
fn said(event: &Event<'_>) -> String {
    let Event { provider, source, kind, recipient, message_id, occurred_at, .. } = event;
    let recipient = recipient.as_deref().unwrap();
    let message_id = message_id.as_deref().unwrap();
    let campaign = event.campaign.as_deref();
    let bounce = event.bounce.as_ref().filter(|_| *kind == Kind::Bounced);
    let is_hard = bounce.map(|bounce| bounce.permanence == Permanence::Hard);
    let (occurred_at, machine) = (occurred_at.micros(), event.automation.is_some());
    format!(
        "{provider}/{source} {kind} {recipient} {message_id} {campaign:?} {occurred_at} \
         {is_hard:?} {machine}"
    )
}

/// What traffic has too seldom for so little of it: every kind of event that a provider has words for,
/// and both sorts of bounces. Of `other` nothing is promised, not even a recipient.
fn one_of_each() -> Vec<Fact> {
    let of = |(provider, source): (Provider, &str)| {
        let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Other);
        let mut facts: Vec<Fact> = (0..)
            .zip(kinds)
            .map(|(n, kind)| Fact::new(provider, source, kind, "ada@example.com", n))
            .collect();
        let bounced = Fact::new(provider, source, Kind::Bounced, "bob@example.com", 100);
        facts.push(Fact { permanence: Some(Permanence::Soft), ..bounced });
        facts.retain(|fact| shape::json(fact).is_some());
        facts
    };
    testkit::SOURCES.into_iter().flat_map(of).collect()
}

#[test]
fn raw_events_become_canonical_ones_once_although_the_process_is_killed() {
    let mut stage = Stage::start("");
    let credentials = Credentials::new("http://127.0.0.1");
    let sources = testkit::SOURCES.map(|(provider, name)| (provider, name.to_owned())).to_vec();
    let plan =
        Plan { messages_per_source: 10, sources, ..Plan::small(&credentials, 1_800_000_000) };
    let traffic = Traffic::new(3, plan);
    let one_of_each = one_of_each();
    let further = one_of_each
        .iter()
        .flat_map(|fact| sign::facts(&credentials, std::slice::from_ref(fact), 1_800_000_000));
    let requests: Vec<SignedRequest> = traffic.requests().chain(further).collect();
    let mut published = 0;
    for (number, request) in requests.iter().enumerate() {
        published += stage.publish_request(request);
        if number == requests.len() / 3 || number == requests.len() / 2 {
            stage.enrich.kill().unwrap();
            stage.enrich.restart().unwrap();
        }
    }

    let records = stage.records(&stage.topics.enriched, published);
    assert_eq!(records.len(), published, "each raw event exactly once");
    let mut kinds: BTreeMap<(Provider, Kind), u64> = BTreeMap::new();
    let mut ids: BTreeSet<EventId> = BTreeSet::new();
    let mut all_said: BTreeSet<String> = BTreeSet::new();
    for record in &records {
        let event: Event<'_> = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        let headers = EnrichedHeaders::read(&|name| record.header(name)).unwrap();
        assert_eq!(headers.event_id, event.event_id);
        assert_eq!(headers.occurred_at, event.occurred_at);
        assert_eq!(headers.kind, event.kind);
        assert_eq!(headers.engagement_id, event.engagement_id());
        assert_eq!(headers.machine, event.automation.is_some());
        assert_eq!(headers.link.is_some(), event.kind == Kind::Clicked && event.url.is_some());
        let has_client = event.kind.is_engagement() && event.user_agent.is_some();
        assert_eq!(event.client.is_some(), has_client, "{:?}", event.user_agent);
        assert_eq!(event.recipient.as_deref().unwrap().as_bytes(), record.key);
        assert!(event.mailbox_provider.is_some());
        ids.insert(event.event_id);
        all_said.insert(said(&event));
        *kinds.entry((event.provider, event.kind)).or_default() += 1;
    }
    let truth = traffic.truth();
    let mut expected = truth.accepted.clone();
    for fact in &one_of_each {
        *expected.entry((fact.provider, fact.kind)).or_default() += 1;
    }
    assert_eq!(kinds, expected);
    let distinct = truth.distinct_total() + one_of_each.len() as u64;
    assert_eq!(ids.len() as u64, distinct, "repeats have the id of the first");
    let all_told: BTreeSet<String> = traffic.facts().chain(&one_of_each).map(told).collect();
    let differing: Vec<_> = all_told.symmetric_difference(&all_said).take(10).collect();
    assert!(differing.is_empty(), "told and not said, or said and not told: {differing:#?}");

    let mut expected: Vec<_> = Library::new().events(requests.iter()).collect();
    let mut written: Vec<_> = records
        .into_iter()
        .map(|record| String::from_utf8(record.value.unwrap()).unwrap())
        .collect();
    expected.sort();
    written.sort();
    assert!(written == expected, "{:?}", written.iter().zip(&expected).find(|(a, b)| a != b));
}

/// The library alone, with the settings of the process: what `mailpulse parse` shows.
struct Library(Enrichment);

impl Library {
    fn new() -> Self {
        let settings = Settings::load(None, std::iter::empty()).unwrap();
        Self(Enrichment::open(&EnrichSettings::read(&settings).unwrap()).unwrap())
    }

    fn events<'r>(
        &mut self,
        requests: impl Iterator<Item = &'r SignedRequest>,
    ) -> impl Iterator<Item = String> {
        requests.flat_map(|request| {
            let (provider, source) = source(request);
            let mut events = Vec::new();
            providers::split(provider, &request.body, &mut |raw| {
                let received_at = ReceivedAt(RECEIVED_AT.parse().unwrap());
                let recipient = raw.recipient;
                let envelope = Envelope { source, recipient, received_at, request_id: "r1" };
                let record = RawRecord { provider, envelope, value: raw.raw };
                events.push(self.0.read(&record, |event| serde_json::to_string(event).unwrap()));
            })
            .unwrap();
            events.into_iter().map(Result::unwrap)
        })
    }
}

#[test]
fn what_cannot_be_read_goes_to_dead_letters_as_it_came() {
    let stage = Stage::start("");
    let genuine = [
        (names::PROVIDER, &b"postmark"[..]),
        (names::SOURCE, b"receipts"),
        (names::RECEIVED_AT, RECEIVED_AT.as_bytes()),
        (names::REQUEST_ID, b"r1"),
    ];
    let topic = stage.topics.raw(Kind::Delivered).to_owned();
    stage.publish(&topic, b"ada@example.com", b"{ not json", &genuine);
    stage.publish(&topic, b"bob@example.com", b"{\"RecordType\":\"Delivery\"}", &genuine);
    stage.publish(&topic, b"eve@example.com", b"{}", &genuine[1..]);

    let letters = stage.records(&stage.topics.dead_letters, 3);
    assert_eq!(letters.len(), 3);
    let of = |key: &[u8]| letters.iter().find(|letter| letter.key == key).unwrap();
    let reason = |key: &[u8]| of(key).header(names::REASON).unwrap().to_vec();
    assert_eq!(reason(b"ada@example.com"), b"not_json");
    assert_eq!(reason(b"bob@example.com"), b"missing_time");
    assert_eq!(reason(b"eve@example.com"), b"bad_headers");
    let ada = of(b"ada@example.com");
    assert_eq!(ada.value.as_deref(), Some(&b"{ not json"[..]));
    assert_eq!(ada.header(names::STAGE), Some(&b"enrich"[..]));
    assert_eq!(ada.header(names::SOURCE), Some(&b"receipts"[..]));
    let origin = std::str::from_utf8(ada.header(names::ORIGIN).unwrap()).unwrap();
    assert!(origin.starts_with(&format!("{topic}/")), "{origin}");
}
