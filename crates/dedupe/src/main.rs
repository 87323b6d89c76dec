//! `dedupe`: the first sight of an event passes from `mail.enriched` to `mail.events`, its repeats
//! are counted and dropped. Exactly once: what passed, what is remembered of it and how far the
//! input was read commit in one Kafka transaction.

mod settings;
mod step;

use service::{Service, ServiceSettings};
use settings::DedupeSettings;
use state::Store;
use step::Dedupe;
use stream::{ClusterSettings, TopicSettings};

fn main() -> anyhow::Result<()> {
    let service = Service::load("dedupe", env!("CARGO_PKG_VERSION"))?;
    let process: ServiceSettings = service.settings.section("service")?;
    let cluster: ClusterSettings = service.settings.section("kafka")?;
    let layout: TopicSettings = service.settings.section("topics")?;
    let settings: DedupeSettings = service.settings.section("dedupe")?;
    service.open(settings.admin)?; // everything is parsed; only now a port opens

    let topics = cluster.topics();
    let connection = cluster.connect(&service.instance, !process.instance.is_empty());
    layout.prepare(&connection, &topics, settings.horizon_hours())?;

    let store = Store::open(&settings.directory, settings.horizon_hours())?;
    let alive = || service.health.beat();
    let mut dedupe = Dedupe::new(store, &topics, &alive);
    stream::step::run(
        &connection,
        &settings.step(&topics, layout),
        &mut dedupe,
        &|| service.shutdown.requested(),
        &|has_partitions| {
            alive();
            if has_partitions {
                service.health.ready();
            }
        },
    )?;
    Ok(())
}
