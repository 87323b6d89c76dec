//! `enrich`: turns raw events into canonical events. The library of this crate explains how.
//!
//! Outputs and input offsets commit in one Kafka transaction. After a crash the records since the
//! last commit are read again, and nothing of the first attempt is visible.

mod log_time;
mod stage;

use enrich::{EnrichSettings, Enrichment};
use kafka::Cluster;
use service::Service;
use stage::Enrich;

fn main() -> anyhow::Result<()> {
    let service = Service::load("enrich", env!("CARGO_PKG_VERSION"))?;
    let settings = EnrichSettings::read(&service.settings)?;
    let cluster = Cluster::read(&service)?;
    let enrichment = Enrichment::open(&settings)?;
    service.open(settings.admin)?; // all settings and files are read before a port opens

    cluster.prepare()?;
    let enrich = Enrich::new(cluster.topics.clone(), cluster.partitions, enrichment);
    kafka::run(&cluster, &service, settings.batch(), enrich)?;
    Ok(())
}
