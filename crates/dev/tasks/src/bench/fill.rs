//! Fills the topics after `enrich` and `dedupe` directly, for legs that need more events, or a stricter
//! order, than these services would produce in a short time.

use std::time::Duration;

use event::{
    Bounce, BounceClass, BounceSide, CounterSet, DimensionDigests, Event, EventId, IdBuilder, Kind,
    OccurredAt, Permanence, Provider, ReceivedAt, domain_of,
};
use kafka::{Batch, PreparedHeaders, Publisher, PublisherSettings};
use record::{FirstSeen, ForDedupe, Tally, names};
use serde::Deserialize;
use serde_json::value::RawValue;
use testkit::load::event_batch;

use super::client::unix_millis;
use super::servers::{Namespace, bar};

/// The hours of event time over which ids are spread. `dedupe` stores ids by the hour.
pub(crate) const ID_HOURS: u64 = 24;
/// The hours of event time over which events are spread.
pub(crate) const EVENT_HOURS: u64 = 1;
const MICROS_PER_HOUR: u64 = 3_600_000_000;
const MAILBOX_PROVIDERS: [&str; 4] = ["gmail", "outlook", "yahoo", "other"];
const SOURCES: u64 = 8;
/// The campaigns of each source.
const CAMPAIGNS: u64 = 2;
/// The scopes of these events: each source, and its mailbox providers and campaigns.
pub(crate) const SCOPES: u64 = SOURCES * (1 + MAILBOX_PROVIDERS.len() as u64 + CAMPAIGNS);
/// Records between two waits for acknowledgements.
const CHUNK: u64 = 50_000;
/// `dedupe` reads only headers.
const NO_CONTENT: &[u8] = b"{}";

/// The events of each message in [`enriched`], and what they count for.
const EVENTS_OF_MESSAGE: [(Kind, &str); 3] = [
    (Kind::Accepted, "injected"),
    (Kind::Delivered, "delivered,delivered_fbl"),
    (Kind::Opened, "opened,engaged"),
];

/// Produces different events without content to `mail.enriched`, three of each message.
pub(crate) fn enriched(namespace: &Namespace<'_>, ids: u64) -> anyhow::Result<()> {
    fill(namespace, "filling mail.enriched", ids, ID_HOURS, |batch, n, occurred_at| {
        let id = event_id(n);
        let message = n / 3;
        let (kind, would_count) = EVENTS_OF_MESSAGE[n as usize % 3];
        let message_id = IdBuilder::new("bench message").part(&message.to_le_bytes()).finish();
        // The mailbox provider, the campaign and the sender's domain.
        let digests = DimensionDigests([1, 2, 3, 0, 0]);
        let would_count = CounterSet::from_names(would_count);
        let for_dedupe = ForDedupe { would_count, digests, sent_at: None };
        let mut buffer = [0; ForDedupe::MAX_BYTES];
        let occurred_at = occurred_at.to_string();
        let headers = PreparedHeaders::new(&[
            (names::EVENT_ID, id.as_bytes()),
            (names::KIND, kind.as_str().as_bytes()),
            (names::OCCURRED_AT, occurred_at.as_bytes()),
            (names::PROVIDER, Provider::Generic.as_str().as_bytes()),
            (names::SOURCE, b"bench-0"),
            (names::ENGAGEMENT_ID, message_id.as_bytes()),
            (names::FOR_DEDUPE, for_dedupe.write(&mut buffer)),
        ]);
        let key = format!("reader-{message:010}@example.org");
        Ok(batch.send(&namespace.topics.enriched, key.as_bytes(), NO_CONTENT, &headers)?)
    })
}

/// Produces events to `mail.events` like `dedupe`, in the order of their times.
pub(crate) fn events(namespace: &Namespace<'_>, events: u64) -> anyhow::Result<()> {
    fill(namespace, "filling mail.events", events, EVENT_HOURS, |batch, n, occurred_at| {
        send_event(batch, &namespace.topics.events, n, occurred_at)
    })
}

/// The fields of a generated event that are needed.
#[derive(Deserialize)]
struct Raw<'a> {
    event: Kind,
    recipient: &'a str,
    message_id: &'a str,
}

