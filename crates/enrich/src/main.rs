//! `enrich`: the provider's bytes in, canonical events out.
//!
//! In: `mail.raw.*`, each record one event at one recipient in its provider's own form. Out:
//! `mail.enriched`, the canonical event as JSON with what `dedupe` needs in its headers, same key
//! and partition. What cannot be read goes to `mail.dead-letters` as it came, with the reason.
//!
//! Stateless and deterministic: the same bytes give the same `event_id`, and with the same tables,
//! databases and mail exchangers the same event.
//! Outputs and input offsets commit in one Kafka transaction; after a crash the records since the
//! last commit are read again, and nothing of the first attempt is visible.

mod agents;
mod data_centres;
mod enrichment;
mod extract;
mod geography;
mod lookup;
mod mailbox;
mod mx;
mod mx_hosts;
mod pointer;
mod settings;
mod step;
mod watched;

use enrichment::Enrichment;
use service::Service;
use settings::EnrichSettings;
use step::Enrich;
use stream::Cluster;

fn main() -> anyhow::Result<()> {
    let service = Service::load("enrich", env!("CARGO_PKG_VERSION"))?;
    let settings = EnrichSettings::read(&service.settings)?;
    let cluster = Cluster::read(&service)?;
    let mut enrich = Enrich::new(cluster.topics.clone(), Enrichment::open(&settings)?);
    service.open(settings.admin)?; // everything is read; only now a port opens

    cluster.prepare()?;
    stream::step::run(
        &cluster.connection,
        &settings.step(&cluster.topics, cluster.partitions),
        &mut enrich,
        &|| service.shutdown.requested(),
        &|is_assigned| service.health.report(is_assigned),
    )?;
    Ok(())
}
