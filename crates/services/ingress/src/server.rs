//! Accepts connections, limits their number, and drains them at shutdown.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::Method;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use kafka::Cluster;
use listenfd::ListenFd;
use service::Service;
use service::client_limit::{ClientLimit, CountedConnection};
use service::timed_stream::{Phase, StreamTimeouts, TimedStream, Timeout};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::OwnedSemaphorePermit;

use crate::drain_backlog::drain_backlog;
use crate::handler::Ingress;
use crate::limits::Limit;
use crate::open_connections::OpenConnections;
use crate::rejection_log::RejectionLog;
use crate::settings::IngressSettings;
use crate::time_writer::TimeWriter;
use crate::tls::{HandshakeFailure, Tls};

/// The size of a connection's read buffer, which limits the head of a request, and of its write
/// buffer. The heads of providers have a few hundred bytes. All connections together may fill theirs.
const BUFFER_BYTES: usize = 16 * 1024;
/// The size of a connection's send buffer in the kernel. A response has less than a kilobyte.
const SEND_BUFFER_BYTES: u32 = 64 * 1024;
/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long to wait after a connection could not be accepted.
const ACCEPT_RETRY: Duration = Duration::from_millis(10);

/// Serves requests until shutdown is requested. Then the ingress is no longer ready and every
/// response closes its connection. After `ingress.drain_delay`, when load balancers and providers
/// use other processes, it closes the listener. Requests in flight then have
/// `ingress.drain_timeout` to finish.
///
/// # Errors
/// Returns an error if the port cannot be opened, or if the topics differ from the settings.
pub(crate) async fn serve(
    ingress: Arc<Ingress>,
    tls: Option<Arc<Tls>>,
    cluster: Cluster,
    settings: &IngressSettings,
    service: &Service,
) -> anyhow::Result<()> {
    let listener = Listener::open(settings.listen).await?;
    let (publisher, backlog) = (Arc::clone(ingress.publisher()), Arc::clone(ingress.backlog()));
    let time_writer = Arc::new(TimeWriter::new(&publisher, &backlog, &cluster, settings));
    let (health, writer) = (service.health.clone(), Arc::clone(&time_writer));
    let mut drain = tokio::spawn(drain_backlog(publisher, backlog, cluster, health, writer));
    let connections = Connections {
        ingress: Arc::clone(&ingress),
        tls,
        handshake_log: Arc::new(RejectionLog::new()),
        graceful: GracefulShutdown::new(),
        open: OpenConnections::new(settings.max_connections),
        per_client: settings.client_limit(),
        timeouts: settings.stream_timeouts(),
    };
    tokio::select! {
        never = connections.accept_all(&listener.socket) => match never {},
        failed = &mut drain => return failed.context("the task that drains the backlog failed")?,
        () = service.shutdown.wait() => {}
    }

    service.health.draining();
    ingress.close_after_response();
    tracing::info!(
        delay = ?settings.drain_delay,
        timeout = ?settings.drain_timeout,
        "shutdown requested; draining connections"
    );
    connections.stop_accepting(listener, settings.drain_delay).await;
    let finished = connections.graceful.shutdown();
    if tokio::time::timeout(settings.drain_timeout, finished).await.is_err() {
        tracing::warn!("drain timeout passed; aborting the requests in flight");
    }
    drain.abort();
    time_writer.write_last().await;
    // All accepted requests are durable. This waits for the records of requests that timed out.
    if let Err(error) = ingress.publisher().publisher().flush(settings.ack_timeout) {
        tracing::warn!(%error, "Kafka did not acknowledge all records before the process ended");
    }
    tracing::info!("ingress stopped");
    Ok(())
}

struct Listener {
    socket: TcpListener,
    /// True if other processes accept connections from the same socket. If we close it, they still
    /// have it open.
    is_shared: bool,
}

impl Listener {
    /// Uses the socket of the parent process if there is one (`LISTEN_FDS`, as systemd passes it).
    /// Several processes can share such a socket. Otherwise binds `address`.
    async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let inherited = ListenFd::from_env()
            .take_tcp_listener(0)
            .context("the socket in LISTEN_FDS cannot be used")?;
        let is_shared = inherited.is_some();
        let socket = match inherited {
            Some(socket) => {
                socket.set_nonblocking(true)?;
                TcpListener::from_std(socket)?
            }
            None => bind(address)
                .with_context(|| format!("cannot listen on ingress.listen {address}"))?,
        };
        let address = socket.local_addr()?;
        tracing::info!(%address, inherited = is_shared, "listening for webhooks");
        Ok(Self { socket, is_shared })
    }
}

