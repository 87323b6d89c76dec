//! Publishes raw events and time records, as the ingress does, with the times of receipt of the mail.

use anyhow::Context;
use event::{Kind, Provider, ReceivedAt};
use kafka::Batch;
use record::RawHeaders;
use serde_json::{Value, json};

use super::mail::{Form, HOUR, Mail, SECOND};
use super::truth::events::Happened;
use crate::pipeline::Pipeline;
use crate::raw_feed::RawFeed;
use crate::truth::message::{Moment, What};
use crate::truth::payload;

/// The id of the ingress in time records, and of all requests.
pub(super) const INGRESS: &str = "questions";
/// Distinguishes the message ids of this mail.
pub(super) const RUN: u64 = 1;
/// The source of the events that close a run. Each has its own recipient, so that every partition receives some.
pub(super) const CLOSING: (Provider, &str) = (Provider::Generic, "closing");
const CLOSING_EVENTS: usize = 60;
/// Events between two waits for acknowledgements.
const CHUNK: usize = 1_000;

pub(super) struct Feed {
    raw: RawFeed,
    /// Distinguishes the closing events of several runs.
    closed: usize,
    /// The time of the last time record, UTC microseconds.
    time: i64,
}

impl Feed {
    pub(super) fn open(pipeline: &Pipeline, partitions: i32) -> anyhow::Result<Self> {
        let raw = RawFeed::open(pipeline, partitions, INGRESS)?;
        Ok(Self { raw, closed: 0, time: 0 })
    }

    /// Publishes events in this order, each with the time at which it is received. Times only become later.
    pub(super) async fn publish(&mut self, events: &[(&Happened<'_>, i64)]) -> anyhow::Result<()> {
        let mut batch = self.raw.batch();
        for (number, &(happened, received)) in events.iter().enumerate() {
            let hour = received.div_euclid(HOUR * SECOND) * HOUR * SECOND;
            if hour > self.time {
                self.raw.send_time(&batch, hour)?;
                self.time = hour;
            }
            let mail = happened.mail;
            let sent = Sent {
                source: mail.message.source.name,
                kind: kind(mail, happened.place),
                recipient: &mail.message.recipient,
                received,
                is_authentic: mail.is_authentic(),
            };
            self.send(&batch, &sent, &value(mail, happened.place)?)?;
            if number % CHUNK == CHUNK - 1 {
                batch.acknowledged().await?;
                batch = self.raw.batch();
            }
        }
        batch.acknowledged().await?;
        Ok(())
    }

    /// Publishes records that cannot be parsed.
    pub(super) async fn publish_faulty(
        &self,
        source: &str,
        received: &[i64],
    ) -> anyhow::Result<()> {
        let batch = self.raw.batch();
        for &received in received {
            let (kind, recipient) = (Kind::Delivered, "nobody@example.org");
            let sent = Sent { source, kind, recipient, received, is_authentic: true };
            self.send(&batch, &sent, &json!("no event"))?;
        }
        batch.acknowledged().await?;
        Ok(())
    }

    /// Publishes the closing events, and returns how many rows there then are of all of them.
    pub(super) async fn close(&mut self, received: i64) -> anyhow::Result<usize> {
        let batch = self.raw.batch();
        for _ in 0..CLOSING_EVENTS {
            let number = self.closed;
            self.closed += 1;
            let timestamp = jiff::Timestamp::from_microsecond(received)?.to_string();
            let recipient = format!("closing-{number:04}@example.net");
            let value = json!({
                "id": format!("closing-{number}"), "event": "accepted", "timestamp": timestamp,
                "recipient": recipient, "message_id": format!("closing-{number}"),
            });
            let (source, kind, recipient) = (CLOSING.1, Kind::Accepted, recipient.as_str());
            let sent = Sent { source, kind, recipient, received, is_authentic: true };
            self.send(&batch, &sent, &value)?;
        }
        self.time = received + HOUR * SECOND;
        self.raw.send_time(&batch, self.time)?;
        batch.acknowledged().await?;
        Ok(self.closed)
    }

    fn send(&self, batch: &Batch<'_>, sent: &Sent<'_>, value: &Value) -> anyhow::Result<()> {
        let &Sent { source, kind, recipient, received, is_authentic } = sent;
        let provider = if source == "acme" { Provider::SendGrid } else { Provider::Generic };
        let headers = RawHeaders {
            provider,
            source,
            received_at: ReceivedAt(received),
            request_id: INGRESS,
            authentic: is_authentic,
        };
        let value = value.to_string();
        self.raw.send(batch, kind, &headers, recipient, value.as_bytes())?;
        Ok(())
    }
}

/// What an ingress knows of an event.
struct Sent<'a> {
    source: &'a str,
    /// Chooses the topic.
    kind: Kind,
    recipient: &'a str,
    /// UTC microseconds.
    received: i64,
    is_authentic: bool,
}

/// Returns an event in the form of its provider.
fn value(mail: &Mail, place: usize) -> anyhow::Result<Value> {
    let mut fact = mail.message.facts[place];
    if mail.timeless[place] {
        fact.at = Moment::In1970;
    }
    let mut value = payload::json(&mail.message, &fact, RUN, 0)
        .with_context(|| format!("{} does not report {:?}", mail.message.source.name, fact.what))?;
    if matches!(fact.what, What::Clicked(_)) {
        value["url"] = mail.link(&fact).0.into();
    }
    match (mail.form, fact.what) {
        // By this, SendGrid's late bounces differ from others.
        (Form::ReplyMarkedLate, What::AutoReplied) => remove(&mut value, "sg_message_id"),
        (Form::SuppressedAsBounce, What::Suppressed) => {
            value["event"] = "bounced".into();
            let diagnostic = "The address is on the suppression list";
            value["bounce"] = json!({"permanence": "hard", "diagnostic": diagnostic});
        }
        (Form::WithoutMessageId, _) => remove(&mut value, "message_id"),
        _ => {}
    }
    Ok(value)
}

/// Returns the kind by which the ingress chooses the topic.
fn kind(mail: &Mail, place: usize) -> Kind {
    match mail.form {
        Form::SuppressedAsBounce => Kind::Bounced,
        _ => payload::kind(mail.message.source.provider, mail.message.facts[place].what),
    }
}

fn remove(value: &mut Value, field: &str) {
    if let Some(object) = value.as_object_mut() {
        object.remove(field);
    }
}