fn send_event(batch: &Batch<'_>, topic: &str, n: u64, occurred_at: u64) -> anyhow::Result<()> {
    let occurred_at = i64::try_from(occurred_at)?;
    let raw = event_batch("fill", n, 1, occurred_at / 1000);
    let raw: &RawValue = serde_json::from_slice(&raw)?;
    let Raw { event: kind, recipient, message_id } = serde_json::from_str(raw.get())?;
    let (source, message) = (format!("bench-{}", n % SOURCES), n / 3);
    let mailbox_provider = MAILBOX_PROVIDERS[message as usize % MAILBOX_PROVIDERS.len()];
    let event = Event {
        event_id: event_id(n),
        kind,
        provider: Provider::Generic,
        source: source.as_str().into(),
        occurred_at: OccurredAt(occurred_at),
        received_at: ReceivedAt(occurred_at + 1_000_000),
        time_fault: None,
        recipient: Some(recipient.into()),
        recipient_domain: Some(domain_of(recipient).into()),
        mailbox_provider: Some(mailbox_provider.into()),
        message_id: Some(message_id.into()),
        campaign: Some(format!("campaign-{}", n / SOURCES % CAMPAIGNS).into()),
        stream: None,
        tenant: None,
        sender_domain: None,
        sending_ip: None,
        authentic: true,
        tags: vec!["load".into(), "newsletter".into()],
        bounce: (kind == Kind::Bounced).then(hard_bounce),
        automation: None,
        user_agent: None,
        ip: None,
        url: None,
        conversion: None,
        interest: None,
        provider_event: kind.as_str().into(),
        provider_event_id: None,
        request_id: "bench".into(),
        client: None,
        sent_at: None,
        claimed_at: None,
        sender: None,
        delivery: None,
        signals: Vec::new(),
        geo: None,
        labels: Default::default(),
        raw,
    };
    let (value, at) = (serde_json::to_vec(&event)?, occurred_at.to_string());
    let first = FirstSeen { of_kind: true, of_engagement: kind == Kind::Opened };
    let mut tally = Vec::new();
    Tally::write(Some(1), Some(event.occurred_at), event.would_count(true), &mut tally);
    let mut headers: Vec<(&str, &[u8])> = vec![
        (names::EVENT_ID, event.event_id.as_bytes()),
        (names::KIND, kind.as_str().as_bytes()),
        (names::OCCURRED_AT, at.as_bytes()),
        (names::PROVIDER, event.provider.as_str().as_bytes()),
        (names::SOURCE, source.as_bytes()),
        (names::TALLY, &tally),
    ];
    if kind.is_engagement() {
        headers.push((names::FIRST, first.as_header().as_bytes()));
    }
    Ok(batch.send(topic, recipient.as_bytes(), &value, &PreparedHeaders::new(&headers))?)
}

fn hard_bounce() -> Bounce<'static> {
    Bounce {
        permanence: Permanence::Hard,
        class: BounceClass::Other,
        side: BounceSide::Unknown,
        status: Some("5.1.1".into()),
        diagnostic: None,
        late: false,
    }
}

/// Produces `count` records with times that are spread evenly over the last hours.
fn fill(
    namespace: &Namespace<'_>,
    what: &str,
    count: u64,
    hours: u64,
    mut send: impl FnMut(&Batch<'_>, u64, u64) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let settings = PublisherSettings {
        linger: Duration::from_millis(5),
        queue_bytes: 256 << 20,
        ack_timeout: Some(Duration::from_secs(60)),
    };
    let publisher = Publisher::open(&namespace.servers.connection("lz4"), "bench", settings)?;
    let bar = bar(what, count);
    let began = u64::try_from(unix_millis())? * 1000 - hours * MICROS_PER_HOUR;
    let mut next = 0;
    while next < count {
        let until = (next + CHUNK).min(count);
        let batch = publisher.batch();
        for n in next..until {
            send(&batch, n, began + n * hours * MICROS_PER_HOUR / count)?;
        }
        namespace.servers.block_on(batch.acknowledged())?;
        next = until;
        bar.set_position(next);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Returns a digest, as in real events.
fn event_id(n: u64) -> EventId {
    IdBuilder::new("bench").part(&n.to_le_bytes()).finish()
}
