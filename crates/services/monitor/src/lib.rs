//! `monitor` computes rates from events, and alerts from rates.
//!
//! The events are keyed by recipient, so the events of one campaign are in all partitions. Therefore
//! `monitor` has two stages with a topic between them:
//!
//! 1. *fold*: `mail.events` → `mail.panes`. With each batch, fold publishes the counts that its
//!    events add to the ten-second panes of each scope, and the watermark of each partition.
//! 2. *rate*: `mail.panes` → `mail.rates`, `mail.alerts`. The owner of a scope adds the deltas, slides
//!    the windows up to the minimum event time of all partitions, and evaluates the rules.
//!
//! Both stages are exactly-once. Each runs on its own thread with its own Kafka transactions. The only
//! state of fold is the watermark, which is committed as metadata of the offset. Rate restores its state
//! from `mail.changelog.monitor`. A crash neither loses nor repeats anything, and the results do not
//! depend on the number of members.
//!
//! [`Recomputation`] computes the alerts of rate again, for `mailpulse recompute`.

mod batch_counts;
mod changelog;
mod clock;
mod commit;
#[cfg(test)]
mod day;
mod deliveries;
mod event_partitions;
mod evidence;
mod fold;
mod history;
mod incidents_record;
mod incidents_settings;
mod incidents_stage;
mod rate;
mod rated_event;
mod recomputation;
mod restore;
mod scope_state;
mod settings;
mod shard;
mod watermarks;

use erasure::{Erased, StageErasure};
use fold::Fold;
use incidents_stage::IncidentsStage;
use kafka::Cluster;
use rate::Rate;
use service::Service;
use settings::MonitorSettings;

pub use recomputation::{Recomputation, Recomputed};

/// Runs the three stages until shutdown is requested.
///
/// # Errors
/// Fails if the settings cannot be used, or if a stage cannot go on.
pub fn run(service: &Service) -> anyhow::Result<()> {
    let settings: MonitorSettings = service.settings.section("monitor")?;
    let cluster = Cluster::read(service)?;
    let rules = settings.rules(&service.settings)?;
    let erasure_key = erasure::key(&service.settings)?;
    let zones = settings::zones(&service.settings)?;
    service.open(settings.admin)?; // all settings are read before a port opens

    cluster.prepare()?;
    let Cluster { topics, partitions, .. } = &cluster;
    let event_partitions = usize::try_from(partitions.recipient_partitions)?;
    let pane_partitions = partitions.scope_partitions;
    let alert_partitions = usize::try_from(pane_partitions)?;
    let erased = Erased::follow(&cluster, "monitor", erasure_key)?;
    let erasure = StageErasure::new(erased, &service.health, &service.shutdown);
    let fold = Fold::new(topics, event_partitions, pane_partitions, erasure, &settings);
    let rate = Rate::new(topics, event_partitions, pane_partitions, &settings, (rules, zones));
    let incidents = IncidentsStage::new(topics, alert_partitions, settings.incidents.settings());
    kafka::run_all(&cluster, service, settings.batch(), (fold, rate, incidents))?;
    Ok(())
}
