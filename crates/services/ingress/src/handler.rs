//! Handles one request, from its head to its response.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use event::{Provider, ReceivedAt};
use http::{HeaderMap, HeaderValue, Method, Request, header};
use hyper::body::Incoming;
use privacy::Pseudonymizer;
use providers::{Content, Mappings, SplitBody, profile};
use record::RawHeaders;

use crate::admission::{Admission, AdmissionControl, UnverifiedRequest};
use crate::backlog::{Backlog, Route};
use crate::body_memory::BodyMemory;
use crate::body_reader::{BodyReader, RequestBody};
use crate::current::Current;
use crate::heavy_work::HeavyWork;
use crate::limits::Limit;
use crate::low_watermark::Received;
use crate::problem::{HttpResponse, Problem, receipt};
use crate::raw_publisher::RawPublisher;
use crate::rejection_log::RejectionLog;
use crate::request_id::RequestIds;
use crate::request_metrics::{UNKNOWN, count_rejected};
use crate::settings::IngressSettings;
use crate::sources::{self, Source, Sources};
use crate::split_request::{Acceptance, SplitRequest};

/// So little memory is not worth the lock.
const FEW_BYTES: usize = 4096;

pub(crate) struct Ingress {
    /// A request uses the list that was current when its head arrived.
    sources: Current<Sources>,
    admission: AdmissionControl,
    reader: BodyReader,
    pseudonymizer: Option<Pseudonymizer>,
    publisher: Arc<RawPublisher>,
    backlog: Arc<Backlog>,
    request_ids: RequestIds,
    rejection_log: RejectionLog,
    /// If true, every response closes its connection.
    close_connections: AtomicBool,
}

/// The properties of a request that do not depend on its source or body.
struct Arrival {
    request_id: String,
    started: Instant,
    client: IpAddr,
}

impl Ingress {
    pub(crate) fn new(
        sources: Sources,
        admission: AdmissionControl,
        work: HeavyWork,
        pseudonymizer: Option<Pseudonymizer>,
        publisher: Arc<RawPublisher>,
        backlog: Arc<Backlog>,
        settings: &IngressSettings,
    ) -> Self {
        let memory = BodyMemory::new(settings.memory_limits());
        let (timeout, min_rate) = (settings.read_timeout, settings.min_body_rate.get());
        Self {
            sources: Current::new(sources),
            admission,
            reader: BodyReader::new(memory, work, timeout, min_rate),
            pseudonymizer,
            publisher,
            backlog,
            request_ids: RequestIds::new(),
            rejection_log: RejectionLog::new(),
            close_connections: AtomicBool::new(false),
        }
    }

    /// Returns the current sources.
    pub(crate) fn sources(&self) -> Arc<Sources> {
        self.sources.load()
    }

    /// Uses other sources for all requests that begin from now on. `mappings` has those of these sources.
    pub(crate) fn replace_sources(&self, sources: Sources, mappings: Mappings) {
        // First, because a request of a new source must find its mapping.
        self.publisher.replace_mappings(mappings);
        self.sources.replace(sources);
    }

    pub(crate) const fn publisher(&self) -> &Arc<RawPublisher> {
        &self.publisher
    }

    pub(crate) const fn backlog(&self) -> &Arc<Backlog> {
        &self.backlog
    }

    /// From now on every response closes its connection, so that clients send their next request to
    /// another process. Closing idle connections instead would break requests that are just being
    /// sent.
    pub(crate) fn close_after_response(&self) {
        self.close_connections.store(true, Ordering::Relaxed);
    }

