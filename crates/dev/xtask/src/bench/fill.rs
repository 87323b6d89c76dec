//! Filling the topics behind `enrich` and `dedupe` directly, where a leg wants more events, or a
//! stricter order, than these would give it in a hurry.

use std::time::Duration;

use event::{
    Bounce, BounceClass, BounceSide, Event, EventId, IdBuilder, Kind, OccurredAt, Permanence,
    Provider, ReceivedAt, domain_of,
};
use record::{FirstSight, names};
use serde::Deserialize;
use serde_json::value::RawValue;
use kafka::{Batch, PreparedHeaders, Publisher, PublisherSettings};
use testkit::load::event_batch;

use super::client::unix_millis;
use super::site::{Line, bar};

/// Over how many hours of event time ids are spread; `dedupe` keeps them by the hour.
pub(crate) const ID_HOURS: u64 = 24;
/// Over how many hours events are.
pub(crate) const EVENT_HOURS: u64 = 1;
const MICROS_PER_HOUR: u64 = 3_600_000_000;
const MAILBOX_PROVIDERS: [&str; 4] = ["gmail", "outlook", "yahoo", "other"];
const SOURCES: u64 = 8;
/// Of each source.
const CAMPAIGNS: u64 = 2;
/// What is rated of `mail.events`: each source as a whole, per mailbox provider and per campaign.
pub(crate) const SCOPES: u64 = SOURCES * (1 + MAILBOX_PROVIDERS.len() as u64 + CAMPAIGNS);
/// Records between two waits for acknowledgement.
const CHUNK: u64 = 50_000;
/// `dedupe` looks at headers alone.
const NO_CONTENT: &[u8] = b"{}";

/// Events without content in `mail.enriched`, all different.
pub(crate) fn enriched(line: &Line<'_>, ids: u64) -> anyhow::Result<()> {
    fill(line, "filling mail.enriched", ids, ID_HOURS, |batch, n, occurred_at| {
        let id = event_id(n);
        let occurred_at = occurred_at.to_string();
        let headers = PreparedHeaders::new(&[
            (names::EVENT_ID, id.as_bytes()),
            (names::KIND, Kind::Delivered.as_str().as_bytes()),
            (names::OCCURRED_AT, occurred_at.as_bytes()),
            (names::PROVIDER, Provider::Generic.as_str().as_bytes()),
            (names::SOURCE, b"bench-0"),
        ]);
        let key = format!("reader-{n:010}@example.org");
        Ok(batch.send(&line.topics.enriched, key.as_bytes(), NO_CONTENT, &headers)?)
    })
}

/// Events in `mail.events` as `dedupe` leaves them, in the order of their times.
pub(crate) fn events(line: &Line<'_>, events: u64) -> anyhow::Result<()> {
    fill(line, "filling mail.events", events, EVENT_HOURS, |batch, n, occurred_at| {
        send_event(batch, &line.topics.events, n, occurred_at)
    })
}

/// What is read of a generated event.
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
        recipient: Some(recipient.into()),
        recipient_domain: Some(domain_of(recipient).into()),
        mailbox_provider: Some(mailbox_provider.into()),
        message_id: Some(message_id.into()),
        campaign: Some(format!("campaign-{}", n / SOURCES % CAMPAIGNS).into()),
        stream: None,
        tenant: None,
        tags: vec!["load".into(), "newsletter".into()],
        bounce: (kind == Kind::Bounced).then(hard_bounce),
        automation: None,
        user_agent: None,
        ip: None,
        url: None,
        provider_event: kind.as_str().into(),
        provider_event_id: None,
        request_id: "bench".into(),
        client: None,
        geo: None,
        labels: Default::default(),
        raw,
    };
    let (value, at) = (serde_json::to_vec(&event)?, occurred_at.to_string());
    let first = FirstSight { of_kind: true, of_engagement: kind == Kind::Opened };
    let mut headers: Vec<(&str, &[u8])> = vec![
        (names::EVENT_ID, event.event_id.as_bytes()),
        (names::KIND, kind.as_str().as_bytes()),
        (names::OCCURRED_AT, at.as_bytes()),
        (names::PROVIDER, event.provider.as_str().as_bytes()),
        (names::SOURCE, source.as_bytes()),
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

/// Publishes `count` records, their times spread evenly over the last hours.
fn fill(
    line: &Line<'_>,
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
    let publisher = Publisher::open(&line.site.connection("lz4"), settings)?;
    let bar = bar(what, count);
    let began = u64::try_from(unix_millis())? * 1000 - hours * MICROS_PER_HOUR;
    let mut next = 0;
    while next < count {
        let until = (next + CHUNK).min(count);
        let batch = publisher.batch();
        for n in next..until {
            send(&batch, n, began + n * hours * MICROS_PER_HOUR / count)?;
        }
        line.site.block_on(batch.acknowledged())?;
        next = until;
        bar.set_position(next);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Ids are digests: as good as random.
fn event_id(n: u64) -> EventId {
    IdBuilder::new("bench").part(&n.to_le_bytes()).finish()
}
