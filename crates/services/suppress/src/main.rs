//! `suppress`: decides who must not be mailed, and answers that question. The library of this crate explains how.

use std::collections::BTreeSet;
use std::sync::Arc;

use erasure::{Erased, StageErasure};
use kafka::Cluster;
use kafka::Stage;
use kafka::positions::PositionsTopic;
use kafka::stage::{LoopSettings, run_until};
use service::Service;
use suppress::audit::Audit;
use suppress::feed::Feed;
use suppress::follower;
use suppress::http::Api;
use suppress::http::access::Access;
use suppress::incidents::{self, Incidents};
use suppress::settings::SuppressSettings;
use suppress::stage::{StageSettings, Suppress};
use suppress::store::Store;

fn main() -> anyhow::Result<()> {
    let service = Service::load("suppress", env!("CARGO_PKG_VERSION"))?;
    let cluster = Cluster::read(&service)?;
    let settings = SuppressSettings::read(&service.settings)?;
    let stage = settings.stage(&service.settings)?;
    let access = settings.access(&service.settings)?;
    let lists = SuppressSettings::known_lists(&service.settings)?;
    let audit = Audit::new(&service.settings)?;
    let erasure_key = erasure::key(&service.settings)?;
    service.open(settings.admin)?; // all settings are read before a port opens
    if access.is_closed() {
        tracing::warn!("nobody may ask, because suppress.tokens is empty");
    }

    cluster.prepare()?;
    // Reading millions of records needs memory that nothing needs afterwards.
    kafka::give_back_memory();
    let partitions = usize::try_from(cluster.partitions.recipient_partitions)?;
    let store = Arc::new(Store::new(stage.policy, partitions));
    let erased = Erased::follow(&cluster, "suppress", erasure_key)?;
    let follower = follower::start(&store, &cluster, &service)?;
    let incidents = Incidents::default();
    let incidents_follower = incidents::start(&incidents, &cluster, &service)?;
    let api = start_api(&service, &cluster, &settings, &stage, &store, access, lists, audit)?;
    let erasure = StageErasure::new(erased, &service.health, &service.shutdown);
    let result = run(&cluster, &service, &settings, stage, store, incidents, erasure);
    service.shutdown.request();
    let _ = follower.join();
    let _ = incidents_follower.join();
    let _ = api.join();
    Ok(result?)
}

#[expect(clippy::too_many_arguments, reason = "called once, with everything that the API needs")]
fn start_api(
    service: &Service,
    cluster: &Cluster,
    settings: &SuppressSettings,
    stage: &StageSettings,
    store: &Arc<Store>,
    access: Access,
    lists: BTreeSet<String>,
    audit: Audit,
) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let topic = cluster.topics.suppressions.clone();
    let partitions = usize::try_from(cluster.partitions.recipient_partitions)?;
    let feed = Feed::new(cluster.connection.clone(), topic.clone(), partitions);
    let keys = stage.keys.clone();
    let api =
        Api::new(access, Arc::clone(store), keys, lists, feed, audit, &cluster.connection, topic)?;
    api.start(settings, &service.shutdown)
}

/// Runs the stage. An instance without partitions answers too, so it is ready.
fn run(
    cluster: &Cluster,
    service: &Service,
    settings: &SuppressSettings,
    stage: StageSettings,
    store: Arc<Store>,
    incidents: Incidents,
    erasure: StageErasure,
) -> Result<(), kafka::Error> {
    let partitions = usize::try_from(cluster.partitions.recipient_partitions).unwrap_or(1);
    let mark_alive = || service.health.mark_alive();
    let topics = &cluster.topics;
    let mut stage =
        Suppress::new(stage, topics, partitions, erasure, store, incidents, &mark_alive);
    let settings = LoopSettings {
        group: cluster.topics.group(Suppress::STAGE.code()),
        inputs: stage.inputs(),
        dead_letter_topic: cluster.topics.dead_letters.clone(),
        positions: Some(PositionsTopic::of(cluster)),
        batch: settings.batch(),
    };
    let stop = || service.shutdown.requested();
    let report = |_| {
        service.health.mark_alive();
        service.health.ready();
    };
    run_until(&cluster.connection, &settings, &mut stage, &stop, &report)
}
