//! Answers requests.

mod body;
mod edits;
mod query;
mod response;

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use body::Check;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use jiff::Timestamp;
use kafka::{Connection, Publisher, PublisherSettings};
use query::Query;
pub use response::Body;
use response::{json_response, of_problem, read_body};
use serde::Serialize;
use serde_json::json;
use service::Shutdown;
use service::connections::Server;
use suppression::cursor::Cursor;
use suppression::list::GLOBAL;
use suppression::standing::{self, Entry, Question};
use suppression::table::Found;
use suppression::{Reason, RecipientDigest, RecipientKey};
use tokio::sync::Semaphore;

use super::access::{Access, Role};
use super::problem::Problem;
use super::server::limits;
use crate::audit::Audit;
use crate::feed::{Delta, Feed, MAX_CHANGES};
use crate::settings::SuppressSettings;
use crate::store::Store;

/// The greatest number of addresses of one check.
pub const MAX_ADDRESSES: usize = 10_000;
/// The largest body of a check: enough for this number of the longest addresses.
const MAX_CHECK_BYTES: usize = 4 << 20;
/// How many answers of the feed are made at the same time. Kafka is read for one after the other.
const FEEDS_AT_ONCE: usize = 2;
/// How long Kafka has to acknowledge an edit.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);
/// A check never waits once its body is there, so this many are made at the same time.
const WORKERS: usize = 2;

/// Answers requests.
pub struct Api {
    access: Access,
    store: Arc<Store>,
    keys: RecipientKey,
    /// The lists of the configured sources.
    lists: BTreeSet<String>,
    feed: Arc<Feed>,
    audit: Audit,
    publisher: Publisher,
    topic: String,
    feeds: Arc<Semaphore>,
}

/// The answer about one address.
#[derive(Debug, Serialize)]
struct Answer {
    /// The digest of the recipient, as in the delta feed.
    recipient: String,
    suppressed: bool,
    /// Why the mail that was asked about must not be sent.
    reasons: Vec<Reason>,
    /// Everything that is known, with what was lifted.
    entries: Vec<Entry>,
}

