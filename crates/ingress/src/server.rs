//! Connections: accepted, bounded, and let go in order.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use service::Service;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::handler::Ingress;
use crate::settings::IngressSettings;

/// How often Kafka is asked whether it is there.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// Room for request heads; providers send a few hundred bytes.
const HEAD_BYTES: usize = 32 * 1024;

/// Serves until told to stop; then readiness goes off, requests under way are finished, and what
/// Kafka has not acknowledged is waited for.
pub(crate) async fn serve(
    ingress: Arc<Ingress>,
    settings: &IngressSettings,
    service: &Service,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("ingress.listen {} cannot be opened", settings.listen))?;
    tracing::info!(listen = %listener.local_addr()?, "taking webhooks");
    let probe = tokio::spawn(watch_kafka(Arc::clone(&ingress), service.health.clone()));

    let connections = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(settings.max_connections));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { break };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let timeout = settings.read_timeout;
                    converse(&connections, Arc::clone(&ingress), stream, permit, timeout);
                }
                // Out of descriptors, or the client has gone already: the next may fare better.
                Err(error) => {
                    tracing::warn!(%error, "accept");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            },
            () = service.shutdown.wait() => break,
        }
    }

    probe.abort();
    service.health.draining();
    drop(listener);
    tracing::info!("draining");
    if tokio::time::timeout(settings.drain_timeout, connections.shutdown()).await.is_err() {
        tracing::warn!("requests still under way after ingress.drain_timeout");
    }
    ingress.publisher().flush(settings.ack_timeout)?;
    tracing::info!("stopped");
    Ok(())
}

fn converse(
    connections: &GracefulShutdown,
    ingress: Arc<Ingress>,
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    head_timeout: Duration,
) {
    let _ = stream.set_nodelay(true);
    let answer = service_fn(move |request| {
        let ingress = Arc::clone(&ingress);
        async move { Ok::<_, Infallible>(ingress.handle(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(HEAD_BYTES.max(64 * 1024))
        .serve_connection(TokioIo::new(stream), answer);
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection");
        }
        drop(permit);
    });
}

/// Ready while Kafka answers.
async fn watch_kafka(ingress: Arc<Ingress>, health: service::Health) {
    loop {
        let asked = Arc::clone(&ingress);
        let reachable =
            tokio::task::spawn_blocking(move || asked.publisher().reachable(PROBE_EVERY)).await;
        match reachable {
            Ok(true) => health.ready(),
            _ => health.hold("kafka does not answer"),
        }
        metrics::gauge!("mailpulse_ingress_in_flight_records")
            .set(ingress.publisher().in_flight() as f64);
        tokio::time::sleep(PROBE_EVERY).await;
    }
}
