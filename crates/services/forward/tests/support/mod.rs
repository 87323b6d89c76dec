//! What the tests of forward share: a receiver that verifies signatures, and events.
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use harness::{Cluster, DEADLINE, Launch, Outgoing, eventually, seen};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use record::names;
use serde_json::Value;
use standardwebhooks::Webhook;

pub const SECRET: &str = "whsec_YW4gaW52ZW50ZWQga2V5IG9mIDMyIGJ5dGVzLi4uLi4=";
pub const OLD_SECRET: &str = "whsec_YW5vdGhlciBpbnZlbnRlZCBrZXkgb2YgMzIgYnl0ZXM=";

/// A request that the library of Standard Webhooks has verified.
#[derive(Debug, Clone)]
pub struct Posted {
    pub id: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// The status of the response; `None` if there was none.
    pub status: Option<u16>,
}

impl Posted {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Returns the events.
    pub fn events(&self) -> Vec<Value> {
        self.json()["data"].as_array().unwrap().clone()
    }

    /// Returns the recipient and the message of each event.
    pub fn messages(&self) -> Vec<(String, String)> {
        let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
        self.events().iter().map(|it| (text(it, "recipient"), text(it, "message_id"))).collect()
    }

    pub fn names(&self, recipient: &str) -> bool {
        self.messages().iter().any(|(address, _)| address == recipient)
    }

    pub fn is_accepted(&self) -> bool {
        self.status == Some(200)
    }
}

/// A server on this machine that verifies and keeps the requests that it receives.
pub struct Hook {
    pub address: SocketAddr,
    posted: Arc<Mutex<Vec<Posted>>>,
}

impl Hook {
    /// `status` chooses the status of each response; on `None` there is no response.
    pub fn start(status: impl Fn(&Posted) -> Option<u16> + Send + Sync + 'static) -> Self {
        Self::with_secret(SECRET, status)
    }

    /// A receiver that knows this secret.
    pub fn with_secret(
        secret: &str,
        status: impl Fn(&Posted) -> Option<u16> + Send + Sync + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let posted = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::new((status, Arc::clone(&posted), Webhook::new(secret).unwrap()));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let shared = Arc::clone(&shared);
                    let serve = service_fn(move |request| {
                        let shared = Arc::clone(&shared);
                        async move { respond(request, &shared.0, &shared.1, &shared.2).await }
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

    /// Returns all requests so far.
    pub fn posted(&self) -> Vec<Posted> {
        self.posted.lock().unwrap().clone()
    }

    /// Returns the requests that were answered with 200.
    pub fn accepted(&self) -> Vec<Posted> {
        self.posted().into_iter().filter(Posted::is_accepted).collect()
    }

    /// Returns the messages of the requests that were answered with 200, without repeated requests.
    pub fn messages(&self) -> Vec<(String, String)> {
        let mut known = std::collections::BTreeSet::new();
        let first = self.accepted().into_iter().filter(|one| known.insert(one.id.clone()));
        first.flat_map(|one| one.messages()).collect()
    }

    /// Waits until `n` requests were received, and returns all.
    pub fn await_posted(&self, n: usize) -> Vec<Posted> {
        let what = format!("{n} requests to be received");
        eventually(&what, DEADLINE, || seen(self.posted(), |posted| posted.len() >= n))
    }

    /// Waits until `n` messages were accepted, and returns all.
    pub fn await_messages(&self, n: usize) -> Vec<(String, String)> {
        let what = format!("{n} messages to be accepted");
        eventually(&what, DEADLINE, || seen(self.messages(), |messages| messages.len() >= n))
    }
}

async fn respond(
    request: Request<Incoming>,
    choose: &impl Fn(&Posted) -> Option<u16>,
    posted: &Mutex<Vec<Posted>>,
    webhook: &Webhook,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let headers = request.headers().clone();
    let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
    if let Err(error) = webhook.verify(&body, &headers) {
        let text = format!("the signature is wrong: {error}");
        return Ok(Response::builder().status(401).body(Full::new(text.into())).unwrap());
    }
    let id = headers["webhook-id"].to_str().unwrap().to_owned();
    let mut request = Posted { id, headers, body, status: None };
    request.status = choose(&request);
    let status = request.status;
    posted.lock().unwrap().push(request);
    let Some(status) = status else { std::future::pending().await };
    let response = Response::builder().status(status).header("location", "http://127.0.0.1:9/");
    Ok(response.body(Full::new("an answer".into())).unwrap())
}

/// An event of a recipient, with the number of its message.
#[derive(Debug, Clone)]
pub struct TestEvent {
    pub recipient: String,
    pub number: usize,
    pub fields: BTreeMap<&'static str, Value>,
}

impl TestEvent {
    pub fn new(recipient: &str, number: usize) -> Self {
        Self { recipient: recipient.to_owned(), number, fields: BTreeMap::new() }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.insert(name, value.into());
        self
    }

    pub fn message(&self) -> (String, String) {
        (self.recipient.clone(), format!("m{}", self.number))
    }

    /// Returns the record as dedupe publishes it.
    pub fn record(&self, cluster: &Cluster) -> Outgoing {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(self.number as u64 + 1).to_be_bytes());
        for (place, byte) in id[8..].iter_mut().zip(self.recipient.bytes()) {
            *place = byte;
        }
        let id = event::EventId::from_bytes(&id).unwrap();
        let mut event = serde_json::json!({
            "event_id": id.to_string(), "kind": "clicked", "provider": "ses", "source": "acme",
            "occurred_at": 1_795_255_200_000_000_i64, "received_at": 1_795_255_201_000_000_i64,
            "recipient": self.recipient, "recipient_domain": "example.com",
            "message_id": format!("m{}", self.number), "provider_event": "Click",
            "request_id": "r1", "raw": {"to": self.recipient},
        });
        for (name, value) in &self.fields {
            event[*name] = value.clone();
        }
        Outgoing::new(&cluster.topics.events, &self.recipient, event.to_string())
            .header(names::EVENT_ID, id.as_bytes())
            .header(names::KIND, event["kind"].as_str().unwrap())
            .header(names::OCCURRED_AT, "1795255200000000")
    }
}

pub fn produce(cluster: &Cluster, events: &[TestEvent]) {
    cluster.produce(&events.iter().map(|event| event.record(cluster)).collect::<Vec<_>>());
}

/// Returns a table `[[forward]]` that reads from the beginning, retries soon and never gives up, with more
/// lines.
pub fn forward(name: &str, hook: &Hook, lines: &str) -> String {
    let mut table = format!(
        "[[forward]]\nname = {name:?}\nurl = {:?}\nsecret = {SECRET:?}\nallow_private = true\n\
         start = \"beginning\"\n",
        hook.url()
    );
    for (key, default) in [
        ("retry", "{ backoff = \"fixed\", every = \"20ms\", give_up_after = \"24h\" }"),
        ("breaker", "{ failures = 1000000 }"),
        ("batch", "{ events = 10, wait = \"20ms\" }"),
    ] {
        if !lines.contains(&format!("{key} = ")) {
            table.push_str(&format!("{key} = {default}\n"));
        }
    }
    table + lines + "\n"
}

/// Returns the service with these tables.
pub fn launch(cluster: &Cluster, tables: &[String]) -> Launch {
    Launch::new("forwarding", env!("CARGO_BIN_EXE_forward"), cluster)
        .instance("f1")
        .config(&tables.concat())
}

/// Returns the consumer group of a forward.
pub fn group(cluster: &Cluster, name: &str) -> String {
    cluster.topics.group(&format!("forward-{name}"))
}