impl Api {
    /// Creates the API. `lists` are those of the configured sources, `topic` is `mail.suppressions`.
    ///
    /// # Errors
    /// If the Kafka client cannot be created.
    #[expect(
        clippy::too_many_arguments,
        reason = "called once, with everything that the API needs"
    )]
    pub fn new(
        access: Access,
        store: Arc<Store>,
        keys: RecipientKey,
        lists: BTreeSet<String>,
        feed: Feed,
        audit: Audit,
        connection: &Connection,
        topic: String,
    ) -> Result<Self, kafka::Error> {
        let settings = PublisherSettings {
            linger: Duration::ZERO,
            queue_bytes: 4 << 20,
            ack_timeout: Some(ACK_TIMEOUT),
        };
        let publisher = Publisher::open(connection, "suppress-api", settings)?;
        let (feed, feeds) = (Arc::new(feed), Arc::new(Semaphore::new(FEEDS_AT_ONCE)));
        Ok(Self { access, store, keys, lists, feed, audit, publisher, topic, feeds })
    }

    /// Listens, and serves on threads of its own until shutdown is requested.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn start(
        self,
        settings: &SuppressSettings,
        shutdown: &Shutdown,
    ) -> anyhow::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("suppress-api")
            .enable_all()
            .build()?;
        let server = runtime.block_on(Server::open(settings.listen, "suppress.listen"))?;
        let url = format!("http://{}/suppressions", server.address());
        tracing::info!(url, "the API answers");
        let (limits, shutdown) = (limits(settings), shutdown.clone());
        let serve = move || runtime.block_on(server.serve(Arc::new(self), limits, &shutdown));
        Ok(std::thread::Builder::new().name("suppress-http".to_owned()).spawn(serve)?)
    }

    /// Answers a request. A problem becomes JSON with a code.
    pub async fn respond(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let (started, route) = (Instant::now(), route_of(&request));
        let answer = self.answer(request, peer).await;
        let response = answer.unwrap_or_else(|problem| {
            match &problem {
                Problem::Internal(_) => tracing::error!(%problem, "a request cannot be answered"),
                problem => tracing::debug!(%peer, code = problem.code(), "a request was refused"),
            }
            of_problem(&problem)
        });
        let status = response.status().as_str().to_owned();
        metrics::counter!("mailpulse_suppress_requests_total", "route" => route, "status" => status)
            .increment(1);
        metrics::histogram!("mailpulse_suppress_request_duration_seconds", "route" => route)
            .record(started.elapsed().as_secs_f64());
        response
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Result<Response<Body>, Problem> {
        let path = request.uri().path().to_owned();
        let rest = path.strip_prefix("/suppressions").ok_or(Problem::NotFound)?;
        match (rest, request.method()) {
            ("" | "/", &Method::GET) => {
                self.access.identify(request.headers(), Role::Reader)?;
                self.delta(&Query::read(request.uri())?).await
            }
            ("" | "/", _) => Err(Problem::WrongMethod("GET")),
            ("/check", &Method::POST) => {
                self.access.identify(request.headers(), Role::Reader)?;
                self.check(request).await
            }
            ("/check", _) => Err(Problem::WrongMethod("POST")),
            (address, method) => {
                let address = address.strip_prefix('/').ok_or(Problem::NotFound)?;
                let address = query::decode(address)?;
                match *method {
                    Method::GET | Method::HEAD => {
                        self.access.identify(request.headers(), Role::Reader)?;
                        self.look_up(&address, &Query::read(request.uri())?)
                    }
                    Method::PUT => {
                        let token = self.access.identify(request.headers(), Role::Operator)?;
                        self.add(request, &address, token, peer).await
                    }
                    Method::DELETE => {
                        let token = self.access.identify(request.headers(), Role::Operator)?;
                        self.lift(&Query::read(request.uri())?, &address, token, peer).await
                    }
                    _ => Err(Problem::WrongMethod("GET, PUT or DELETE")),
                }
            }
        }
    }

    /// `GET /suppressions/{address}`
    fn look_up(&self, address: &str, query: &Query) -> Result<Response<Body>, Problem> {
        let recipient = self.recipient(address)?;
        let question = query.question(now())?;
        self.check_list(question.list)?;
        json_response(&answer_of(recipient, &self.store.table.of(recipient), &question))
    }

    /// `POST /suppressions/check`
    async fn check(&self, request: Request<Incoming>) -> Result<Response<Body>, Problem> {
        let body = read_body(request, MAX_CHECK_BYTES).await?;
        let check: Check<'_> = serde_json::from_slice(&body)
            .map_err(|error| Problem::InvalidBody(error.to_string()))?;
        if check.addresses.is_beyond_limit {
            return Err(Problem::TooManyAddresses(MAX_ADDRESSES));
        }
        let question = check.question(now());
        self.check_list(question.list)?;
        let addresses = &check.addresses.list;
        let (mut valid, mut invalid, mut recipients) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen = HashSet::with_capacity(addresses.len());
        for address in addresses {
            let address = address.as_str();
            if !seen.insert(address) {
                continue;
            }
            match self.keys.of_address(address) {
                Some(recipient) => {
                    valid.push(address);
                    recipients.push(recipient);
                }
                None => invalid.push(address),
            }
        }
        let mut suppressed = Vec::new();
        for (number, rows) in self.store.table.of_each(&recipients) {
            let reasons = reasons(&standing::stopping(&rows, &question));
            if !reasons.is_empty() {
                suppressed.push(json!({ "address": valid[number], "reasons": reasons }));
            }
        }
        let mut answer =
            json!({ "checked": addresses.len(), "suppressed": suppressed, "invalid": invalid });
        if let (true, Some(answer)) = (check.recipients, answer.as_object_mut()) {
            let digests = recipients.iter().map(ToString::to_string);
            let each = valid.iter().zip(digests);
            let each =
                each.map(|(address, digest)| json!({ "address": address, "recipient": digest }));
            answer.insert("recipients".to_owned(), each.collect());
        }
        json_response(&answer)
    }

    /// `GET /suppressions?since=CURSOR`
    async fn delta(&self, query: &Query) -> Result<Response<Body>, Problem> {
        let now = now();
        let partitions = self.feed.partitions();
        let cursor = match query.get("since") {
            None | Some("") => Cursor::beginning(partitions, now),
            Some(text) => text.parse().map_err(|_| Problem::InvalidCursor)?,
        };
        if cursor.offsets.len() != partitions {
            return Err(Problem::InvalidCursor);
        }
        if cursor.is_too_old(now) {
            return Err(Problem::CursorTooOld);
        }
        let limit = query.limit(MAX_CHANGES)?;
        let turn = Arc::clone(&self.feeds).try_acquire_owned().map_err(|_| Problem::Busy)?;
        let feed = Arc::clone(&self.feed);
        let read = tokio::task::spawn_blocking(move || {
            let _turn = turn; // the thread goes on after the client is gone
            feed.since(&cursor, limit, now)
        });
        let delta: Result<Delta, kafka::Error> =
            read.await.map_err(|error| Problem::Internal(error.to_string()))?;
        json_response(&delta.map_err(|error| Problem::FeedUnavailable(error.to_string()))?)
    }

    fn recipient(&self, address: &str) -> Result<RecipientDigest, Problem> {
        self.keys.of_address(address).ok_or_else(|| Problem::NoAddress(address.to_owned()))
    }

    /// A list with a wrong name would suppress nobody.
    fn check_list(&self, list: Option<&str>) -> Result<(), Problem> {
        let Some(list) = list else { return Ok(()) };
        let is_known =
            list == GLOBAL || self.lists.contains(list) || self.store.table.has_list(list);
        if is_known { Ok(()) } else { Err(Problem::UnknownList(list.to_owned())) }
    }
}

fn answer_of(recipient: RecipientDigest, rows: &[Found], question: &Question<'_>) -> Answer {
    let entries = standing::entries(rows, question.list, question.now);
    let reasons = reasons(entries.iter().filter(|entry| entry.stops(question)));
    Answer { recipient: recipient.to_string(), suppressed: !reasons.is_empty(), reasons, entries }
}

fn reasons<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> Vec<Reason> {
    let reasons: BTreeSet<Reason> = entries.into_iter().map(|entry| entry.reason).collect();
    reasons.into_iter().collect()
}

/// Returns the name of the route, as a label of metrics.
fn route_of(request: &Request<Incoming>) -> &'static str {
    match request.uri().path() {
        "/suppressions" | "/suppressions/" => "delta",
        "/suppressions/check" => "check",
        path if path.starts_with("/suppressions/") => match *request.method() {
            Method::PUT => "add",
            Method::DELETE => "lift",
            _ => "lookup",
        },
        _ => "unknown",
    }
}

/// Returns the present in seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "entries end by themselves, and edits have a time")]
fn now() -> i64 {
    Timestamp::now().as_second()
}
