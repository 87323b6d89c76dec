//! What the tests of notify share: a server that alerts are posted to, and alerts to post.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use notify::channel::Channel;
use notify::delivery::Parcel;
use notify::progress::Ticket;
use notify::settings::NotifySettings;
use notify::transition::Transition;
use serde_json::{Value, json};
use service::Settings;

pub const DEADLINE: Duration = Duration::from_secs(30);

/// A request as it arrived.
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

    /// `alert.fired` and the like, of our own webhooks.
    pub fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }

    /// The scope's source, by which the tests tell episodes apart.
    pub fn source(&self) -> String {
        self.json()["data"]["source"].as_str().unwrap().to_owned()
    }
}

/// A server on loopback that keeps what it is sent.
pub struct Hook {
    pub address: SocketAddr,
    posted: Arc<Mutex<Vec<Posted>>>,
}

impl Hook {
    /// `answer` decides the status of each request; `None` is no answer at all.
    pub fn start(answer: impl Fn(&Posted) -> Option<u16> + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let posted = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new((answer, Arc::clone(&posted)));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let answer = Arc::clone(&answer);
                    let serve = service_fn(move |request| {
                        let answer = Arc::clone(&answer);
                        async move { respond(request, &answer.0, &answer.1).await }
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

    /// Waits until `n` requests came.
    pub fn wait_for(&self, n: usize) -> Vec<Posted> {
        wait_until(&format!("{n} requests"), || {
            let posted = self.posted();
            (posted.len() >= n).then_some(posted)
        })
    }
}

async fn respond(
    request: Request<Incoming>,
    answer: &impl Fn(&Posted) -> Option<u16>,
    posted: &Mutex<Vec<Posted>>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let text = |value: &hyper::header::HeaderValue| value.to_str().unwrap().to_owned();
    let headers = request.headers().iter().map(|(k, v)| (k.to_string(), text(v))).collect();
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
    let request = Posted { path, headers, body };
    let status = answer(&request);
    posted.lock().unwrap().push(request);
    let Some(status) = status else { std::future::pending().await };
    Ok(Response::builder().status(status).body(Empty::new()).unwrap())
}

/// Waits until `probe` yields something.
pub fn wait_until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The channels of a TOML list of inline tables, read the way the binary reads them.
pub fn channels(list: &str) -> Vec<Channel> {
    let settings = settings(list);
    NotifySettings::read(&settings).unwrap().channels(&settings).unwrap()
}

pub fn settings(list: &str) -> Settings {
    let variable = ("MAILPULSE__NOTIFY__CHANNEL".to_owned(), list.to_owned());
    Settings::load(None, std::iter::once(variable)).unwrap()
}

/// The start of every episode here: 2023-11-14T22:13:20Z.
pub const START: i64 = 1_700_000_000_000_000;

/// What happened and how bad it is, in `monitor`'s words.
pub const FIRED: (&str, &str, i64) = ("firing", "warning", START);
pub const ESCALATED: (&str, &str, i64) = ("firing", "critical", START + 60_000_000);
pub const RESOLVED: (&str, &str, i64) = ("resolved", "critical", START + 120_000_000);

/// A record's value: the episode of `source`'s campaign "spring sale".
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

/// The same as it comes to the channels, with its own offset.
pub fn parcel(step: (&str, &str, i64), source: &str, offset: i64) -> Arc<Parcel> {
    let transition = Transition::read(Some(&alert(step, source))).unwrap();
    Arc::new(Parcel { ticket: Ticket { partition: 0, offset }, transition })
}
