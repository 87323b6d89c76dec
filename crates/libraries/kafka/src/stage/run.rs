use std::sync::{Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use service::Service;

use super::batch_loop::Member;
use super::{BatchSettings, Inputs, Stage};
use crate::group::Group;
use crate::positions::PositionsTopic;
use crate::{Cluster, Connection, Error};

/// How often the ledgers are exported.
const EXPORT_PERIOD: Duration = Duration::from_secs(1);

/// The input of a loop and the size of its transactions.
#[derive(Debug, Clone)]
pub struct LoopSettings {
    /// The consumer group, and the stem of the transactional id.
    pub group: String,
    /// What the stage reads.
    pub inputs: Inputs,
    /// The topic of records that cannot be processed.
    pub dead_letter_topic: String,
    /// Where the positions are written. `None` compares nothing.
    pub positions: Option<PositionsTopic>,
    /// The size of a transaction, and the refusal limit.
    pub batch: BatchSettings,
}

impl LoopSettings {
    fn new<S: Stage>(cluster: &Cluster, batch: BatchSettings, stage: &S) -> Self {
        Self {
            group: cluster.topics.group(S::STAGE.code()),
            inputs: stage.inputs(),
            dead_letter_topic: cluster.topics.dead_letters.clone(),
            positions: Some(PositionsTopic::of(cluster)),
            batch,
        }
    }
}

/// Runs a stage until the service shuts down, and reports its health.
///
/// # Errors
/// Errors from which a new process recovers: the supervisor should start it again.
pub fn run(
    cluster: &Cluster,
    service: &Service,
    batch: BatchSettings,
    mut stage: impl Stage,
) -> Result<(), Error> {
    let settings = LoopSettings::new(cluster, batch, &stage);
    let stop = || service.shutdown.requested();
    let report = |has_partitions| service.health.report_assignment(has_partitions);
    run_until(&cluster.connection, &settings, &mut stage, &stop, &report)
}

/// Runs three stages, each on a thread of its own, until the service shuts down. If one ends, for any
/// reason, the others end too. The service is alive while all loops make progress, and ready while any has
/// partitions.
///
/// # Errors
/// As [`run`], for the first stage that fails.
pub fn run_all<A: Stage + Send, B: Stage + Send, C: Stage + Send>(
    cluster: &Cluster,
    service: &Service,
    batch: BatchSettings,
    (first, second, third): (A, B, C),
) -> Result<(), Error> {
    let health = SharedHealth { service, held: &|| None, loops: Mutex::new(vec![None; 3]) };
    std::thread::scope(|scope| {
        let _end_all = ShutdownOnDrop(service);
        let threads = [
            health.spawn(scope, 0, cluster, batch, first)?,
            health.spawn(scope, 1, cluster, batch, second)?,
            health.spawn(scope, 2, cluster, batch, third)?,
        ];
        let codes = [A::STAGE.code(), B::STAGE.code(), C::STAGE.code()];
        for (code, thread) in codes.into_iter().zip(threads) {
            thread.join().map_err(|_| Error::state(format!("the stage {code} panicked")))??;
        }
        Ok(())
    })
}

/// As [`run_all`], for two stages. While `held` returns a reason, the service is not ready.
///
/// # Errors
/// As [`run`], for the first stage that fails.
pub fn run_two<A: Stage + Send, B: Stage + Send>(
    cluster: &Cluster,
    service: &Service,
    batch: BatchSettings,
    (first, second): (A, B),
    held: &(dyn Fn() -> Option<String> + Sync),
) -> Result<(), Error> {
    let health = SharedHealth { service, held, loops: Mutex::new(vec![None; 2]) };
    std::thread::scope(|scope| {
        let _end_all = ShutdownOnDrop(service);
        let threads = [
            health.spawn(scope, 0, cluster, batch, first)?,
            health.spawn(scope, 1, cluster, batch, second)?,
        ];
        for (code, thread) in [A::STAGE.code(), B::STAGE.code()].into_iter().zip(threads) {
            thread.join().map_err(|_| Error::state(format!("the stage {code} panicked")))??;
        }
        Ok(())
    })
}

/// Merges the health of the loops into that of their service.
struct SharedHealth<'a> {
    service: &'a Service,
    /// Returns why another part of the service cannot work.
    held: &'a (dyn Fn() -> Option<String> + Sync),
    /// By loop, whether it had partitions in its last batch. Cleared when all have reported.
    loops: Mutex<Vec<Option<bool>>>,
}

