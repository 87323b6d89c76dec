//! What the tests of notify share: a server that receives alerts, and alerts to send.
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use harness::{DEADLINE, eventually, seen};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use notify::channel::Channel;
use notify::delivery::Delivery;
use notify::progress::Position;
use notify::settings::NotifySettings;
use notify::transition::Transition;
use serde_json::{Value, json};
use service::Settings;

/// A received request.
#[derive(Debug, Clone)]
pub struct Posted {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Posted {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Returns the `type` of a webhook, such as `alert.fired`.
    pub fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }

    /// Returns the source of the scope. The tests give each episode another source.
    pub fn source(&self) -> String {
        self.json()["data"]["source"].as_str().unwrap().to_owned()
    }
}

/// A server on this machine that keeps the requests it receives.
pub struct Hook {
    pub address: SocketAddr,
    posted: Arc<Mutex<Vec<Posted>>>,
}

impl Hook {
    /// `status` chooses the status of each response; on `None` there is no response.
    pub fn start(status: impl Fn(&Posted) -> Option<u16> + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let posted = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::new((status, Arc::clone(&posted)));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let shared = Arc::clone(&shared);
                    let serve = service_fn(move |request| {
                        let shared = Arc::clone(&shared);
                        async move { respond(request, &shared.0, &shared.1).await }
                    });
                    tokio::spawn(
                        http1::Builder::new().serve_connection(TokioIo::new(stream), serve),
                    );
                }
            });
        });
        Self { address, posted }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub fn posted(&self) -> Vec<Posted> {
        self.posted.lock().unwrap().clone()
    }

    /// Waits until `n` requests were received, and returns all.
    pub fn wait_for(&self, n: usize) -> Vec<Posted> {
        let what = format!("{n} requests to be received");
        eventually(&what, DEADLINE, || seen(self.posted(), |posted| posted.len() >= n))
    }
}

async fn respond(
    request: Request<Incoming>,
    choose_status: &impl Fn(&Posted) -> Option<u16>,
    posted: &Mutex<Vec<Posted>>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let text = |value: &hyper::header::HeaderValue| value.to_str().unwrap().to_owned();
    let headers = request.headers().iter().map(|(k, v)| (k.to_string(), text(v))).collect();
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
    let request = Posted { path, headers, body };
    let status = choose_status(&request);
    posted.lock().unwrap().push(request);
    let Some(status) = status else { std::future::pending().await };
    Ok(Response::builder().status(status).body(Empty::new()).unwrap())
}

/// Reads the channels in a TOML list of inline tables as the binary does.
pub fn channels(list: &str) -> Vec<Channel> {
    let settings = settings(list);
    NotifySettings::read(&settings).unwrap().channels(&settings).unwrap()
}

pub fn settings(list: &str) -> Settings {
    let variable = ("MAILPULSE__NOTIFY__CHANNEL".to_owned(), list.to_owned());
    Settings::load(None, std::iter::once(variable)).unwrap()
}

/// The start of every episode: 2023-11-14T22:13:20Z.
pub const START: i64 = 1_700_000_000_000_000;

/// State, severity and time of the transitions of an episode, as monitor writes them.
pub const FIRED: (&str, &str, i64) = ("firing", "warning", START);
pub const ESCALATED: (&str, &str, i64) = ("firing", "critical", START + 60_000_000);
pub const RESOLVED: (&str, &str, i64) = ("resolved", "critical", START + 120_000_000);

/// Returns a value of `mail.alerts` for the episode of the campaign "spring sale" of a source.
pub fn alert((state, severity, at): (&str, &str, i64), source: &str) -> Vec<u8> {
    let digest: u64 = source.bytes().fold(7, |hash, byte| hash * 31 + u64::from(byte));
    json!({
        "episode_id": format!("{digest:032x}"),
        "rule": "bounce_rate",
        "scope": "campaign",
        "provider": "sendgrid",
        "source": source,
        "campaign": "spring sale",
        "severity": severity,
        "state": state,
        "metric": "bounce",
        "width": "5m",
        "value": 0.075,
        "threshold": 0.05,
        "numerator": 15,
        "volume": 200,
        "started_at": START,
        "at": at,
        "runbook": "docs/runbooks.md#bounce-rate",
        "summary": "bounce rate 7.5 % in 5m (15 of 200 sent), over 5 %",
    })
    .to_string()
    .into_bytes()
}

/// Returns the same transition as channels get it, with this offset.
pub fn delivery(transition: (&str, &str, i64), source: &str, offset: i64) -> Arc<Delivery> {
    let transition = Transition::read(Some(&alert(transition, source))).unwrap();
    let position = Position { partition: 0, offset: kafka::Offset(offset) };
    Arc::new(Delivery { position, transition })
}