/// Opens a socket whose connections have small send buffers. A client that does not read would
/// otherwise take megabytes of the kernel's memory before it is noticed.
fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

struct Connections {
    ingress: Arc<Ingress>,
    /// `None` for plain HTTP.
    tls: Option<Arc<Tls>>,
    handshake_log: Arc<RejectionLog>,
    graceful: GracefulShutdown,
    open: OpenConnections,
    per_client: ClientLimit,
    timeouts: StreamTimeouts,
}

impl Connections {
    /// Accepts connections. At the limit, a new one waits until there is room.
    async fn accept_all(&self, socket: &TcpListener) -> Infallible {
        loop {
            match socket.accept().await {
                Ok((stream, peer)) => {
                    let Some(counted) = self.per_client.count(peer.ip()) else {
                        Limit::ConnectionsPerClient.count();
                        continue;
                    };
                    let permit = self.open.make_room().await;
                    self.serve_connection(stream, peer.ip(), permit, counted);
                }
                // There is no free file descriptor, or the client has closed the connection.
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed; retrying");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    /// Stops accepting connections. A socket that we do not share stays open for `delay`, because
    /// load balancers may still connect to it, and a closed socket would refuse them.
    async fn stop_accepting(&self, listener: Listener, delay: Duration) {
        let Listener { socket, is_shared } = listener;
        let delay = tokio::time::sleep(delay);
        if is_shared {
            drop(socket);
            return delay.await;
        }
        tokio::select! {
            never = self.accept_all(&socket) => match never {},
            () = delay => {}
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
        let phase = Phase::default();
        let open = self.open.insert(permit, phase.clone());
        let stream = TimedStream::new(stream, phase.clone(), self.timeouts, count_timeout);
        let (tls, log) = (self.tls.clone(), Arc::clone(&self.handshake_log));
        let connection = Connection {
            ingress: Arc::clone(&self.ingress),
            peer,
            phase,
            watcher: self.graceful.watcher(),
        };
        tokio::spawn(async move {
            let served = async {
                match tls {
                    None => connection.serve(stream).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => connection.serve(stream).await,
                        Err(failure) => report_handshake(&log, peer, failure),
                    },
                }
            };
            tokio::select! {
                // First, because reading could begin a request.
                biased;
                () = open.closed() => {}
                () = served => {}
            }
            drop((open, counted));
        });
    }
}

/// A connection of a client, whose handshake is complete if it has TLS.
struct Connection {
    ingress: Arc<Ingress>,
    peer: IpAddr,
    phase: Phase,
    watcher: Watcher,
}

impl Connection {
    /// Serves requests until the client or the shutdown ends the connection.
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Self { ingress, peer, phase, watcher } = self;
        let handler = service_fn(move |request| {
            let (ingress, phase) = (Arc::clone(&ingress), phase.clone());
            async move {
                phase.request_begins();
                let is_post = request.method() == Method::POST;
                let response = ingress.handle(request, peer).await;
                phase.request_ends(is_post && response.status().is_success());
                Ok::<_, Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            // The stream has the timeouts of heads and idle connections.
            .header_read_timeout(None)
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), handler);
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%peer, %error, "connection failed");
        }
    }
}

/// Counts and logs a handshake that has failed.
fn report_handshake(log: &RejectionLog, peer: IpAddr, failure: HandshakeFailure) {
    failure.count();
    // Checks of load balancers open a connection and close it.
    if failure != HandshakeFailure::Closed
        && let Some(omitted) = log.next()
    {
        let reason = failure.as_str();
        tracing::info!(%peer, reason, omitted, "TLS handshake failed; connection closed");
    }
}

fn count_timeout(timeout: Timeout) {
    match timeout {
        Timeout::Head => Limit::HeadTimeout.count(),
        Timeout::Idle => Limit::IdleTimeout.count(),
        Timeout::Write => Limit::WriteTimeout.count(),
    }
}
