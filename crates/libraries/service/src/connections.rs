//! A server for clients that nobody has authenticated yet: it limits the number of connections, how many of them one
//! client has, and how long it waits for a client.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Shutdown;
use crate::client_limit::{ClientLimit, CountedConnection};
use crate::timed_stream::{Phase, StreamTimeouts, TimedStream, Timeout};

/// The time that requests in flight have at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What connections may take.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// How many may be open at once. Further ones wait.
    pub connections: usize,
    /// How many of them one address may have, or one /64 network of IPv6. Further ones are closed.
    pub per_client: usize,
    /// The networks of proxies, which have no limit of their own.
    pub proxies: Vec<IpNet>,
    /// How long the server waits for a client.
    pub timeouts: StreamTimeouts,
    /// The size of the read buffer, in bytes, which limits the head of a request.
    pub head_bytes: usize,
}

/// Answers requests.
pub trait Respond: Send + Sync + 'static {
    /// The body of a response.
    type Body: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static;

    /// Answers a request of the client with this address.
    fn respond(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Learns that a connection was closed because of this limit. The names are those of the ingress.
    fn closed(_limit: &'static str) {}
}

/// A listener.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Listens. `key` is that of the address in the settings.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn open(address: SocketAddr, key: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {key} {address}"))?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Returns the address with the actual port, which differs if the port was 0.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves requests until shutdown is requested.
    pub async fn serve(
        self,
        respond: Arc<impl Respond>,
        limits: ConnectionLimits,
        shutdown: &Shutdown,
    ) {
        let connections = Connections {
            respond,
            open: Arc::new(Semaphore::new(limits.connections)),
            per_client: ClientLimit::new(limits.per_client, limits.proxies),
            timeouts: limits.timeouts,
            head_bytes: limits.head_bytes,
            graceful: GracefulShutdown::new(),
        };
        tokio::select! {
            () = connections.accept_all(&self.listener) => {}
            () = shutdown.wait() => {}
        }
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, connections.graceful.shutdown()).await;
    }
}

struct Connections<R> {
    respond: Arc<R>,
    /// Each connection holds one permit.
    open: Arc<Semaphore>,
    per_client: ClientLimit,
    timeouts: StreamTimeouts,
    head_bytes: usize,
    graceful: GracefulShutdown,
}

impl<R: Respond> Connections<R> {
    async fn accept_all(&self, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let peer = peer.ip();
                    let Some(counted) = self.per_client.count(peer) else {
                        tracing::debug!(%peer, "a client has too many connections; closing a new one");
                        R::closed("connections_per_client");
                        continue;
                    };
                    // The semaphore is never closed.
                    let Ok(permit) = Arc::clone(&self.open).acquire_owned().await else { return };
                    self.serve_connection(stream, peer, permit, counted);
                }
                Err(error) => {
                    // Most likely the process has no free file descriptor. A pause avoids a busy loop.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn serve_connection(
        &self,
        stream: TcpStream,
        peer: IpAddr,
        permit: OwnedSemaphorePermit,
        counted: CountedConnection,
    ) {
        let _ = stream.set_nodelay(true);
        let (respond, phase) = (Arc::clone(&self.respond), Phase::default());
        let stream = TimedStream::new(stream, phase.clone(), self.timeouts, |timeout| {
            tracing::debug!(?timeout, "a client was too slow; closing its connection");
            R::closed(match timeout {
                Timeout::Head => "head_timeout",
                Timeout::Idle => "idle_timeout",
                Timeout::Write => "write_timeout",
            });
        });
        let respond = service_fn(move |request| {
            let (respond, phase) = (Arc::clone(&respond), phase.clone());
            async move {
                phase.request_begins();
                let response = respond.respond(request, peer).await;
                Ok::<_, Infallible>(response.map(|body| Answer { body, phase }))
            }
        });
        let connection = http1::Builder::new()
            // The stream has the timeouts of heads and idle connections.
            .header_read_timeout(None)
            .max_buf_size(self.head_bytes)
            .serve_connection(TokioIo::new(stream), respond);
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%peer, %error, "a connection ended with an error");
            }
            drop((permit, counted));
        });
    }
}

/// The body of a response. Its request is in progress until the body was sent, so that a stream is not taken for an
/// idle connection.
struct Answer<B> {
    body: B,
    phase: Phase,
}

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        self.phase.request_ends(true);
    }
}

impl<B: Body<Data = Bytes, Error = Infallible> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
