//! What the tests of notify share: a server that receives messages, and incidents to send.
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use alerting::page::PageSettings;
use harness::{DEADLINE, eventually, seen};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use kafka::{Offset, OwnedRecord};
use notify::channel::Channel;
use notify::delivery::{Deliveries, DeliverySettings, Finished, Retry};
use notify::received::Received;
use notify::settings::NotifySettings;
use serde_json::Value;
use service::{Settings, Shutdown};

pub mod sample {
    include!("sample.rs");
}

pub mod alertmanager;
pub mod vendors;

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

    /// Returns the `type` of a webhook, such as `incident.opened`.
    pub fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }

    /// Returns the source of the incident. The tests give each incident another source.
    pub fn source(&self) -> String {
        self.json()["data"]["lead"]["source"].as_str().unwrap().to_owned()
    }
}

/// A response.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<u64>,
    pub location: Option<String>,
    pub body: String,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
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
        Self::answering(move |posted| status(posted).map(Answer::status))
    }

    /// `answer` chooses each response; on `None` there is none.
    pub fn answering(answer: impl Fn(&Posted) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let posted = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::new((answer, Arc::clone(&posted)));
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
    choose: &impl Fn(&Posted) -> Option<Answer>,
    posted: &Mutex<Vec<Posted>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = |value: &hyper::header::HeaderValue| value.to_str().unwrap().to_owned();
    let headers = request.headers().iter().map(|(k, v)| (k.to_string(), text(v))).collect();
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
    let request = Posted { path, headers, body };
    let answer = choose(&request);
    posted.lock().unwrap().push(request);
    let Some(answer) = answer else { std::future::pending().await };
    let mut response = Response::builder().status(answer.status);
    if let Some(seconds) = answer.retry_after {
        response = response.header("retry-after", seconds);
    }
    if let Some(location) = answer.location {
        response = response.header("location", location);
    }
    Ok(response.body(Full::new(answer.body.into())).unwrap())
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

/// Returns the incident of a source as notify reads it from this offset.
pub fn received(change: alerting::Change, seq: u32, source: &str, offset: i64) -> Arc<Received> {
    read(&sample::incident(change, seq, source), offset)
}

/// Reads a value of `mail.incidents` at this offset.
pub fn read(incident: &Value, offset: i64) -> Arc<Received> {
    let record = OwnedRecord {
        topic: "mail.incidents".to_owned(),
        partition: 0,
        offset: Offset(offset),
        key: Vec::new(),
        value: Some(incident.to_string().into_bytes()),
        headers: Vec::new(),
    };
    Arc::new(Received::read(&record).unwrap().unwrap())
}

/// Returns the same incident at another severity: `warning`, `critical` or `page`.
pub fn with_severity(mut incident: Value, severity: &str) -> Value {
    incident["severity"] = severity.into();
    incident["lead"]["severity"] = severity.into();
    incident
}

/// A clock that tests set.
#[derive(Debug, Clone)]
pub struct TestClock(Arc<Mutex<Timestamp>>);

impl TestClock {
    pub fn at(text: &str) -> Self {
        Self(Arc::new(Mutex::new(text.parse().unwrap())))
    }

    pub fn set(&self, text: &str) {
        *self.0.lock().unwrap() = text.parse().unwrap();
    }
}

/// Deliveries without preparation, by the real clock.
#[allow(clippy::disallowed_methods, reason = "tests may read the clock")]
pub fn delivery_settings(retry: Retry) -> DeliverySettings {
    DeliverySettings {
        retry,
        gather: std::time::Duration::ZERO,
        pages: PageSettings::default(),
        clock: Arc::new(Timestamp::now),
    }
}

/// The same by a clock of the test.
pub fn at_clock(retry: Retry, clock: &TestClock) -> DeliverySettings {
    let clock = clock.clone();
    let now = move || *clock.0.lock().unwrap();
    DeliverySettings { clock: Arc::new(now), ..delivery_settings(retry) }
}

/// Starts deliveries to the channels in a list of inline tables.
pub fn start(list: &[String], settings: DeliverySettings) -> (Deliveries, Shutdown) {
    let shutdown = Shutdown::new();
    let channels = channels(&format!("[{}]", list.join(", ")));
    (Deliveries::start(channels, settings, None, shutdown.clone()).unwrap(), shutdown)
}

/// Waits until a channel has finished a record, and returns its offset.
pub fn await_done(deliveries: &mut Deliveries) -> i64 {
    match await_finished(deliveries) {
        Finished::Done(position) => position.offset.0,
        undeliverable => panic!("{undeliverable:?}"),
    }
}

/// Waits until a channel has given a record up, and returns its offset and the detail.
pub fn await_undeliverable(deliveries: &mut Deliveries) -> (i64, String) {
    match await_finished(deliveries) {
        Finished::Undeliverable { positions, failed } => (positions[0].offset.0, failed.detail),
        done => panic!("{done:?}"),
    }
}

fn await_finished(deliveries: &mut Deliveries) -> Finished {
    deliveries.await_finished(DEADLINE);
    deliveries.next_finished().expect("no delivery finished")
}
