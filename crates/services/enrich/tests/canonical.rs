//! The real binary on real Kafka: raw events in, canonical events out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Stage, source};
use enrich::{EnrichSettings, Enrichment, RawRecord};
use event::{Event, EventId, Kind, OccurredAt, Permanence, Provider, ReceivedAt};
use harness::records::{self, RECEIVED_AT};
use providers::Envelope;
use record::{EnrichedHeaders, names};
use service::Settings;
use testkit::{Credentials, MailEvent, Plan, SignedRequest, Traffic, payloads, sign};

/// Describes a mail event by everything that every provider reports of it.
fn description_of_mail_event(event: &MailEvent) -> String {
    let MailEvent { provider, source, kind, recipient, message_id, occurred_at_micros, .. } = event;
    let campaign = event.reported_campaign();
    let is_hard = (*kind == Kind::Bounced).then_some(event.is_hard_bounce());
    let machine = event.machine;
    format!(
        "{provider}/{source} {kind} {recipient} {message_id} {campaign:?} {occurred_at_micros} \
         {is_hard:?} {machine}"
    )
}

/// Describes a canonical event in the same way.
fn description_of_event(event: &Event<'_>) -> String {
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

/// Returns what little traffic lacks: an event of every kind that a provider has, and both kinds of
/// bounces. Events of the kind `other` are left out; they need not even have a recipient.
fn one_of_each() -> Vec<MailEvent> {
    let of = |(provider, source): (Provider, &str)| {
        let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Other);
        let mut events: Vec<MailEvent> = (0..)
            .zip(kinds)
            .map(|(n, kind)| MailEvent::new(provider, source, kind, "ada@example.com", n))
            .collect();
        let bounced = MailEvent::new(provider, source, Kind::Bounced, "bob@example.com", 100);
        events.push(MailEvent { permanence: Some(Permanence::Soft), ..bounced });
        events.retain(|event| payloads::json(event).is_some());
        events
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
        .flat_map(|event| sign::events(&credentials, std::slice::from_ref(event), 1_800_000_000));
    let requests: Vec<SignedRequest> = traffic.requests().chain(further).collect();
    let mut published = 0;
    for (number, request) in requests.iter().enumerate() {
        published += stage.publish_request(request);
        if number == requests.len() / 3 || number == requests.len() / 2 {
            stage.enrich.kill();
            stage.enrich.restart();
        }
    }

    let records = stage.enriched(published);
    assert_eq!(records.len(), published, "each raw event exactly once");
    let mut kinds: BTreeMap<(Provider, Kind), u64> = BTreeMap::new();
    let mut ids: BTreeSet<EventId> = BTreeSet::new();
    let mut in_events: BTreeSet<String> = BTreeSet::new();
    let mut sent: BTreeMap<(Provider, String), OccurredAt> = BTreeMap::new();
    for record in &records {
        let event: Event<'_> = serde_json::from_slice(record.value()).unwrap();
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
        assert_eq!(headers.sent_at, event.sent_at);
        if let Some(sent_at) = event.sent_at {
            assert!(sent_at <= event.occurred_at, "{event:?}");
            let message = (event.provider, event.message_id.clone().unwrap().to_string());
            let earlier = *sent.entry(message).or_insert(sent_at);
            assert_eq!(sent_at, earlier, "all events of a message tell the same: {event:?}");
        }
        ids.insert(event.event_id);
        in_events.insert(description_of_event(&event));
        *kinds.entry((event.provider, event.kind)).or_default() += 1;
    }
    let truth = traffic.expected();
    let mut expected = truth.accepted.clone();
    for event in &one_of_each {
        *expected.entry((event.provider, event.kind)).or_default() += 1;
    }
    assert_eq!(kinds, expected);
    let reporting: BTreeSet<Provider> = sent.keys().map(|(provider, _)| *provider).collect();
    assert_eq!(reporting.len(), 8, "{reporting:?}");
    let distinct = truth.distinct_total() + one_of_each.len() as u64;
    assert_eq!(ids.len() as u64, distinct, "duplicates have the id of their original");
    let mail = traffic.events().chain(&one_of_each);
    let in_mail_events: BTreeSet<String> = mail.map(description_of_mail_event).collect();
    let differing: Vec<_> = in_mail_events.symmetric_difference(&in_events).take(10).collect();
    assert!(differing.is_empty(), "only sent or only read: {differing:#?}");

    let mut expected: Vec<_> = Library::new().events(requests.iter()).collect();
    let mut written: Vec<_> = records
        .into_iter()
        .map(|record| String::from_utf8(record.value.unwrap()).unwrap())
        .collect();
    expected.sort();
    written.sort();
    assert!(written == expected, "{:?}", written.iter().zip(&expected).find(|(a, b)| a != b));
}

/// The library without a process, with the same settings, as `mailpulse parse` uses it.
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
            for raw in providers::split(provider, &request.body).unwrap().events() {
                let received_at = ReceivedAt(RECEIVED_AT.parse().unwrap());
                let recipient = raw.recipient;
                let envelope = Envelope { source, recipient, received_at, request_id: "r1" };
                let record = RawRecord {
                    provider,
                    envelope,
                    value: raw.raw,
                    is_mapped: false,
                    is_authentic: true,
                };
                events.push(self.0.read(&record, |event, _| serde_json::to_string(event).unwrap()));
            }
            events.into_iter().map(Result::unwrap)
        })
    }
}

#[test]
fn an_unreadable_record_becomes_a_dead_letter_with_its_bytes() {
    let stage = Stage::start("");
    let raw = |recipient: &str, value: &str| {
        let topics = &stage.cluster.topics;
        records::raw(topics, Provider::Postmark, "receipts", Kind::Delivered, recipient, value)
    };
    let mut without_provider = raw("eve@example.com", "{}");
    without_provider.headers.remove(0);
    stage.cluster.produce(&[
        raw("ada@example.com", "{ not json"),
        raw("bob@example.com", "[]"),
        without_provider,
    ]);

    let dead_letters = stage.dead_letters(3);
    assert_eq!(dead_letters.len(), 3);
    let of = |key: &[u8]| dead_letters.iter().find(|record| record.key == key).unwrap();
    let reason = |key: &[u8]| of(key).header(names::REASON).unwrap().to_vec();
    assert_eq!(reason(b"ada@example.com"), b"not_json");
    assert_eq!(reason(b"bob@example.com"), b"wrong_shape");
    assert_eq!(reason(b"eve@example.com"), b"bad_headers");
    let ada = of(b"ada@example.com");
    assert_eq!(ada.value(), b"{ not json");
    assert_eq!(ada.header(names::STAGE), Some(&b"enrich"[..]));
    assert_eq!(ada.header(names::SOURCE), Some(&b"receipts"[..]));
    let origin = std::str::from_utf8(ada.header(names::ORIGIN).unwrap()).unwrap();
    let topic = stage.cluster.topics.raw(Kind::Delivered);
    assert!(origin.starts_with(&format!("{topic}/")), "{origin}");
}