    /// Handles one request. `peer` is the other end of the connection.
    pub(crate) async fn handle(&self, request: Request<Incoming>, peer: IpAddr) -> HttpResponse {
        // A connection with many requests in its buffer would otherwise handle all of them before any
        // other connection gets its turn.
        tokio::task::yield_now().await;
        let mut response = self.respond(request, peer).await;
        if self.close_connections.load(Ordering::Relaxed) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn respond(&self, request: Request<Incoming>, peer: IpAddr) -> HttpResponse {
        let arrival = Arrival {
            request_id: self.request_ids.next(self.backlog.watermark().now()),
            started: Instant::now(),
            client: self.admission.client_address(peer, request.headers()),
        };
        let sources = self.sources.load();
        let source = sources.find(request.uri().path());
        match self.take(source, request, &arrival).await {
            Ok(acceptance) => {
                if let Some(source) = source {
                    let duration = arrival.started.elapsed();
                    source.metrics.count_accepted(&acceptance.kinds, duration);
                }
                receipt(&arrival.request_id, acceptance.accepted, acceptance.dead_lettered)
            }
            Err(problem) => self.reject(&problem, source, &arrival),
        }
    }

    async fn take(
        &self,
        source: Option<&Arc<Source>>,
        request: Request<Incoming>,
        arrival: &Arrival,
    ) -> Result<Acceptance, Problem> {
        let client = arrival.client;
        // The answer to other methods does not depend on the source, so that nobody can search for the
        // names of sources with them.
        let provider = sources::read_path(request.uri().path()).map(|(provider, _)| provider);
        if provider.is_some() {
            match *request.method() {
                Method::POST => {}
                // Mandrill checks with HEAD if the URL exists.
                Method::HEAD => return Ok(Acceptance::default()),
                _ => return Err(Problem::MethodNotAllowed),
            }
        }
        let Some(source) = source else {
            return Err(self.admission.reject_unknown(provider, client));
        };
        if source.is_disabled {
            return Err(self.admission.reject_disabled(source, client));
        }
        let (head, body) = request.into_parts();
        if let Err(problem) = self.admission.check_head(source, client, &head.headers) {
            self.reader.discard(source.provider, client, body).await;
            return Err(problem);
        }
        let bad_body = |problem| self.admission.reject_body(source, client, problem);
        let body = self.reader.read(source.provider, client, &head.headers, body).await;
        let body = body.map_err(bad_body)?;
        let suspect = self.admission.await_turn(source, client).await?;
        let mut body = self.reader.decode(body).await.map_err(bad_body)?;
        let received = self.backlog.watermark().receive();
        let received_at = received.at();
        let admission = self.verify(source, head.headers, &mut body, received_at, arrival).await?;
        drop(suspect);
        self.pseudonymize(source, &mut body).await?;
        let bytes = body.bytes.clone();
        let request = self.publisher.split(source.provider, &source.name, &bytes);
        self.reserve_split(source, &request, &mut body).await?;
        check_rate_limit(source, &request)?;
        let headers = RawHeaders {
            provider: source.provider,
            source: &source.name,
            received_at,
            request_id: &arrival.request_id,
            authentic: admission == Admission::Authentic,
        };
        self.keep(&headers, &request, received).await?;
        if let Some(limit) = request.over_limit() {
            source.metrics.count_over_limit(limit);
        }
        self.handle_subscription(source, &request, admission).await?;
        Ok(request.acceptance())
    }

    /// Verifies a request, and reserves the memory that this takes. The memory of an authentic
    /// request no longer counts against the share of its client.
    async fn verify(
        &self,
        source: &Arc<Source>,
        headers: HeaderMap,
        body: &mut RequestBody,
        received_at: ReceivedAt,
        arrival: &Arrival,
    ) -> Result<Admission, Problem> {
        let copies = profile(source.provider).verification_copies * body.bytes.len();
        if copies > FEW_BYTES {
            self.reader.reserve(source.provider, body, copies).await?;
        }
        let request = UnverifiedRequest {
            headers: Arc::new(headers),
            body: body.bytes.clone(),
            client: arrival.client,
            now: received_at.micros() / 1_000_000,
        };
        let admission = self.admission.verify(source, &request, &arrival.request_id).await?;
        if copies > FEW_BYTES {
            body.reservation.shrink(copies);
        }
        if admission == Admission::Authentic {
            body.reservation.release_share();
        }
        Ok(admission)
    }

    /// Counts the memory of the split events, which are kept until the request is durable.
    async fn reserve_split(
        &self,
        source: &Source,
        request: &SplitRequest<'_>,
        body: &mut RequestBody,
    ) -> Result<(), Problem> {
        match request.memory_bytes() {
            0..=FEW_BYTES => Ok(()),
            bytes => self.reader.reserve(source.provider, body, bytes).await,
        }
    }

    /// If pseudonyms are configured, replaces every address before the body reaches Kafka or the
    /// spool.
    async fn pseudonymize(&self, source: &Source, body: &mut RequestBody) -> Result<(), Problem> {
        let Some(pseudonymizer) = &self.pseudonymizer else { return Ok(()) };
        let (pseudonymizer, bytes) = (pseudonymizer.clone(), body.bytes.clone());
        let rewrite = move || match pseudonymizer.rewrite_body(&bytes) {
            Cow::Owned(rewritten) => Some(rewritten),
            Cow::Borrowed(_) => None,
        };
        if let Some(rewritten) = self.admission.run(body.bytes.len(), rewrite).await {
            self.reader.reserve(source.provider, body, rewritten.len()).await?;
            body.bytes = Bytes::from(rewritten);
        }
        Ok(())
    }

    /// Returns when every event of the request is durable: in Kafka, or in the spool if Kafka is
    /// unavailable.
    async fn keep(
        &self,
        headers: &RawHeaders<'_>,
        request: &SplitRequest<'_>,
        mut received: Received<'_>,
    ) -> Result<(), Problem> {
        let unavailable = |code| Problem::Unavailable(headers.provider, code);
        let ticket = match self.backlog.route().await {
            Route::Kafka(in_flight) => {
                received.publishing(self.publisher.ack_timeout());
                match self.publisher.publish(headers, request).await {
                    Ok(()) => {
                        received.durable();
                        return Ok(());
                    }
                    Err(error) => self.backlog.divert(in_flight, error.code()),
                }
            }
            Route::Spool(ticket) => ticket,
        };
        if request.is_empty() {
            return Ok(());
        }
        let entry = spool::request::encode(headers, request.body);
        let entry = entry.map_err(|_| unavailable("spool_unfit"))?;
        // Before the write: the segment may be published before this task continues. If the client leaves
        // meanwhile, the entry is written all the same.
        self.backlog.watermark().spool(received.at());
        match ticket.write(entry).await {
            Ok(()) => {
                received.durable();
                Ok(())
            }
            Err(code) => {
                self.backlog.watermark().not_spooled(received.at());
                Err(unavailable(code))
            }
        }
    }

    async fn handle_subscription(
        &self,
        source: &Source,
        request: &SplitRequest<'_>,
        admission: Admission,
    ) -> Result<(), Problem> {
        let source_name = &source.name;
        match request.split.as_ref().map(SplitBody::content) {
            Ok(Content::ConfirmSubscription { topic, subscribe_url }) => {
                tracing::info!(
                    source = source_name,
                    topic,
                    "SNS requests the confirmation of a subscription"
                );
                if admission == Admission::Authentic {
                    self.admission.confirm_subscription(source, subscribe_url).await?;
                }
            }
            Ok(Content::Unsubscribed { topic }) => {
                tracing::warn!(source = source_name, topic, "SNS ended a subscription");
            }
            _ => {}
        }
        Ok(())
    }

    fn reject(
        &self,
        problem: &Problem,
        source: Option<&Arc<Source>>,
        arrival: &Arrival,
    ) -> HttpResponse {
        let provider = source.map_or(UNKNOWN, |source| Provider::as_str(source.provider));
        let name = source.map_or(UNKNOWN, |source| &source.name);
        count_rejected((provider, name), problem);
        if let Some(omitted) = self.rejection_log.next() {
            tracing::info!(
                provider,
                source = name,
                client = %arrival.client,
                code = problem.code(),
                request_id = arrival.request_id,
                omitted,
                "request rejected"
            );
        }
        problem.response(&arrival.request_id)
    }
}

fn check_rate_limit(source: &Source, request: &SplitRequest<'_>) -> Result<(), Problem> {
    let Some(limit) = &source.rate_limit else { return Ok(()) };
    limit.check(request.event_count()).map_err(|wait| {
        Limit::SourceRate.count();
        Problem::RateLimited(source.provider, wait)
    })
}
