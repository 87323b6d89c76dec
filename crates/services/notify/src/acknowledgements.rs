//! Takes acknowledgements over from PagerDuty: receives its webhooks (version 3,
//! <https://developer.pagerduty.com/docs/webhooks-overview>) and writes the same action to `mail.alerts` as
//! `mailpulse alerts acknowledge`.
//!
//! Only what a person did counts. PagerDuty also reports the `acknowledge` events that the channel
//! `pagerduty` sends; taking those over would go on for ever.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use alerting::{Action, IncidentId};
use anyhow::Context;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use kafka::{Connection, PreparedHeaders, Publisher, PublisherSettings};
use serde::Deserialize;
use service::Secret;
use sha2::Sha256;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// The path that PagerDuty posts to.
pub const PATH: &str = "/pagerduty";

/// The largest body, in bytes. A webhook of PagerDuty has about two kilobytes.
const MAX_BODY: usize = 64 * 1024;

/// How many connections may be open at once. Further ones wait until one is closed.
const MAX_CONNECTIONS: usize = 32;

/// The time in which a request must have arrived.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait until Kafka has stored an action. PagerDuty repeats a request that is not answered.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);

/// A webhook of PagerDuty, as far as it is used.
#[derive(Debug, Deserialize)]
struct Webhook {
    event: Event,
}

#[derive(Debug, Deserialize)]
struct Event {
    event_type: String,
    #[serde(default)]
    agent: Option<Agent>,
    #[serde(default)]
    data: PagerDutyIncident,
}

/// Who caused the event. `type` is `user_reference` for a person.
#[derive(Debug, Deserialize)]
struct Agent {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    summary: Option<String>,
    #[serde(default)]
    id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct PagerDutyIncident {
    /// The `dedup_key` of the events of the incident: for ours, the id of our incident.
    #[serde(default)]
    incident_key: Option<String>,
}

/// Receives the webhooks of PagerDuty.
pub struct Acknowledgements {
    secrets: Vec<Secret>,
    publisher: Publisher,
    alerts: String,
}

impl Acknowledgements {
    /// `secrets` are those of the webhook subscriptions: one, and two while it is rotated. `alerts` is the
    /// topic of actions.
    ///
    /// # Errors
    /// If the producer cannot be created.
    pub fn new(
        connection: &Connection,
        alerts: String,
        secrets: Vec<Secret>,
    ) -> Result<Self, kafka::Error> {
        let settings = PublisherSettings {
            linger: Duration::ZERO,
            queue_bytes: 1 << 20,
            ack_timeout: Some(ACK_TIMEOUT),
        };
        let publisher = Publisher::open(connection, "notify-acknowledgements", settings)?;
        Ok(Self { secrets, publisher, alerts })
    }

    /// Serves requests on a thread of its own until the process ends. Returns the address with the actual
    /// port, which differs if the port was 0.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn open(self, address: SocketAddr) -> anyhow::Result<SocketAddr> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(address)).with_context(|| {
            format!("cannot listen on notify.acknowledgements.listen {address}")
        })?;
        let address = listener.local_addr()?;
        tracing::info!(%address, "listening for acknowledgements of PagerDuty");
        thread::Builder::new()
            .name("acknowledgements".to_owned())
            .spawn(move || runtime.block_on(Arc::new(self).accept(listener)))?;
        Ok(address)
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let server = Arc::clone(&self);
                    tokio::spawn(async move {
                        server.serve(stream).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Most likely the process has no free file descriptor. A pause avoids a busy loop.
                    tracing::warn!(%error, "cannot accept a connection of PagerDuty");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Answers one request. A connection is not kept, so it cannot take the place of others.
    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let respond =
            service_fn(|request| async { Ok::<_, Infallible>(self.respond(request).await) });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_TIMEOUT)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), respond);
        match tokio::time::timeout(REQUEST_TIMEOUT + ACK_TIMEOUT, served).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "a connection of PagerDuty ended with an error")
            }
            Err(_) => {
                tracing::debug!("a connection of PagerDuty was closed, because it took too long")
            }
        }
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match self.receive(request).await {
            Ok(outcome) => {
                count(outcome);
                response(StatusCode::ACCEPTED, "accepted", outcome)
            }
            Err(refusal) => {
                count(refusal.code());
                tracing::warn!(
                    code = refusal.code(),
                    "a request to the receiver of acknowledgements was refused: {refusal}"
                );
                response(refusal.status(), refusal.code(), &refusal.to_string())
            }
        }
    }

    /// Returns what was done.
    async fn receive(&self, request: Request<Incoming>) -> Result<&'static str, Refusal> {
        if request.uri().path() != PATH {
            return Err(Refusal::NotFound);
        }
        if request.method() != Method::POST {
            return Err(Refusal::WrongMethod);
        }
        let (head, body) = request.into_parts();
        let signatures = head.headers.get_all("x-pagerduty-signature").iter();
        let signatures: Vec<_> = signatures.filter_map(|value| value.to_str().ok()).collect();
        let body = tokio::time::timeout(REQUEST_TIMEOUT, Limited::new(body, MAX_BODY).collect());
        let body = body.await.map_err(|_| Refusal::TooSlow)?;
        let body = body.map_err(|_| Refusal::TooLarge)?.to_bytes();
        if !self.is_signed(&signatures, &body) {
            return Err(Refusal::WrongSignature);
        }
        let webhook: Webhook = serde_json::from_slice(&body)?;
        match acknowledgement(webhook.event) {
            Ok(action) => self.publish(&action).await.map(|()| "acknowledged"),
            Err(ignored) => Ok(ignored),
        }
    }

    /// Returns whether one of the signatures (`v1=…,v1=…`, several while a secret is rotated) is right.
    fn is_signed(&self, signatures: &[&str], body: &[u8]) -> bool {
        let signatures = signatures.iter().flat_map(|it| it.split(',')).take(8);
        let mut signatures =
            signatures.filter_map(|it| hex::decode(it.trim().strip_prefix("v1=")?).ok());
        signatures.any(|signature| {
            self.secrets.iter().any(|secret| {
                let mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes());
                mac.is_ok_and(|mac| mac.chain_update(body).verify_slice(&signature).is_ok())
            })
        })
    }

    async fn publish(&self, action: &Action) -> Result<(), Refusal> {
        let value = serde_json::to_vec(action)?;
        let batch = self.publisher.batch();
        // The incidents stage forwards what is in other partitions to partition 0, where all alerts are.
        let sent = batch.send(&self.alerts, Action::KEY, &value, &PreparedHeaders::new(&[]));
        sent.map_err(|error| Refusal::Kafka(error.to_string()))?;
        batch.acknowledged().await.map_err(|error| Refusal::Kafka(error.to_string()))
    }
}

