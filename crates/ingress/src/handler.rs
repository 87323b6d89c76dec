//! One request, from its head to its answer.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use event::{Provider, ReceivedAt};
use http::{Method, Request, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use providers::{Refusal, Split, SplitError, body_limit};
use record::{Reason, Topics, names};
use stream::{Batch, PreparedHeaders, PublishError, Publisher};

use crate::certificates::Certificates;
use crate::meters::{KindCounts, Meters};
use crate::problem::{Answer, Problem, receipt};
use crate::request_id::RequestIds;
use crate::settings::IngressSettings;
use crate::sources::{Source, Sources};

/// All that a request needs.
pub(crate) struct Ingress {
    sources: Sources,
    topics: Topics,
    publisher: Publisher,
    certificates: Certificates,
    meters: Meters,
    request_ids: RequestIds,
    read_timeout: Duration,
    ack_timeout: Duration,
}

/// What became of an authentic request.
struct Taken {
    accepted: usize,
    dead_lettered: usize,
    kinds: KindCounts,
}

/// What is known of a request before its body.
struct Arrival {
    id: String,
    started: Instant,
}

impl Ingress {
    pub(crate) fn new(
        sources: Sources,
        topics: Topics,
        publisher: Publisher,
        certificates: Certificates,
        settings: &IngressSettings,
    ) -> Arc<Self> {
        let (read_timeout, ack_timeout) = (settings.read_timeout, settings.ack_timeout);
        let meters = Meters::new();
        Arc::new(Self {
            sources,
            topics,
            publisher,
            certificates,
            meters,
            request_ids: RequestIds::new(),
            read_timeout,
            ack_timeout,
        })
    }

    /// The publisher, for readiness and the last flush.
    pub(crate) fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Answers one request.
    pub(crate) async fn handle(&self, request: Request<Incoming>) -> Answer {
        let arrival = Arrival { id: self.request_ids.next(now()), started: Instant::now() };
        let source = self.sources.of_path(request.uri().path());
        match self.take(source, request, &arrival).await {
            Ok(taken) => {
                if let Some(source) = source {
                    let took = arrival.started.elapsed();
                    self.meters.accepted(source.provider, &taken.kinds, took);
                }
                receipt(&arrival.id, taken.accepted, taken.dead_lettered)
            }
            Err(problem) => {
                self.meters.refused(source.map(|s| s.provider), &problem);
                tracing::info!(request_id = arrival.id, code = problem.code(), "not taken");
                problem.answer(&arrival.id)
            }
        }
    }

    async fn take(
        &self,
        source: Option<&Source>,
        request: Request<Incoming>,
        arrival: &Arrival,
    ) -> Result<Taken, Problem> {
        let source = source.ok_or(Problem::UnknownSource)?;
        match *request.method() {
            Method::POST => {}
            // Mandrill asks with HEAD whether the address is there.
            Method::HEAD => return Ok(Taken::nothing()),
            _ => return Err(Problem::MethodNotAllowed),
        }
        let (head, body) = request.into_parts();
        if head.headers.contains_key(header::CONTENT_ENCODING) {
            return Err(Problem::EncodedBody);
        }
        let body = self.read(source.provider, body).await?;
        let received_at = now();
        self.authenticate(source, &head.headers, &body, received_at).await?;
        self.publish(source, &body, received_at, arrival).await
    }

    /// The whole body, within the provider's limit and the time a body may take.
    async fn read(&self, provider: Provider, mut body: Incoming) -> Result<Bytes, Problem> {
        let limit = body_limit(provider);
        let announced = body.size_hint();
        if announced.lower() > limit as u64 {
            return Err(Problem::TooLarge(provider, limit));
        }
        let reading = async {
            let mut whole = BytesMut::new();
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame.map_err(|_| Problem::BrokenBody)?.into_data() else {
                    continue;
                };
                if whole.len() + data.len() > limit {
                    return Err(Problem::TooLarge(provider, limit));
                }
                // The usual body is one frame: taken as it is, not copied.
                if whole.is_empty() && body.is_end_stream() {
                    return Ok(data);
                }
                whole.extend_from_slice(&data);
            }
            Ok(whole.freeze())
        };
        tokio::time::timeout(self.read_timeout, reading).await.unwrap_or(Err(Problem::ReadTimeout))
    }

    async fn authenticate(
        &self,
        source: &Source,
        headers: &http::HeaderMap,
        body: &[u8],
        received_at: ReceivedAt,
    ) -> Result<(), Problem> {
        let seconds = received_at.micros() / 1_000_000;
        let certificate = |url: &str| self.certificates.cached(url);
        let verify = || source.authenticator.verify(headers, body, seconds, &certificate);
        let verdict = match verify() {
            Err(Refusal::CertificateNeeded(url)) => {
                self.certificates.fetch(&url).await;
                verify()
            }
            verdict => verdict,
        };
        verdict.map_err(|refusal| Problem::Refused(source.provider, refusal))
    }

    /// Splits the body and waits until Kafka has every piece of it.
    async fn publish(
        &self,
        source: &Source,
        body: &[u8],
        received_at: ReceivedAt,
        arrival: &Arrival,
    ) -> Result<Taken, Problem> {
        let unavailable = |error: PublishError| Problem::Unavailable(source.provider, error.code());
        let envelope = Envelope::new(source, received_at, &arrival.id);
        let batch = self.publisher.batch();
        let (taken, confirmation) = self.send(source, body, &envelope, &batch);
        let taken = taken.map_err(unavailable)?;
        tokio::time::timeout(self.ack_timeout, batch.acknowledged())
            .await
            .unwrap_or(Err(PublishError::Timeout))
            .map_err(unavailable)?;
        if let Some(url) = confirmation {
            self.certificates.confirm(&url).await.map_err(|error| {
                tracing::warn!(error = format!("{error:#}"), "subscription not confirmed");
                Problem::Unavailable(source.provider, "subscription_not_confirmed")
            })?;
        }
        Ok(taken)
    }

    /// Hands the body's events to librdkafka; also returns the address that confirms an SNS
    /// subscription, when that is what the body asks for.
    fn send(
        &self,
        source: &Source,
        body: &[u8],
        envelope: &Envelope,
        batch: &Batch<'_>,
    ) -> (Result<Taken, PublishError>, Option<String>) {
        let mut taken = Taken::nothing();
        let mut failure = None;
        let headers = envelope.headers();
        let split = providers::split(source.provider, body, &mut |event| {
            if failure.is_some() {
                return;
            }
            let topic = self.topics.raw(event.kind);
            match batch.send(topic, event.recipient.as_bytes(), event.raw, &headers) {
                Ok(()) => taken.kinds.add(event.kind),
                Err(error) => failure = Some(error),
            }
        });
        if let Some(failure) = failure {
            return (Err(failure), None);
        }
        match split {
            Ok(Split::Events(count)) => taken.accepted = count,
            Ok(Split::Ping) => {}
            Ok(Split::ConfirmSubscription { subscribe_url, topic }) => {
                tracing::info!(topic, source = source.name, "confirming subscription");
                return (Ok(taken), Some(subscribe_url));
            }
            Ok(Split::Unsubscribed { topic }) => {
                tracing::warn!(topic, source = source.name, "SNS ended the subscription");
            }
            Err(error) => {
                if let Err(error) = self.dead_letter(body, &error, envelope, batch) {
                    return (Err(error), None);
                }
                taken.dead_lettered = 1;
            }
        }
        (Ok(taken), None)
    }

    /// Authentic, and not what its provider sends: kept whole, with the reason.
    fn dead_letter(
        &self,
        body: &[u8],
        error: &SplitError,
        envelope: &Envelope,
        batch: &Batch<'_>,
    ) -> Result<(), PublishError> {
        let reason = reason_of(error);
        metrics::counter!("mailpulse_dead_letters_total",
            "stage" => "ingress", "reason" => reason.code())
        .increment(1);
        let detail = error.to_string();
        let headers = envelope.headers_and(&[
            (names::REASON, reason.code().as_bytes()),
            (names::DETAIL, detail.as_bytes()),
            (names::STAGE, b"ingress"),
            (names::ORIGIN, b""),
        ]);
        batch.send(&self.topics.dead_letters, b"", body, &headers)
    }
}