impl SharedHealth<'_> {
    /// Starts the thread of a stage.
    fn spawn<'scope, S: Stage + Send + 'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        index: usize,
        cluster: &'scope Cluster,
        batch: BatchSettings,
        stage: S,
    ) -> Result<ScopedJoinHandle<'scope, Result<(), Error>>, Error> {
        std::thread::Builder::new()
            .name(S::STAGE.code().to_owned())
            .spawn_scoped(scope, move || self.run(index, cluster, batch, stage))
            .map_err(Error::state)
    }

    fn run<S: Stage>(
        &self,
        index: usize,
        cluster: &Cluster,
        batch: BatchSettings,
        mut stage: S,
    ) -> Result<(), Error> {
        let _end_all = ShutdownOnDrop(self.service);
        let settings = LoopSettings::new(cluster, batch, &stage);
        let stop = || self.service.shutdown.requested();
        let report = |has_partitions| self.report(index, has_partitions);
        run_until(&cluster.connection, &settings, &mut stage, &stop, &report).inspect_err(|error| {
            tracing::error!(component = S::STAGE.code(), %error, "stage failed; the service ends");
        })
    }

    fn report(&self, index: usize, has_partitions: bool) {
        let mut loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        loops[index] = Some(has_partitions);
        if loops.iter().all(Option::is_some) {
            let has_partitions = loops.contains(&Some(true));
            loops.fill(None);
            let health = &self.service.health;
            match (self.held)() {
                Some(reason) => {
                    health.mark_alive();
                    health.hold(reason);
                }
                None => health.report_assignment(has_partitions),
            }
        }
    }
}

/// Requests the shutdown of the service when it is dropped, even after a panic.
struct ShutdownOnDrop<'a>(&'a Service);

impl Drop for ShutdownOnDrop<'_> {
    fn drop(&mut self) {
        self.0.shutdown.request();
    }
}

/// Runs a stage until `stop` returns true; the open batch is finished first. Calls `report` once per
/// batch with whether partitions are assigned and restored. Services use [`run`].
///
/// # Errors
/// As [`run`].
pub fn run_until<S: Stage>(
    connection: &Connection,
    settings: &LoopSettings,
    stage: &mut S,
    stop: &dyn Fn() -> bool,
    report: &dyn Fn(bool),
) -> Result<(), Error> {
    let component = S::STAGE.code();
    let config = connection.consumer(component, &settings.group, settings.inputs.partitions);
    let topics: Vec<&str> = settings.inputs.topics.iter().map(String::as_str).collect();
    let group = match stage.alignment() {
        None => Group::join(connection, config, component, &settings.group, &topics)?,
        Some(_) => {
            let partitions = settings.inputs.partitions / topics.len().max(1);
            let partitions = i32::try_from(partitions).map_err(Error::state)?;
            let name = &settings.group;
            Group::join_aligned(connection, config, component, name, &topics, partitions)?
        }
    };
    let mut member = Member::new(connection, settings, &group, stage)?;
    let mut exported = Instant::now();
    while !stop() {
        let mut batch = member.collect(stop)?;
        member.apply_ownership_changes(&mut batch)?;
        member.process(&batch)?;
        report(member.has_partitions());
        if exported.elapsed() >= EXPORT_PERIOD {
            exported = Instant::now();
            member.export_ledgers();
        }
    }
    tracing::info!(component, "stage stopped after its last commit");
    Ok(())
}
