//! `dedupe`: passes the first occurrence of each event from `mail.enriched` to `mail.events`, and
//! drops and counts duplicates. It remembers each message at each recipient, and decides what an event
//! counts for: whether it is the first of its kind, whether a bounce is late, and what it changes in the
//! counts of earlier events. It also recognises machines by the timing of their opens and clicks.
//! Events that were enriched before their recipient was erased are passed on with a pseudonym.
//! Everything happens exactly once: events, state and input offsets commit in one Kafka transaction.

mod heuristics;
mod judgement;
mod output_headers;
mod settings;
mod stage;

use erasure::{Erased, StageErasure};
use kafka::Cluster;
use service::Service;
use settings::DedupeSettings;
use stage::Dedupe;
use state::Store;

fn main() -> anyhow::Result<()> {
    let service = Service::load("dedupe", env!("CARGO_PKG_VERSION"))?;
    let cluster = Cluster::read(&service)?;
    let settings: DedupeSettings = service.settings.section("dedupe")?;
    let erasure_key = erasure::key(&service.settings)?;
    service.open(settings.admin)?; // all settings are read before a port opens

    cluster.prepare()?;
    let store = Store::open(&settings.directory, settings.horizons())?;
    let partitions = usize::try_from(cluster.partitions.recipient_partitions)?;
    let erased = Erased::follow(&cluster, "dedupe", erasure_key)?;
    let erasure = StageErasure::new(erased, &service.health, &service.shutdown);
    let mark_alive = || service.health.mark_alive();
    let heuristics = settings.heuristics();
    let dedupe = Dedupe::new(store, heuristics, &cluster.topics, partitions, erasure, &mark_alive);
    kafka::run(&cluster, &service, settings.batch(), dedupe)?;
    Ok(())
}
