//! ClickHouse's HTTP interface over libchdb, the ClickHouse engine as a shared library.
//!
//! For the tests and the demo, where no ClickHouse server runs. The real engine stores and computes;
//! this crate only translates HTTP:
//!
//! ```text
//! socket ─▶ lib.rs ─▶ request.rs ─▶ execute.rs ─▶ library.rs ─▶ libchdb
//!                     body.rs        statement.rs
//!                     blocks.rs      backend.rs
//!        ◀─────────── answer.rs, exception.rs
//! ```
//!
//! The README lists the differences from a ClickHouse server.

mod answer;
mod backend;
mod blocks;
mod body;
mod exception;
mod execute;
mod library;
mod request;
mod statement;

use answer::{Answer, AnswerBody};
use backend::Backend;
use bytes::Bytes;
use exception::{Exception, code};
use http::{HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use request::Request;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};

/// Longest URL with headers, in bytes (ClickHouse's `http_max_uri_size` is 1 MiB).
const HEAD_LIMIT: usize = 1024 * 1024 + 64 * 1024;
/// How long the rest of a request's body is read before the answer is sent.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a shutdown waits for running requests.
const GRACE: Duration = Duration::from_secs(10);

/// How to run the server.
#[derive(Debug, Clone)]
pub struct Options {
    /// The path of `libchdb.so`.
    pub library: PathBuf,
    /// The directory of the data; created if it is missing. One process at a time may use it.
    pub data: PathBuf,
    /// The address to listen on; port 0 means any free port.
    pub listen: SocketAddr,
    /// How many statements run at the same time, at least 1. More requests wait.
    pub connections: u32,
    /// The memory limit of the engine with its caches, in MiB.
    pub memory_limit_mb: u64,
    /// A user who needs a password, and the password. Requests of other users need none.
    pub user: Option<(String, String)>,
    /// A configuration file of ClickHouse, for disks and their encryption.
    pub config: Option<PathBuf>,
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The shared library cannot be loaded, or is not libchdb 26.7 or newer.
    #[error("cannot load libchdb from {path}: {reason}", path = path.display())]
    Library {
        path: PathBuf,
        /// The message of the dynamic linker.
        reason: String,
    },
    /// The data directory cannot be opened.
    #[error("cannot open the data in {path}: {reason}", path = path.display())]
    Data { path: PathBuf, reason: String },
    /// The first queries fail.
    #[error("the engine does not work: {reason}")]
    Engine {
        /// The message of the engine.
        reason: String,
    },
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
}

impl StartError {
    /// Returns the stable snake_case name of the variant.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Library { .. } => "library",
            Self::Data { .. } => "data",
            Self::Engine { .. } => "engine",
            Self::Listen { .. } => "listen",
        }
    }
}

/// A server that listens and does not answer yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    backend: Backend,
    /// One permit per statement that may run.
    permits: Arc<Semaphore>,
    connections: u32,
    user: Option<(String, String)>,
}

impl Server {
    /// Opens the data directory and the port.
    ///
    /// # Errors
    /// Any [`StartError`].
    pub async fn bind(options: Options) -> Result<Self, StartError> {
        let connections = options.connections.max(1);
        let listen = |source| StartError::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let user = options.user.clone();
        let opened = tokio::task::spawn_blocking(move || Backend::open(&options)).await;
        let backend = opened
            .map_err(|error| StartError::Engine { reason: error.to_string() })
            .and_then(|opened| opened)?;
        let permits = Arc::new(Semaphore::new(connections as usize));
        Ok(Self {
            listener,
            address,
            shared: Arc::new(Shared { backend, permits, connections, user }),
        })
    }

    /// Returns the address on which the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `end`, then waits for running requests and stops the engine. Returns
    /// false if a request still runs after ten seconds, so that the engine cannot be stopped. The
    /// process may exit then: acknowledged rows are on disk.
    pub async fn run(self, end: impl Future<Output = ()>) -> bool {
        let Self { listener, shared, .. } = self;
        let graceful = GracefulShutdown::new();
        let mut end = std::pin::pin!(end);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut end => break,
            };
            match accepted {
                Ok((socket, _)) => serve(socket, Arc::clone(&shared), &graceful),
                // The process is out of file descriptors, or the client has disconnected. The server
                // goes on in both cases.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection; retrying");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(listener);
        let stopped = tokio::time::timeout(GRACE, async {
            graceful.shutdown().await;
            let idle = shared.permits.acquire_many(shared.connections).await;
            idle.is_ok()
        });
        if !stopped.await.unwrap_or(false) {
            return false;
        }
        tokio::task::spawn_blocking(move || shared.backend.close()).await.is_ok()
    }
}

