//! `monitor`: events in, rates and alerts out.
//!
//! Two steps with a topic between them, because events are keyed by recipient and a campaign lies
//! on every partition:
//!
//! 1. *fold*: `mail.events` → `mail.panes`. Per commit, what the events add to each scope's ten-second
//!    panes, and how far event time has come in each partition.
//! 2. *rate*: `mail.panes` → `mail.rates`, `mail.alerts`. The owner of a scope adds the deltas, slides
//!    the windows up to the least event time of all partitions, and judges the rules.
//!
//! Both are exactly-once, each a thread with a Kafka transaction of its own. Fold's only state, the
//! watermark, rides on its committed offset; rate's is restored from `mail.changelog.monitor`. A
//! crash loses nothing and repeats nothing; the numbers are the same however many members run.

mod clock;
mod facts;
mod fold;
mod journal;
mod rate;
mod settings;
mod shard;

use anyhow::{Context, anyhow};
use fold::Fold;
use rate::Rate;
use service::Service;
use settings::MonitorSettings;
use stream::step::{Step, StepSettings};
use stream::{Cluster, Connection};

fn main() -> anyhow::Result<()> {
    let service = Service::load("monitor", env!("CARGO_PKG_VERSION"))?;
    let settings: MonitorSettings = service.settings.section("monitor")?;
    let cluster = Cluster::read(&service)?;
    let Cluster { connection, topics, partitions, .. } = &cluster;
    service.open(settings.admin)?;

    cluster.prepare()?;
    let fold = Fold::new(topics, partitions.scope_partitions, &settings);
    let rate = Rate::new(topics, partitions.recipient_partitions, &settings);
    let half = |job, input: &str, partitions: i32| StepSettings {
        job,
        group: topics.group(job),
        inputs: vec![input.to_owned()],
        input_partitions: usize::try_from(partitions).unwrap_or(1),
        dead_letters: topics.dead_letters.clone(),
        batch_records: settings.batch_records,
        batch_wait: settings.batch_wait,
    };
    let fold_loop = half("monitor-fold", &topics.events, partitions.recipient_partitions);
    let rate_loop = half("monitor-rate", &topics.panes, partitions.scope_partitions);
    std::thread::scope(|scope| {
        let folding = scope.spawn(|| run(&service, connection, &fold_loop, fold));
        let rating = scope.spawn(|| run(&service, connection, &rate_loop, rate));
        for half in [folding, rating] {
            half.join().map_err(|_| anyhow!("a half of monitor panicked"))??;
        }
        Ok(())
    })
}

/// Runs one half; when it ends, for whatever reason, so does the other.
fn run(
    service: &Service,
    connection: &Connection,
    settings: &StepSettings,
    mut step: impl Step,
) -> anyhow::Result<()> {
    let ended = stream::step::run(
        connection,
        settings,
        &mut step,
        &|| service.shutdown.requested(),
        &|_| {
            service.health.beat();
            service.health.ready();
        },
    );
    service.shutdown.request();
    ended.with_context(|| settings.job)
}
