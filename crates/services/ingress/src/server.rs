//! Accepts connections, limits their number, and drains them at shutdown.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use kafka::Cluster;
use listenfd::ListenFd;
use service::Service;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::drain_backlog::drain_backlog;
use crate::handler::Ingress;
use crate::settings::IngressSettings;

/// The size of a connection's read buffer, which limits the head of a request. The heads of
/// providers have a few hundred bytes.
const READ_BUFFER_BYTES: usize = 64 * 1024;
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
    cluster: Cluster,
    settings: &IngressSettings,
    service: &Service,
) -> anyhow::Result<()> {
    let listener = Listener::open(settings.listen).await?;
    let (publisher, backlog) = (Arc::clone(ingress.publisher()), Arc::clone(ingress.backlog()));
    let mut drain =
        tokio::spawn(drain_backlog(publisher, backlog, cluster, service.health.clone()));
    let connections = Connections {
        ingress: Arc::clone(&ingress),
        graceful: GracefulShutdown::new(),
        limit: Arc::new(Semaphore::new(settings.max_connections)),
        head_timeout: settings.read_timeout,
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
            None => TcpListener::bind(address)
                .await
                .with_context(|| format!("cannot listen on ingress.listen {address}"))?,
        };
        let address = socket.local_addr()?;
        tracing::info!(%address, inherited = is_shared, "listening for webhooks");
        Ok(Self { socket, is_shared })
    }
}

struct Connections {
    ingress: Arc<Ingress>,
    graceful: GracefulShutdown,
    /// Each connection holds one permit.
    limit: Arc<Semaphore>,
    head_timeout: Duration,
}

impl Connections {
    /// Accepts connections up to the limit. Further ones wait in the queue of the socket.
    async fn accept_all(&self, socket: &TcpListener) -> Infallible {
        loop {
            let Ok(permit) = Arc::clone(&self.limit).acquire_owned().await else {
                std::future::pending().await // unreachable: the semaphore is never closed
            };
            match socket.accept().await {
                Ok((stream, peer)) => self.serve_connection(stream, peer.ip(), permit),
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

    fn serve_connection(&self, stream: TcpStream, peer: IpAddr, permit: OwnedSemaphorePermit) {
        let ingress = Arc::clone(&self.ingress);
        let _ = stream.set_nodelay(true);
        let handler = service_fn(move |request| {
            let ingress = Arc::clone(&ingress);
            async move { Ok::<_, Infallible>(ingress.handle(request, peer).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_timeout)
            .max_buf_size(READ_BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), handler);
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%peer, %error, "connection failed");
            }
            drop(permit);
        });
    }
}