/// Spawns a task that serves one TCP connection.
fn serve(socket: TcpStream, shared: Arc<Shared>, graceful: &GracefulShutdown) {
    // Without this, a small answer waits for the client's delayed acknowledgement.
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(respond(&shared, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(socket), service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "client connection failed");
        }
    });
}

async fn respond(shared: &Arc<Shared>, request: hyper::Request<Incoming>) -> Response<AnswerBody> {
    let path = request.uri().path();
    let has_no_query = request.uri().query().is_none_or(str::is_empty);
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match (path, request.method()) {
        ("/ping" | "/replicas_status", _) => plain(StatusCode::OK, "Ok.\n"),
        ("/", _) if reads && has_no_query => plain(StatusCode::OK, "Ok.\n"),
        ("/", &Method::GET | &Method::HEAD | &Method::POST) => statement(shared, request).await,
        ("/", _) => plain(StatusCode::METHOD_NOT_ALLOWED, "Use GET or POST.\n"),
        _ => plain(StatusCode::NOT_FOUND, "There is no such handler. Use / or /ping.\n"),
    }
}

/// Runs the statement of a request.
async fn statement(
    shared: &Arc<Shared>,
    request: hyper::Request<Incoming>,
) -> Response<AnswerBody> {
    let (parts, incoming) = request.into_parts();
    let (chunks, body) = body::channel();
    let drained = tokio::spawn(body::forward(incoming, chunks));
    let tag: String = uuid::Uuid::new_v4().simple().to_string().chars().take(16).collect();
    let parsed = request::authenticate(&parts.headers, shared.user.as_ref())
        .and_then(|()| Request::parse(&parts, &shared.backend.settings));
    let (query_id, outcome) = match parsed {
        Ok(request) => {
            let query_id = request.query_id.clone();
            (query_id, execute_on_thread(shared, request, body, &tag).await)
        }
        Err(exception) => {
            drop(body);
            (uuid::Uuid::new_v4().to_string(), Err(exception))
        }
    };
    // An answer before the end of the body would close the connection while the client still sends.
    let _ = tokio::time::timeout(DRAIN, drained).await;
    let coding = outcome.as_ref().map_or(None, |(_, coding)| coding.content_encoding());
    let mut response = match outcome {
        Ok((answer, _)) => success(answer),
        Err(exception) => failure(&exception, &shared.backend.version),
    };
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set("x-clickhouse-query-id", &query_id);
    set("x-clickhouse-timezone", &shared.backend.timezone);
    set("x-clickhouse-server-display-name", "chdb-server");
    set("x-clickhouse-exception-tag", &tag);
    if let Some(coding) = coding {
        set("content-encoding", coding);
    }
    response
}

/// Waits for a permit and runs the request on a blocking thread.
async fn execute_on_thread(
    shared: &Arc<Shared>,
    request: Request,
    body: body::BodyReader,
    tag: &str,
) -> Result<(Answer, request::Coding), Exception> {
    let ended = |_| Exception::new(code::STD_EXCEPTION, "The server is shutting down");
    let permit = Arc::clone(&shared.permits).acquire_owned().await.map_err(ended)?;
    let coding = request.coding;
    let (reply, answer) = oneshot::channel();
    let shared = Arc::clone(shared);
    let tag = tag.to_owned();
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        execute::run(&shared.backend, request, body, &tag, reply);
    });
    // The thread drops the reply without an answer only if it panics.
    let lost = |_| Exception::new(code::STD_EXCEPTION, "The request failed inside the server");
    Ok((answer.await.map_err(lost)??, coding))
}

fn success(answer: Answer) -> Response<AnswerBody> {
    let mut response = Response::new(answer.body);
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_static(answer::content_type(&answer.format));
    headers.insert(header::CONTENT_TYPE, content_type);
    for (name, value) in [
        ("x-clickhouse-format", answer.format),
        ("x-clickhouse-summary", answer::summary(&answer.stats)),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}

fn failure(exception: &Exception, version: &str) -> Response<AnswerBody> {
    let mut response = plain(exception.status(), exception.text(version));
    response.headers_mut().insert("x-clickhouse-exception-code", exception.code().into());
    response
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::complete([text.into()]));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("text/plain; charset=UTF-8");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
