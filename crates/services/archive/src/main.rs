//! `archive`: see the library of this crate for what it does and how.

use anyhow::Context;
use archive::{ArchiveSettings, server::Server};
use service::{ClickHouseSettings, Service};
use kafka::Cluster;

fn main() -> anyhow::Result<()> {
    let service = Service::load("archive", env!("CARGO_PKG_VERSION"))?;
    let settings: ArchiveSettings = service.settings.section("archive")?;
    let clickhouse: ClickHouseSettings = service.settings.section("clickhouse")?;
    let cluster = Cluster::read(&service)?;
    service.open(settings.admin)?;

    // Inserts run beside the loop, which polls Kafka from this thread.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("no runtime")?;
    let mut server = Server::new(&clickhouse);
    let prepared = runtime.block_on(archive::prepare(&mut server, &settings, &service));
    if !prepared.inspect_err(|error| tracing::error!(code = error.code(), "cannot start"))? {
        return Ok(());
    }
    cluster.prepare()?;
    archive::run(&cluster, server, settings, runtime.handle().clone(), &service)?;
    runtime.shutdown_background();
    Ok(())
}