impl Taken {
    fn nothing() -> Self {
        Self { accepted: 0, dead_lettered: 0, kinds: KindCounts::default() }
    }
}

/// The headers that all records of a request share.
struct Envelope {
    provider: &'static str,
    source: String,
    received_at: String,
    request_id: String,
}

impl Envelope {
    fn new(source: &Source, received_at: ReceivedAt, request_id: &str) -> Self {
        Self {
            provider: source.provider.as_str(),
            source: source.name.clone(),
            received_at: received_at.micros().to_string(),
            request_id: request_id.to_owned(),
        }
    }

    fn headers(&self) -> PreparedHeaders {
        self.headers_and(&[])
    }

    fn headers_and(&self, further: &[(&str, &[u8])]) -> PreparedHeaders {
        let own: [(&str, &[u8]); 4] = [
            (names::PROVIDER, self.provider.as_bytes()),
            (names::SOURCE, self.source.as_bytes()),
            (names::RECEIVED_AT, self.received_at.as_bytes()),
            (names::REQUEST_ID, self.request_id.as_bytes()),
        ];
        PreparedHeaders::new(&[&own, further].concat())
    }
}

fn reason_of(error: &SplitError) -> Reason {
    match error {
        SplitError::NotUtf8 => Reason::NotUtf8,
        SplitError::NotJson { .. } => Reason::NotJson,
        SplitError::NotForm(_) => Reason::NotForm,
        SplitError::WrongShape(_) => Reason::WrongShape,
    }
}

fn now() -> ReceivedAt {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ReceivedAt(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
