//! `archive`: writes the records of Kafka topics to ClickHouse. The library of this crate explains
//! how.

use anyhow::Context;
use archive::{ArchiveSettings, server::Server};
use erasure::Erased;
use kafka::Cluster;
use service::{ClickHouseSettings, Service};

fn main() -> anyhow::Result<()> {
    let service = Service::load("archive", env!("CARGO_PKG_VERSION"))?;
    let settings: ArchiveSettings = service.settings.section("archive")?;
    let clickhouse: ClickHouseSettings = service.settings.section("clickhouse")?;
    let cluster = Cluster::read(&service)?;
    let erasure_key = erasure::key(&service.settings)?;
    let mut server = Server::new(&clickhouse)
        .map_err(|error| service.settings.invalid(error.key, error.problem))?;
    service.open(settings.admin)?; // all settings are read before a port opens

    // The loop polls Kafka on this thread; inserts run on the runtime's own thread.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime for inserts")?;
    let prepared = runtime.block_on(archive::prepare(&mut server, &settings, &service));
    if !prepared
        .inspect_err(|error| tracing::error!(code = error.code(), "cannot use ClickHouse"))?
    {
        return Ok(());
    }
    cluster.prepare()?;
    let erased = Erased::follow(&cluster, "archive", erasure_key)?;
    archive::run(&cluster, server, settings, erased, runtime.handle().clone(), &service)?;
    runtime.shutdown_background();
    Ok(())
}
