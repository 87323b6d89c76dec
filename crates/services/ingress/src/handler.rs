//! One request, from its head to its answer.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use event::ReceivedAt;
use http::{HeaderValue, Method, Request, header};
use hyper::body::Incoming;
use privacy::Pseudonyms;
use providers::Received;
use kafka::PublishError;

use crate::backlog::{Backlog, Way};
use crate::body::{Reader, Whole};
use crate::envelope::Envelope;
use crate::gate::{Admission, Gate};
use crate::meters::Meters;
use crate::outlet::{Outlet, Taken, survey};
use crate::problem::{Answer, Problem, receipt};
use crate::request_id::RequestIds;
use crate::settings::IngressSettings;
use crate::sources::{Source, Sources};

/// All that a request needs.
pub(crate) struct Ingress {
    sources: Sources,
    gate: Gate,
    reader: Reader,
    pseudonyms: Option<Pseudonyms>,
    outlet: Arc<Outlet>,
    backlog: Arc<Backlog>,
    meters: Meters,
    request_ids: RequestIds,
    /// Whether clients are asked to come to another process next time.
    is_leaving: AtomicBool,
}

/// What is known of a request before its head.
struct Arrival {
    id: String,
    started: Instant,
    /// The other end of the connection.
    peer: IpAddr,
}

impl Ingress {
    pub(crate) fn new(
        sources: Sources,
        gate: Gate,
        pseudonyms: Option<Pseudonyms>,
        outlet: Arc<Outlet>,
        backlog: Arc<Backlog>,
        settings: &IngressSettings,
    ) -> Self {
        Self {
            sources,
            gate,
            reader: Reader::new(settings.body_bytes, settings.read_timeout),
            pseudonyms,
            outlet,
            backlog,
            meters: Meters::new(),
            request_ids: RequestIds::new(),
            is_leaving: AtomicBool::new(false),
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

    /// Answers one request from the other end of its connection.
    pub(crate) async fn handle(&self, request: Request<Incoming>, peer: IpAddr) -> Answer {
        let mut answer = self.answer(request, peer).await;
        if self.is_leaving.load(Ordering::Relaxed) {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    async fn answer(&self, request: Request<Incoming>, peer: IpAddr) -> Answer {
        let arrival = Arrival { id: self.request_ids.next(now()), started: Instant::now(), peer };
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
        let client = self.gate.client(arrival.peer, &head.headers);
        self.gate.pass(source, client)?;
        let mut body = self.reader.read(source.provider, &head.headers, body).await?;
        let received_at = now();
        let received = Received {
            headers: &head.headers,
            body: &body.bytes,
            remote_ip: Some(client),
            now: received_at.micros() / 1_000_000,
        };
        let admission = self.gate.admit(source, &received, &arrival.id).await?;
        self.pseudonymise(source, &mut body).await?;
        keep_pace(source, &body.bytes)?;
        let envelope = Envelope {
            provider: source.provider,
            source: source.name.clone(),
            received_at,
            request_id: arrival.id.clone(),
        };
        let taken = self.keep(&envelope, &body.bytes).await?;
        if let (Some(url), Admission::Authentic) = (&taken.confirmation, admission) {
            self.gate.confirm(source, url).await?;
        }
        Ok(taken)
    }

    /// From here on nobody's address is known, where that is wanted: not to Kafka, and not to the
    /// spool.
    async fn pseudonymise(&self, source: &Source, body: &mut Whole) -> Result<(), Problem> {
        let Some(pseudonyms) = &self.pseudonyms else { return Ok(()) };
        if let Cow::Owned(rewritten) = pseudonyms.body(&body.bytes) {
            self.reader.more(source.provider, body, rewritten.len()).await?;
            body.bytes = Bytes::from(rewritten);
        }
        Ok(())
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

/// Refuses what is more than the source may post.
fn keep_pace(source: &Source, body: &[u8]) -> Result<(), Problem> {
    let Some(pace) = &source.pace else { return Ok(()) };
    let events = survey(source.provider, body).accepted;
    pace.take(events).map_err(|wait| Problem::TooFast(source.provider, wait))
}

fn now() -> ReceivedAt {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ReceivedAt(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
