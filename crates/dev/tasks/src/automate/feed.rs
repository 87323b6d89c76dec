//! Writes events and time records to `mail.events`, as dedupe does, with virtual times of receipt.

use std::time::Duration;

use kafka::{Batch, Connection, PreparedHeaders, PublishError, Publisher, PublisherSettings};
use record::{TimeRecord, names};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::traffic::{MailEvent, Moment};

pub(super) const PROVIDER: &str = "ses";
pub(super) const SOURCE: &str = "acme";

/// A producer in place of dedupe.
pub(super) struct Feed {
    publisher: Publisher,
    topic: String,
    partitions: i32,
    runtime: Runtime,
    /// The number of events that were written.
    pub(super) events: usize,
}

impl Feed {
    pub(super) fn open(
        connection: &Connection,
        topic: &str,
        partitions: i32,
    ) -> anyhow::Result<Self> {
        let settings = PublisherSettings {
            linger: Duration::from_millis(1),
            queue_bytes: 16 << 20,
            // Without a limit, the records of a partition keep their order.
            ack_timeout: None,
        };
        let publisher = Publisher::open(connection, "automate-feed", settings)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { publisher, topic: topic.to_owned(), partitions, runtime, events: 0 })
    }

    /// Writes moments, and returns when Kafka has acknowledged them.
    pub(super) fn publish(&mut self, moments: &[Moment]) -> anyhow::Result<()> {
        let batch = self.publisher.batch();
        for moment in moments {
            self.send_time(&batch, moment.at)?;
            for event in &moment.events {
                self.send(&batch, event)?;
            }
            self.events += moment.events.len();
        }
        Ok(self.runtime.block_on(batch.acknowledged())?)
    }

    /// Writes a time record to every partition. Behind enrich it names no ingress.
    fn send_time(&self, batch: &Batch<'_>, time: i64) -> Result<(), PublishError> {
        let headers: Vec<_> = TimeRecord { time, id: None, is_last: false }.headers().collect();
        let headers: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (*name, &**value)).collect();
        let headers = PreparedHeaders::new(&headers);
        (0..self.partitions)
            .try_for_each(|partition| batch.send_to_partition(&self.topic, partition, &headers))
    }

    fn send(&self, batch: &Batch<'_>, event: &MailEvent) -> Result<(), PublishError> {
        let (id, at) = (event.id(), event.at.to_string());
        let mut headers: Vec<(&str, &[u8])> = vec![
            (names::PROVIDER, PROVIDER.as_bytes()),
            (names::SOURCE, SOURCE.as_bytes()),
            (names::RECEIVED_AT, at.as_bytes()),
            (names::EVENT_ID, id.as_bytes()),
            (names::KIND, event.kind.as_str().as_bytes()),
            (names::OCCURRED_AT, at.as_bytes()),
        ];
        if !event.human {
            headers.push((names::MACHINE, b""));
        }
        if !event.authentic {
            headers.push((names::UNAUTHENTIC, b""));
        }
        let (key, value) = (event.address(), value(event).to_string());
        let headers = PreparedHeaders::new(&headers);
        batch.send(&self.topic, key.as_bytes(), value.as_bytes(), &headers)
    }
}

/// Returns the canonical event.
fn value(event: &MailEvent) -> Value {
    let mut value = json!({
        "event_id": event.id().to_string(),
        "kind": event.kind.as_str(),
        "provider": PROVIDER,
        "source": SOURCE,
        "occurred_at": event.at,
        "received_at": event.at,
        "recipient": event.address(),
        "message_id": format!("m{}-{}", event.recipient, event.message),
        "campaign": event.campaign,
        "url": "https://acme.example/offer",
        "provider_event": event.kind.as_str(),
        "request_id": "automate",
        "authentic": event.authentic,
        "raw": {"number": event.number},
    });
    if !event.human {
        value["automation"] = json!({"reason": "scanner", "confidence": 1.0});
    }
    value
}
