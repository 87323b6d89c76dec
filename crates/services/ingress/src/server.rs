//! Connections: accepted, bounded, and let go in order.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use listenfd::ListenFd;
use service::Service;
use kafka::Cluster;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::handler::Ingress;
use crate::settings::IngressSettings;
use crate::supply::supply;

/// Room for request heads; providers send a few hundred bytes.
const HEAD_BYTES: usize = 32 * 1024;

/// Serves until told to stop. Then readiness goes off and every answer closes its connection; after
/// `ingress.drain_delay`, by when balancers and providers have gone elsewhere, the listener is closed
/// and requests under way are finished.
///
/// # Errors
/// When the port cannot be opened, or the topics are not as the settings say.
pub(crate) async fn serve(
    ingress: Arc<Ingress>,
    cluster: Cluster,
    settings: &IngressSettings,
    service: &Service,
) -> anyhow::Result<()> {
    let door = Door::open(settings.listen).await?;
    let (outlet, backlog) = (Arc::clone(ingress.outlet()), Arc::clone(ingress.backlog()));
    let mut supply = tokio::spawn(supply(outlet, backlog, cluster, service.health.clone()));
    let connections = Connections {
        ingress: Arc::clone(&ingress),
        watched: GracefulShutdown::new(),
        room: Arc::new(Semaphore::new(settings.max_connections)),
        head_timeout: settings.read_timeout,
    };
    tokio::select! {
        never = connections.take(&door.listener) => match never {},
        failed = &mut supply => return failed.context("the way to kafka")?,
        () = service.shutdown.wait() => {}
    }

    service.health.draining();
    ingress.farewell();
    tracing::info!("draining");
    connections.leave(door, settings.drain_delay).await;
    let finished = connections.watched.shutdown();
    if tokio::time::timeout(settings.drain_timeout, finished).await.is_err() {
        tracing::warn!("requests still under way after ingress.drain_timeout");
    }
    supply.abort();
    // Whatever was answered is durable; this is for records whose request has given up on them.
    if let Err(error) = ingress.outlet().publisher().flush(settings.ack_timeout) {
        tracing::warn!(%error, "records are left that kafka has not acknowledged");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Where connections come from.
struct Door {
    listener: TcpListener,
    /// Whether others accept from the same socket, so that it stays open without us.
    is_shared: bool,
}

impl Door {
    /// The socket that the parent process passes on (`LISTEN_FDS`, as systemd does it), which several
    /// processes can share and none closes; else one of our own at `address`.
    async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let passed = ListenFd::from_env().take_tcp_listener(0).context("LISTEN_FDS")?;
        let is_shared = passed.is_some();
        let listener = match passed {
            Some(socket) => {
                socket.set_nonblocking(true)?;
                TcpListener::from_std(socket)?
            }
            None => TcpListener::bind(address)
                .await
                .with_context(|| format!("ingress.listen {address} cannot be opened"))?,
        };
        tracing::info!(listen = %listener.local_addr()?, is_shared, "taking webhooks");
        Ok(Self { listener, is_shared })
    }
}

/// All connections.
struct Connections {
    ingress: Arc<Ingress>,
    watched: GracefulShutdown,
    /// A permit a connection.
    room: Arc<Semaphore>,
    head_timeout: Duration,
}

impl Connections {
    /// Takes every connection there is room for; the others wait in the listener's queue.
    async fn take(&self, listener: &TcpListener) -> Infallible {
        loop {
            let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else {
                std::future::pending().await // the room is never closed
            };
            match listener.accept().await {
                Ok((stream, peer)) => self.converse(stream, peer.ip(), permit),
                // Out of descriptors, or the client has gone already: the next may fare better.
                Err(error) => {
                    tracing::warn!(%error, "accept");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    /// Stops taking connections. A socket of our own is kept open until nobody should come any
    /// more, for whoever comes to a closed one is turned away; a shared one is left to the others.
    async fn leave(&self, door: Door, delay: Duration) {
        let Door { listener, is_shared } = door;
        let delay = tokio::time::sleep(delay);
        if is_shared {
            drop(listener);
            return delay.await;
        }
        tokio::select! {
            never = self.take(&listener) => match never {},
            () = delay => {}
        }
    }

    fn converse(&self, stream: TcpStream, peer: IpAddr, permit: OwnedSemaphorePermit) {
        let ingress = Arc::clone(&self.ingress);
        let _ = stream.set_nodelay(true);
        let answer = service_fn(move |request| {
            let ingress = Arc::clone(&ingress);
            async move { Ok::<_, Infallible>(ingress.handle(request, peer).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_timeout)
            .max_buf_size(HEAD_BYTES.max(64 * 1024))
            .serve_connection(TokioIo::new(stream), answer);
        let connection = self.watched.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection");
            }
            drop(permit);
        });
    }
}
