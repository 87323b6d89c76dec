//! The admin port and the signal handlers. They have their own thread, so that they work while the
//! main loop is busy or stuck.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::condition::{Condition, Grade};
use crate::{Health, Liveness, Readiness, Shutdown, exposition};

/// Histogram samples occupy memory until a scrape or this regular upkeep aggregates them.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The time in which a client must send the head of its request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The exit status after a second signal.
const EXIT_AFTER_SECOND_SIGNAL: i32 = 130;

/// The state that the endpoints report.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) health: Health,
    pub(crate) shutdown: Shutdown,
    pub(crate) metrics: PrometheusHandle,
}

impl Admin {
    /// Listens on `address` and installs the signal handlers, on a new thread that runs until the
    /// process ends. Returns the address with the actual port, which differs if the port was 0.
    ///
    /// # Errors
    /// Fails if the address cannot be bound or the signal handlers cannot be installed.
    pub(crate) fn open(self, address: SocketAddr) -> anyhow::Result<SocketAddr> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime
            .block_on(TcpListener::bind(address))
            .with_context(|| format!("cannot open the admin port {address}"))?;
        let address = listener.local_addr()?;
        let signals = {
            let _entered = runtime.enter();
            [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?]
        };
        thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || self.run(&runtime, listener, signals))
            .context("cannot start the admin thread")?;
        Ok(address)
    }

    fn run(self, runtime: &Runtime, listener: TcpListener, signals: [Signal; 2]) {
        runtime.spawn(await_signals(signals, self.shutdown.clone(), self.health.clone()));
        runtime.spawn(upkeep(self.metrics.clone()));
        runtime.block_on(self.accept(listener));
    }

    async fn accept(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(self.clone().serve(stream))),
                Err(error) => {
                    // Most likely the process has no free file descriptor. A pause avoids a busy
                    // loop until it has.
                    tracing::warn!(%error, "cannot accept a connection on the admin port");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve(self, stream: TcpStream) {
        let respond = service_fn(|request| {
            let response = self.respond(&request);
            async { Ok::<_, Infallible>(response) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), respond)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "connection to the admin port ended with an error");
        }
    }

    fn respond<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/livez") => self.live(),
            (&Method::GET | &Method::HEAD, "/readyz") => self.ready(),
            (&Method::GET | &Method::HEAD, "/metrics") => {
                let text = exposition::render(&self.metrics);
                response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
            }
            (&Method::GET | &Method::HEAD, "/health") => self.condition(),
            (_, "/livez" | "/readyz" | "/health" | "/metrics") => {
                status(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", Some("use GET"))
            }
            _ => status(
                StatusCode::NOT_FOUND,
                "not_found",
                Some("/livez, /readyz, /health, /metrics"),
            ),
        }
    }

    fn live(&self) -> Response<Full<Bytes>> {
        match self.health.liveness() {
            Liveness::Alive => status(StatusCode::OK, "alive", None),
            Liveness::Stuck(age) => {
                let reason = format!("the main loop has made no progress for {} s", age.as_secs());
                status(StatusCode::SERVICE_UNAVAILABLE, "stuck", Some(&reason))
            }
        }
    }

    fn condition(&self) -> Response<Full<Bytes>> {
        let exposition = exposition::render(&self.metrics);
        let condition = Condition::of(&self.health, self.shutdown.requested(), &exposition);
        let code = match condition.status {
            Grade::Critical => StatusCode::SERVICE_UNAVAILABLE,
            Grade::Healthy | Grade::Degraded => StatusCode::OK,
        };
        response(code, "application/json", serde_json::json!(condition).to_string())
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let readiness = self.health.readiness();
        let stopping = self.shutdown.requested() || readiness == Readiness::Draining;
        match readiness {
            _ if stopping => status(
                StatusCode::SERVICE_UNAVAILABLE,
                "draining",
                Some("the process is shutting down"),
            ),
            Readiness::Ready => status(StatusCode::OK, "ready", None),
            Readiness::Held(reason) => {
                status(StatusCode::SERVICE_UNAVAILABLE, "held", Some(&reason))
            }
            Readiness::Starting | Readiness::Draining => {
                status(StatusCode::SERVICE_UNAVAILABLE, "starting", Some("the process is starting"))
            }
        }
    }
}

/// Requests the shutdown on the first signal and exits at once on the second.
async fn await_signals(
    [mut terminate, mut interrupt]: [Signal; 2],
    shutdown: Shutdown,
    health: Health,
) {
    for first in [true, false] {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        if first {
            tracing::info!(signal = name, "signal received; shutting down");
            shutdown.request();
            health.draining();
        } else {
            tracing::warn!(signal = name, "second signal received; exiting at once");
            std::process::exit(EXIT_AFTER_SECOND_SIGNAL);
        }
    }
}

async fn upkeep(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP_EVERY).await;
        metrics.run_upkeep();
    }
}

/// Returns a response with the body `{"status":…}` or `{"status":…,"reason":…}`.
fn status(code: StatusCode, status: &str, reason: Option<&str>) -> Response<Full<Bytes>> {
    let mut body = serde_json::json!({ "status": status });
    if let Some(reason) = reason {
        body["reason"] = reason.into();
    }
    response(code, "application/json", body.to_string())
}

fn response(code: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}
