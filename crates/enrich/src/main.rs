//! `enrich`: the provider's bytes in, canonical events out.
//!
//! In: `mail.raw.*`, each record one event at one recipient in its provider's own form. Out:
//! `mail.enriched`, the canonical event as JSON with what `dedupe` needs in its headers, same key
//! and partition. What cannot be read goes to `mail.dead-letters` as it came, with the reason.
//!
//! Stateless and deterministic: the same bytes give the same event and the same `event_id`.
//! Outputs and input offsets commit in one Kafka transaction; after a crash the records since the
//! last commit are read again, and nothing of the first attempt is visible.

mod mailbox;
mod step;

use std::net::SocketAddr;
use std::time::Duration;

use mailbox::MailboxProviders;
use serde::Deserialize;
use service::Service;
use step::Enrich;
use stream::Cluster;
use stream::step::StepSettings;

/// `[enrich]`; each key is explained in `deploy/mailpulse.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnrichSettings {
    admin: SocketAddr,
    batch_records: usize,
    #[serde(with = "service::units::duration")]
    batch_wait: Duration,
    refusals_to_hold: u32,
}

fn main() -> anyhow::Result<()> {
    let service = Service::load("enrich", env!("CARGO_PKG_VERSION"))?;
    let settings: EnrichSettings = service.settings.section("enrich")?;
    let cluster = Cluster::read(&service)?;
    let Cluster { connection, topics, partitions, .. } = &cluster;
    let mut enrich = Enrich::new(topics.clone(), MailboxProviders::load()?);
    service.open(settings.admin)?;

    cluster.prepare()?;
    let inputs: Vec<String> = topics.all_raw().map(str::to_owned).collect();
    let loop_settings = StepSettings {
        job: "enrich",
        group: topics.group("enrich"),
        input_partitions: inputs.len() * partitions.recipient_partitions as usize,
        inputs,
        dead_letters: topics.dead_letters.clone(),
        batch_records: settings.batch_records,
        batch_wait: settings.batch_wait,
        refusals_to_hold: settings.refusals_to_hold,
    };
    stream::step::run(
        connection,
        &loop_settings,
        &mut enrich,
        &|| service.shutdown.requested(),
        &|is_assigned| service.health.report(is_assigned),
    )?;
    Ok(())
}
