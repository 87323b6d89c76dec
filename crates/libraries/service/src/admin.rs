//! The admin port and the signals, on a thread of their own, so that neither a busy nor a stuck
//! main loop silences them.

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

use crate::{Health, Liveness, Readiness, Shutdown, exposition};

/// How often histograms are folded when nobody scrapes; samples pile up until then.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// How long a client may take to send its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The exit status of a process whose second signal found it still draining.
const IMPATIENT_EXIT: i32 = 130;

/// What the endpoints answer from.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) health: Health,
    pub(crate) shutdown: Shutdown,
    pub(crate) metrics: PrometheusHandle,
}

impl Admin {
    /// Listens on `address`, watches the signals, and serves both from a new thread until the
    /// process ends. Returns the address it got, which differs when the port was 0.
    ///
    /// # Errors
    /// When the address is taken or not ours, or signals cannot be watched.
    pub(crate) fn open(self, address: SocketAddr) -> anyhow::Result<SocketAddr> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime
            .block_on(TcpListener::bind(address))
            .with_context(|| format!("the admin port {address} cannot be opened"))?;
        let address = listener.local_addr()?;
        let signals = {
            let _inside = runtime.enter();
            [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?]
        };
        thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || self.run(&runtime, listener, signals))
            .context("the admin thread cannot be started")?;
        Ok(address)
    }

    fn run(self, runtime: &Runtime, listener: TcpListener, signals: [Signal; 2]) {
        runtime.spawn(watch(signals, self.shutdown.clone(), self.health.clone()));
        runtime.spawn(upkeep(self.metrics.clone()));
        runtime.block_on(self.accept(listener));
    }

    async fn accept(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(self.clone().serve(stream))),
                Err(error) => {
                    // Out of file descriptors, most likely: it passes, and must not spin.
                    tracing::warn!(%error, "the admin port cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve(self, stream: TcpStream) {
        let answer = service_fn(|request| {
            let response = self.answer(&request);
            async { Ok::<_, Infallible>(response) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), answer)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "an admin connection ended early");
        }
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/livez") => self.live(),
            (&Method::GET | &Method::HEAD, "/readyz") => self.ready(),
            (&Method::GET | &Method::HEAD, "/metrics") => {
                let text = exposition::render(&self.metrics);
                response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
            }
            (_, "/livez" | "/readyz" | "/metrics") => {
                status(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", Some("use GET"))
            }
            _ => status(StatusCode::NOT_FOUND, "not_found", Some("/livez, /readyz, /metrics")),
        }
    }

    fn live(&self) -> Response<Full<Bytes>> {
        match self.health.liveness() {
            Liveness::Alive => status(StatusCode::OK, "alive", None),
            Liveness::Stuck(age) => {
                let reason = format!("the main loop has not moved for {} s", age.as_secs());
                status(StatusCode::SERVICE_UNAVAILABLE, "stuck", Some(&reason))
            }
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let readiness = self.health.readiness();
        let stopping = self.shutdown.requested() || readiness == Readiness::Draining;
        match readiness {
            _ if stopping => {
                status(StatusCode::SERVICE_UNAVAILABLE, "draining", Some("told to stop"))
            }
            Readiness::Ready => status(StatusCode::OK, "ready", None),
            Readiness::Held(reason) => {
                status(StatusCode::SERVICE_UNAVAILABLE, "held", Some(&reason))
            }
            Readiness::Starting | Readiness::Draining => {
                status(StatusCode::SERVICE_UNAVAILABLE, "starting", Some("not at work yet"))
            }
        }
    }
}

/// The first signal asks for the end; a second one, of somebody who cannot wait, is the end.
async fn watch([mut terminate, mut interrupt]: [Signal; 2], shutdown: Shutdown, health: Health) {
    for first in [true, false] {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        if first {
            tracing::info!(signal = name, "stopping");
            shutdown.request();
            health.draining();
        } else {
            tracing::warn!(signal = name, "stopping at once");
            std::process::exit(IMPATIENT_EXIT);
        }
    }
}

async fn upkeep(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP_EVERY).await;
        metrics.run_upkeep();
    }
}

/// `{"status":…}` or `{"status":…,"reason":…}`.
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
