//! One request, from its head to its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use event::{Provider, ReceivedAt};
use http::{HeaderValue, Method, Request, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use providers::{Refusal, body_limit};
use stream::PublishError;

use crate::backlog::{Backlog, Way};
use crate::certificates::Certificates;
use crate::envelope::Envelope;
use crate::meters::Meters;
use crate::outlet::{Outlet, Taken, survey};
use crate::problem::{Answer, Problem, receipt};
use crate::request_id::RequestIds;
use crate::settings::IngressSettings;
use crate::sources::{Source, Sources};

/// All that a request needs.
pub(crate) struct Ingress {
    sources: Sources,
    outlet: Arc<Outlet>,
    backlog: Arc<Backlog>,
    certificates: Certificates,
    meters: Meters,
    request_ids: RequestIds,
    read_timeout: Duration,
    /// Whether clients are asked to come to another process next time.
    is_leaving: AtomicBool,
}

/// What is known of a request before its body.
struct Arrival {
    id: String,
    started: Instant,
}

impl Ingress {
    pub(crate) fn new(
        sources: Sources,
        outlet: Arc<Outlet>,
        backlog: Arc<Backlog>,
        certificates: Certificates,
        settings: &IngressSettings,
    ) -> Self {
        let (meters, request_ids) = (Meters::new(), RequestIds::new());
        let read_timeout = settings.read_timeout;
        let is_leaving = AtomicBool::new(false);
        Self {
            sources,
            outlet,
            backlog,
            certificates,
            meters,
            request_ids,
            read_timeout,
            is_leaving,
        }
    }

    /// Where records go.
    pub(crate) const fn outlet(&self) -> &Arc<Outlet> {
        &self.outlet
    }

    /// Where requests are kept while Kafka is away.
    pub(crate) const fn backlog(&self) -> &Arc<Backlog> {
        &self.backlog
    }

    /// From now on every answer closes its connection, so that the next request goes elsewhere.
    /// (Closing idle connections instead would break requests that are just being sent.)
    pub(crate) fn farewell(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    /// Answers one request.
    pub(crate) async fn handle(&self, request: Request<Incoming>) -> Answer {
        let mut answer = self.answer(request).await;
        if self.is_leaving.load(Ordering::Relaxed) {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
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
            Method::HEAD => return Ok(Taken::default()),
            _ => return Err(Problem::MethodNotAllowed),
        }
        let (head, body) = request.into_parts();
        if head.headers.contains_key(header::CONTENT_ENCODING) {
            return Err(Problem::EncodedBody);
        }
        let body = self.read(source.provider, body).await?;
        let received_at = now();
        self.authenticate(source, &head.headers, &body, received_at).await?;
        let envelope = Envelope {
            provider: source.provider,
            source: source.name.clone(),
            received_at,
            request_id: arrival.id.clone(),
        };
        let taken = self.keep(&envelope, &body).await?;
        if let Some(url) = &taken.confirmation {
            self.certificates.confirm(url).await.map_err(|error| {
                tracing::warn!(error = format!("{error:#}"), "subscription not confirmed");
                Problem::Unavailable(source.provider, "subscription_not_confirmed")
            })?;
        }
        Ok(taken)
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

    /// Returns when every event of the body is durable: in Kafka, or, while that does not take
    /// them, on this disk.
    async fn keep(&self, envelope: &Envelope, body: &[u8]) -> Result<Taken, Problem> {
        let unavailable = |code| Problem::Unavailable(envelope.provider, code);
        let place = match self.backlog.enter().await {
            Way::Kafka(under_way) => match self.outlet.publish(envelope, body).await {
                Ok(taken) => return Ok(taken),
                // Kafka is there, and will not take this one later either.
                Err(error @ PublishError::TooLarge) => return Err(unavailable(error.code())),
                Err(error) => self.backlog.divert(under_way, error.code()),
            },
            Way::Backlog(place) => place,
        };
        let taken = survey(envelope.provider, body);
        if taken.is_nothing() {
            return Ok(taken);
        }
        let entry = envelope.seal(body).map_err(|_| unavailable("spool_unfit"))?;
        place.keep(entry).await.map_err(unavailable)?;
        Ok(taken)
    }
}

fn now() -> ReceivedAt {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ReceivedAt(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
