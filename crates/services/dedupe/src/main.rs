//! `dedupe`: passes the first occurrence of each event from `mail.enriched` to `mail.events`, and
//! drops and counts duplicates. It marks which opens and clicks are the first of their message and
//! recipient, and recognises machines by the timing of their opens and clicks. Everything happens
//! exactly once: events, state and input offsets commit in one Kafka transaction.

mod heuristics;
mod settings;
mod stage;

use kafka::Cluster;
use service::Service;
use settings::DedupeSettings;
use stage::Dedupe;
use state::Store;

fn main() -> anyhow::Result<()> {
    let service = Service::load("dedupe", env!("CARGO_PKG_VERSION"))?;
    let cluster = Cluster::read(&service)?;
    let settings: DedupeSettings = service.settings.section("dedupe")?;
    service.open(settings.admin)?; // all settings are read before a port opens

    cluster.prepare()?;
    let store = Store::open(&settings.directory, settings.horizon_hours())?;
    let partitions = usize::try_from(cluster.partitions.recipient_partitions)?;
    let mark_alive = || service.health.mark_alive();
    let heuristics = settings.heuristics();
    let dedupe = Dedupe::new(store, heuristics, &cluster.topics, partitions, &mark_alive);
    kafka::run(&cluster, &service, settings.batch(), dedupe)?;
    Ok(())
}
