//! From an authentic body to records in Kafka.

use std::time::Duration;

use event::Provider;
use providers::{Split, SplitError};
use record::{Reason, Topics, names};
use kafka::{Batch, PreparedHeaders, PublishError, Publisher};

use crate::envelope::Envelope;
use crate::meters::KindCounts;

/// Where records go.
pub(crate) struct Outlet {
    topics: Topics,
    publisher: Publisher,
    /// For the spool: it gives nothing up, so that what it sends is there in the order it was sent.
    patient: Publisher,
    ack_timeout: Duration,
}

/// What a body amounts to.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) accepted: usize,
    pub(crate) dead_lettered: usize,
    pub(crate) kinds: KindCounts,
    /// The address that confirms an SNS subscription, when that is what the body asks for.
    pub(crate) confirmation: Option<String>,
}

impl Outlet {
    pub(crate) const fn new(
        topics: Topics,
        publisher: Publisher,
        patient: Publisher,
        ack_timeout: Duration,
    ) -> Self {
        Self { topics, publisher, patient, ack_timeout }
    }

    /// The publisher, for its figures and the last flush.
    pub(crate) const fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Starts records of the spool.
    pub(crate) fn patient_batch(&self) -> Batch<'_> {
        self.patient.batch()
    }

    /// How long Kafka may take before requests go another way.
    pub(crate) const fn ack_timeout(&self) -> Duration {
        self.ack_timeout
    }

    /// Splits the body and returns when Kafka has every piece of it.
    pub(crate) async fn publish(
        &self,
        envelope: &Envelope,
        body: &[u8],
    ) -> Result<Taken, PublishError> {
        let batch = self.publisher.batch();
        let taken = self.send(envelope, body, &batch)?;
        let acknowledged = tokio::time::timeout(self.ack_timeout, batch.acknowledged());
        acknowledged.await.unwrap_or(Err(PublishError::Timeout))?;
        Ok(taken)
    }

    /// Hands the body's events to librdkafka: one record per event and recipient. What cannot be
    /// split goes whole to the dead letters.
    pub(crate) fn send(
        &self,
        envelope: &Envelope,
        body: &[u8],
        batch: &Batch<'_>,
    ) -> Result<Taken, PublishError> {
        let mut kinds = KindCounts::default();
        let mut failure = None;
        let headers = envelope.headers();
        let split = providers::split(envelope.provider, body, &mut |event| {
            if failure.is_some() {
                return;
            }
            let topic = self.topics.raw(event.kind);
            match batch.send(topic, event.recipient.as_bytes(), event.raw, &headers) {
                Ok(()) => kinds.add(event.kind),
                Err(error) => failure = Some(error),
            }
        });
        if let Some(failure) = failure {
            return Err(failure);
        }
        if let Err(error) = &split {
            self.dead_letter(envelope, body, reason_of(error), &error.to_string(), batch)?;
        }
        Ok(Taken::of(split, kinds))
    }

    /// Authentic, and not what its provider sends: kept whole, with the reason.
    fn dead_letter(
        &self,
        envelope: &Envelope,
        body: &[u8],
        reason: Reason,
        detail: &str,
        batch: &Batch<'_>,
    ) -> Result<(), PublishError> {
        metrics::counter!("mailpulse_dead_letters_total",
            "stage" => "ingress", "reason" => reason.code())
        .increment(1);
        let headers = envelope.headers_and(&letter(reason, detail));
        batch.send(&self.topics.dead_letters, b"", body, &headers)
    }

    /// An entry of the spool that this version cannot read.
    pub(crate) fn dead_letter_entry(
        &self,
        entry: &[u8],
        batch: &Batch<'_>,
    ) -> Result<(), PublishError> {
        let headers = letter(Reason::BadHeaders, "an entry of the spool without its envelope");
        batch.send(&self.topics.dead_letters, b"", entry, &PreparedHeaders::new(&headers))
    }
}

/// What a body amounts to; nothing of it is sent.
pub(crate) fn survey(provider: Provider, body: &[u8]) -> Taken {
    let mut kinds = KindCounts::default();
    let split = providers::split(provider, body, &mut |event| kinds.add(event.kind));
    Taken::of(split, kinds)
}

impl Taken {
    fn of(split: Result<Split, SplitError>, kinds: KindCounts) -> Self {
        let mut taken = Self { kinds, ..Self::default() };
        match split {
            Ok(Split::Events(count)) => taken.accepted = count,
            Ok(Split::Ping) => {}
            Ok(Split::ConfirmSubscription { subscribe_url, topic }) => {
                tracing::info!(topic, "an SNS subscription is to be confirmed");
                taken.confirmation = Some(subscribe_url);
            }
            Ok(Split::Unsubscribed { topic }) => {
                tracing::warn!(topic, "SNS ended the subscription");
            }
            Err(_) => taken.dead_lettered = 1,
        }
        taken
    }

    /// Whether there is nothing to keep of the body.
    pub(crate) const fn is_nothing(&self) -> bool {
        self.accepted == 0 && self.dead_lettered == 0
    }
}

fn letter(reason: Reason, detail: &str) -> [(&'static str, &[u8]); 4] {
    [
        (names::REASON, reason.code().as_bytes()),
        (names::DETAIL, detail.as_bytes()),
        (names::STAGE, b"ingress"),
        (names::ORIGIN, b""),
    ]
}

const fn reason_of(error: &SplitError) -> Reason {
    match error {
        SplitError::NotUtf8 => Reason::NotUtf8,
        SplitError::NotJson { .. } => Reason::NotJson,
        SplitError::NotForm(_) => Reason::NotForm,
        SplitError::WrongShape(_) => Reason::WrongShape,
    }
}