/// Returns the action of an event, or why it is ignored.
fn acknowledgement(event: Event) -> Result<Action, &'static str> {
    if event.event_type != "incident.acknowledged" {
        return Err("ignored_event");
    }
    let Some(agent) = event.agent.filter(|agent| agent.kind.starts_with("user")) else {
        return Err("ignored_automatic");
    };
    // The service in PagerDuty may also have incidents of other systems.
    let incident = event.data.incident_key.and_then(|key| IncidentId::try_from(key).ok());
    let incident = incident.ok_or("ignored_incident")?;
    let name = agent.summary.or(agent.id).filter(|name| !name.is_empty());
    let by = format!("{} (PagerDuty)", name.as_deref().unwrap_or("somebody"));
    let by = by.chars().take(Action::MAX_TEXT).collect();
    Ok(Action::Acknowledge { incident, by })
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("only {PATH} exists; correct the URL of the webhook subscription")]
    NotFound,
    #[error("only POST is allowed")]
    WrongMethod,
    #[error("the body did not arrive within {} s", REQUEST_TIMEOUT.as_secs())]
    TooSlow,
    #[error("the body is incomplete or larger than {MAX_BODY} bytes")]
    TooLarge,
    #[error(
        "no signature in X-PagerDuty-Signature is right; put the secret of the webhook subscription into \
         notify.acknowledgements.secrets"
    )]
    WrongSignature,
    #[error("the body is not a webhook of PagerDuty of version 3: {0}")]
    NotAWebhook(#[from] serde_json::Error),
    #[error("Kafka did not store the acknowledgement: {0}")]
    Kafka(String),
}

impl Refusal {
    const fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::WrongSignature => StatusCode::UNAUTHORIZED,
            Self::NotAWebhook(_) => StatusCode::BAD_REQUEST,
            Self::Kafka(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    const fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::WrongMethod => "method_not_allowed",
            Self::TooSlow => "too_slow",
            Self::TooLarge => "too_large",
            Self::WrongSignature => "wrong_signature",
            Self::NotAWebhook(_) => "not_a_webhook",
            Self::Kafka(_) => "kafka_unavailable",
        }
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("mailpulse_notify_acknowledgement_requests_total", "outcome" => outcome)
        .increment(1);
}

/// Returns a response with the body `{"code":…,"detail":…}`.
fn response(status: StatusCode, code: &str, detail: &str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({ "code": code, "detail": detail }).to_string();
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn event(json: serde_json::Value) -> Event {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn only_what_a_person_acknowledges_is_taken_over() {
        let id = "48c0b3026c5df4d4b4ea72268e6d7ba0";
        let of = |kind: &str, agent: &str, key: &str| {
            acknowledgement(event(serde_json::json!({
                "event_type": kind,
                "agent": { "type": agent, "summary": "Ada", "id": "P1" },
                "data": { "incident_key": key },
            })))
        };
        let action = of("incident.acknowledged", "user_reference", id).unwrap();
        let incident = IncidentId::try_from(id.to_owned()).unwrap();
        assert_eq!(action, Action::Acknowledge { incident, by: "Ada (PagerDuty)".to_owned() });
        assert_eq!(of("incident.resolved", "user_reference", id), Err("ignored_event"));
        let automatic = of("incident.acknowledged", "service_reference", id);
        assert_eq!(automatic, Err("ignored_automatic"));
        let foreign = of("incident.acknowledged", "user_reference", "disk-full");
        assert_eq!(foreign, Err("ignored_incident"));
        let without = event(serde_json::json!({ "event_type": "incident.acknowledged" }));
        assert_eq!(acknowledgement(without), Err("ignored_automatic"));
    }
}
