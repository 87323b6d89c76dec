//! `enrich`: turns raw events into canonical events. The library of this crate explains how.
//!
//! Outputs and input offsets commit in one Kafka transaction. After a crash the records since the
//! last commit are read again, and nothing of the first attempt is visible.

mod log_time;
mod stage;

use std::time::Duration;

use enrich::{EnrichSettings, Enrichment, Loading};
use erasure::{Erased, StageErasure};
use kafka::Cluster;
use service::Service;
use stage::Enrich;

fn main() -> anyhow::Result<()> {
    let service = Service::load("enrich", env!("CARGO_PKG_VERSION"))?;
    let settings = EnrichSettings::read(&service.settings)?;
    let cluster = Cluster::read(&service)?;
    let erasure_key = erasure::key(&service.settings)?;
    let mut enrichment = Enrichment::open(&settings)?;
    service.open(settings.admin)?; // all settings and files are read before a port opens

    if !load(&mut enrichment, &service) {
        return Ok(());
    }
    cluster.prepare()?;
    let erased = Erased::follow(&cluster, "enrich", erasure_key)?;
    let erasure = StageErasure::new(erased, &service.health, &service.shutdown);
    let enrich = Enrich::new(cluster.topics.clone(), cluster.partitions, enrichment, erasure);
    kafka::run(&cluster, &service, settings.batch(), enrich)?;
    Ok(())
}

/// Waits for the tables that ClickHouse has to answer, because events without them would stay so. Returns
/// false if shutdown is requested meanwhile.
fn load(enrichment: &mut Enrichment, service: &Service) -> bool {
    /// How soon a request to shut down is noticed.
    const TURN: Duration = Duration::from_millis(200);
    while let Loading::Waiting(reason) = enrichment.load(TURN) {
        service.health.hold(reason);
        if service.shutdown.requested() {
            return false;
        }
    }
    true
}
