//! `enrich`: see the library of this crate for what it does and how.
//!
//! Outputs and input offsets commit in one Kafka transaction; after a crash the records since the
//! last commit are read again, and nothing of the first attempt is visible.

mod step;

use enrich::{EnrichSettings, Enrichment};
use service::Service;
use step::Enrich;
use kafka::Cluster;

fn main() -> anyhow::Result<()> {
    let service = Service::load("enrich", env!("CARGO_PKG_VERSION"))?;
    let settings = EnrichSettings::read(&service.settings)?;
    let cluster = Cluster::read(&service)?;
    let mut enrich = Enrich::new(cluster.topics.clone(), Enrichment::open(&settings)?);
    service.open(settings.admin)?; // everything is read; only now a port opens

    cluster.prepare()?;
    kafka::step::run(
        &cluster.connection,
        &step::settings(&settings, &cluster.topics, cluster.partitions),
        &mut enrich,
        &|| service.shutdown.requested(),
        &|is_assigned| service.health.report(is_assigned),
    )?;
    Ok(())
}
