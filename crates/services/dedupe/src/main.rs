//! `dedupe`: the first sight of an event passes from `mail.enriched` to `mail.events`, its repeats
//! are counted and dropped. On the way opens and clicks are told what they are the first of, and
//! machines that only their timing gives away are marked. Exactly once: what passed, what is
//! remembered of it and how far the input was read commit in one Kafka transaction.

mod heuristics;
mod settings;
mod step;

use service::Service;
use settings::DedupeSettings;
use state::Store;
use step::Dedupe;
use kafka::Cluster;

fn main() -> anyhow::Result<()> {
    let service = Service::load("dedupe", env!("CARGO_PKG_VERSION"))?;
    let cluster = Cluster::read(&service)?;
    let settings: DedupeSettings = service.settings.section("dedupe")?;
    service.open(settings.admin)?; // everything is parsed; only now a port opens

    cluster.prepare()?;
    let store = Store::open(&settings.directory, settings.horizon_hours())?;
    let alive = || service.health.beat();
    let mut dedupe = Dedupe::new(store, settings.heuristics(), &cluster.topics, &alive);
    kafka::step::run(
        &cluster.connection,
        &settings.step(&cluster.topics, cluster.partitions),
        &mut dedupe,
        &|| service.shutdown.requested(),
        &|has_partitions| service.health.report(has_partitions),
    )?;
    Ok(())
}
