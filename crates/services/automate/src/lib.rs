//! `automate` acts on events by rules. Each action is decided exactly once and delivered at least once under one id.
//!
//! 1. *match*: `mail.events` → `mail.intents`, keyed by recipient. It knows each recipient: cooldowns, what they did
//!    lately, their segments, and follow-ups.
//! 2. *limit*: `mail.intents` → `mail.actions`, `mail.segments`, keyed by rule. It knows how often each rule has acted.
//!    It also turns `mail.incidents` into intents.
//! 3. *deliver*: `mail.actions` → receivers, in order per recipient.
//!
//! The first two are exactly-once stages. Their decisions are pure functions of the crate `automation`. They read no
//! clock: time passes with the time records of `mail.events`, so that a stopped service misses nothing and a replay
//! decides the same.

mod campaigns;
mod changelog;
mod delivery;
mod limit_stage;
mod match_stage;
mod recipients;
mod settings;

use std::sync::Arc;

use campaigns::Campaigns;
use delivery::{Intake, Receivers, Suppressions};
use erasure::{Erased, StageErasure};
use kafka::feed::Feed;
use kafka::{Cluster, DeadLetterWriter};
use limit_stage::LimitStage;
use match_stage::MatchStage;
use service::Service;
use settings::AutomateSettings;

/// Runs the service until shutdown is requested.
///
/// # Errors
/// Fails if the settings cannot be used, or if a stage cannot go on.
pub fn run(service: &Service) -> anyhow::Result<()> {
    let settings = AutomateSettings::read(&service.settings)?;
    let rules = Arc::new(settings::rules(&service.settings)?);
    let receivers = Receivers::new(&rules, &settings, &service.settings)?;
    let mails_recipients = settings::mails_recipients(&rules);
    let suppressions =
        mails_recipients.then(|| Suppressions::new(&service.settings)).transpose()?;
    let suppressions = suppressions.map(Arc::new);
    let cluster = Cluster::read(service)?;
    let erasure_key = erasure::key(&service.settings)?;
    service.open(settings.admin)?; // all settings are read before a port opens

    cluster.prepare()?;
    let Cluster { topics, partitions, .. } = &cluster;
    let erased = Arc::new(Erased::follow(&cluster, "automate", erasure_key)?);
    let erasure = || StageErasure::new(Arc::clone(&erased), &service.health, &service.shutdown);
    let event_partitions = usize::try_from(partitions.recipient_partitions)?;
    let intent_partitions = usize::try_from(partitions.scope_partitions)?;
    let campaigns = Arc::new(Campaigns::default());
    if rules.uses_campaign_rate() {
        campaigns.follow(&cluster, service)?;
    }
    let matching =
        MatchStage::new(Arc::clone(&rules), topics, event_partitions, campaigns, erasure());
    let limits = LimitStage::new(
        Arc::clone(&rules),
        topics,
        intent_partitions,
        partitions.recipient_partitions,
        erasure(),
    );
    if let Some(suppressions) = &suppressions {
        suppressions.follow(&cluster, service)?;
    }
    let feed = Feed::open(&cluster, record::Stage::AutomateDeliver, &[&topics.actions])?;
    let intake = Intake::new(
        (feed, topics.actions.clone()),
        DeadLetterWriter::open(&cluster, record::Stage::AutomateDeliver)?,
        Arc::clone(&erased),
        (rules, receivers, suppressions),
        (settings.clone(), service),
    )?;
    let status = intake.held();
    let held = || status.read();
    std::thread::scope(|scope| {
        let delivery =
            std::thread::Builder::new().name("intake".to_owned()).spawn_scoped(scope, || {
                let ended = intake.run();
                if let Err(error) = &ended {
                    tracing::error!(%error, "actions are no longer delivered; the service ends");
                }
                service.shutdown.request();
                ended
            })?;
        let stages = kafka::run_two(&cluster, service, settings.batch(), (matching, limits), &held);
        service.shutdown.request();
        let delivered = delivery.join().map_err(|_| anyhow::anyhow!("the delivery panicked"))?;
        stages?;
        Ok(delivered?)
    })
}
