//! Executes the schedule.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;
use devstack::kafka::BROKERS;
use kafka::inspect;
use serde::Serialize;

use super::action::{Action, Seconds};
use super::balance::Balance;
use super::full_disk::{FullDisk, fill};
use super::post::Poster;
use super::progress::Progress;
use super::schedule::{Schedule, Step, members_of};
use super::topics::Log;
use crate::pipeline::Pipeline;
use crate::supervisor::Member;

/// A deduplication window that contains only the last insert.
const SHORT_WINDOW: u32 = 1;
/// The deduplication window of schemas/clickhouse.
const NORMAL_WINDOW: u32 = 10_000;
/// How long archive may take until it has stored everything that was written before.
const ARCHIVE_TIMEOUT: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(300);
/// Traffic continues for this time after the last action.
const FINAL_PAUSE: Duration = Duration::from_secs(4);

/// Counts the executed actions.
#[derive(Debug, Default, Serialize)]
pub(crate) struct ActionLog {
    /// SIGKILLs by service or server.
    pub(crate) kills: BTreeMap<&'static str, u32>,
    /// SIGTERMs by service.
    pub(crate) leaves: BTreeMap<&'static str, u32>,
    /// SIGSTOPs by service or server.
    pub(crate) freezes: BTreeMap<&'static str, u32>,
    pub(crate) outages: Vec<Outage>,
    pub(crate) full_disks: Vec<FullDisk>,
    /// The requests with genuine mail that were not answered 2xx during each rolling restart.
    pub(crate) refused_by_restarts: Vec<u64>,
}

/// A time in which a member or server was down or frozen.
#[derive(Debug, Serialize)]
pub(crate) struct Outage {
    pub(crate) what: String,
    /// Includes the restart of a server.
    pub(crate) seconds: f64,
}

const KAFKA: &str = "Kafka";
const BROKER: &str = "broker";
const CLICKHOUSE: &str = "ClickHouse";

/// Executes all actions in order. Everything runs again afterwards.
pub(crate) fn execute(
    pipeline: &mut Pipeline,
    schedule: &Schedule,
    progress: &Progress,
    log: &Log,
    poster: &Poster,
) -> anyhow::Result<ActionLog> {
    let mut executor = Executor { pipeline, progress, log, poster, actions: ActionLog::default() };
    for (number, Step { pause, action }) in schedule.0.iter().enumerate() {
        sleep(*pause);
        progress.begin_action(number + 1, action);
        executor.execute(action).with_context(|| action.to_string())?;
        progress.end_action();
    }
    sleep(FINAL_PAUSE);
    Ok(executor.actions)
}

struct Executor<'a> {
    pipeline: &'a mut Pipeline,
    progress: &'a Progress,
    log: &'a Log,
    poster: &'a Poster,
    actions: ActionLog,
}

impl Executor<'_> {
    fn execute(&mut self, action: &Action) -> anyhow::Result<()> {
        match action {
            Action::Kill(member) => self.kill(|other| other == *member),
            Action::KillTogether(members) => self.kill(|member| members.contains(&member)),
            Action::Storm { members, every } => members.iter().try_for_each(|member| {
                self.kill(|other| other == *member)?;
                sleep(*every);
                Ok(())
            }),
            Action::Lose { member, away } => self.outage(member.to_string(), |executor| {
                executor.pipeline.supervisor.set_wanted(|other| other == *member, false);
                executor.kill(|other| other == *member)?;
                sleep(*away);
                executor.pipeline.supervisor.set_wanted(|other| other == *member, true);
                Ok(())
            }),
            Action::Leave { member, away } => self.outage(member.to_string(), |executor| {
                executor.leave(*member)?;
                sleep(*away);
                executor.pipeline.supervisor.set_wanted(|other| other == *member, true);
                Ok(())
            }),
            Action::Join { member, staying } => {
                self.pipeline.supervisor.set_wanted(|other| other == *member, true);
                sleep(*staying);
                self.leave(*member)
            }
            Action::Freeze { member, lasting } => self.outage(member.to_string(), |executor| {
                executor.count_freeze(member.service);
                executor.pipeline.supervisor.freeze(*member)?;
                sleep(*lasting);
                executor.pipeline.supervisor.thaw(*member)
            }),
            Action::KafkaCrash { away } => self.outage(KAFKA.to_owned(), |executor| {
                executor.kill_kafka()?;
                sleep(*away);
                Ok(executor.pipeline.kafka.restart()?)
            }),
            Action::FullDisk { lasting } => self.outage(KAFKA.to_owned(), |executor| {
                executor.kill_kafka()?;
                executor.actions.full_disks.push(fill(executor.pipeline, *lasting)?);
                Ok(executor.pipeline.kafka.restart()?)
            }),
            Action::ClickHouseCrash { away } => self.outage(CLICKHOUSE.to_owned(), |executor| {
                executor.kill_clickhouse()?;
                sleep(*away);
                Ok(executor.pipeline.clickhouse.restart()?)
            }),
            Action::ClickHouseForgets { away } => self.shorten_window(*away),
            Action::ClickHouseFreeze { lasting } => {
                self.outage(CLICKHOUSE.to_owned(), |executor| {
                    executor.count_freeze(CLICKHOUSE);
                    executor.pipeline.clickhouse.freeze()?;
                    sleep(*lasting);
                    Ok(executor.pipeline.clickhouse.thaw()?)
                })
            }
            Action::Blackout { away } => self.blackout(*away),
            Action::BrokerCrash { broker, away } => self.outage(name_of(*broker), |executor| {
                executor.kill_broker(*broker)?;
                sleep(*away);
                Ok(executor.pipeline.kafka.restart_broker(*broker)?)
            }),
            Action::LoneBroker { broker, away } => {
                let others = || (0..BROKERS).filter(|other| other != broker);
                self.outage(format!("all but {}", name_of(*broker)), |executor| {
                    others().try_for_each(|other| executor.kill_broker(other))?;
                    sleep(*away);
                    others()
                        .try_for_each(|other| Ok(executor.pipeline.kafka.restart_broker(other)?))
                })
            }
            Action::BrokerFreeze { broker, lasting } => self.outage(name_of(*broker), |executor| {
                executor.count_freeze(BROKER);
                executor.pipeline.kafka.freeze_broker(*broker)?;
                sleep(*lasting);
                Ok(executor.pipeline.kafka.thaw_broker(*broker)?)
            }),
            Action::BrokerCutOff { broker, lasting } => self.cut_off(*broker, *lasting),
            Action::LeadersMove => Ok(self.pipeline.kafka.move_leaders(&self.log.topics.prefix)?),
            Action::RollingRestart => self.rolling_restart(),
        }
    }

    fn cut_off(&mut self, broker: usize, lasting: Duration) -> anyhow::Result<()> {
        if !self.pipeline.kafka.can_be_cut_off() {
            self.progress.print("  skipped: it needs network namespaces, so root and iproute2");
            return Ok(());
        }
        self.outage(format!("{}, cut off", name_of(broker)), |executor| {
            executor.pipeline.kafka.set_connected(broker, false)?;
            sleep(lasting);
            Ok(executor.pipeline.kafka.set_connected(broker, true)?)
        })
    }

    /// Restarts one broker after the other, as an operator does: each when all replicas are in sync.
    fn rolling_restart(&mut self) -> anyhow::Result<()> {
        // Whatever an earlier action has left behind does not count.
        self.pipeline.await_ready()?;
        self.pipeline.kafka.await_in_sync()?;
        let before = self.poster.answers().refused;
        for broker in 0..BROKERS {
            *self.actions.leaves.entry(BROKER).or_default() += 1;
            self.pipeline.kafka.stop_broker(broker)?;
            self.pipeline.kafka.restart_broker(broker)?;
            self.pipeline.kafka.await_in_sync()?;
        }
        let refused = self.poster.answers().refused - before;
        self.actions.refused_by_restarts.push(refused);
        Ok(())
    }

    /// See [`Action::ClickHouseForgets`]. An archive reads the window when it starts. A table must not have
    /// a shorter window than the running archives believe, and a window that was widened takes time to
    /// fill.
    fn shorten_window(&mut self, away: Duration) -> anyhow::Result<()> {
        let archives = |member: Member| member.service == "archive";
        self.outage(CLICKHOUSE.to_owned(), |executor| {
            executor.pipeline.supervisor.set_wanted(archives, false);
            executor.kill(archives)?;
            executor.set_window(SHORT_WINDOW)?;
            executor.kill_clickhouse()?;
            sleep(away);
            Ok(executor.pipeline.clickhouse.restart()?)
        })?;
        self.pipeline.supervisor.set_wanted(is_regular, true);
        // No range of before may be pending when an archive reads the normal window: ClickHouse has forgotten its
        // token. The same is true of ranges that were inserted with the short window.
        self.await_archived()?;
        self.set_window(NORMAL_WINDOW)?;
        self.await_archived()?;
        for number in 1..=members_of("archive") {
            let member = Member { service: "archive", number };
            self.leave(member)?;
            self.pipeline.supervisor.set_wanted(|other| other == member, true);
        }
        Ok(())
    }

    /// Waits until archive has stored all records that are in its topics now.
    fn await_archived(&self) -> anyhow::Result<()> {
        let Log { connection, topics } = self.log;
        let group = topics.group(record::Stage::Archive.code());
        let deadline = Instant::now() + ARCHIVE_TIMEOUT;
        let counts = kafka::topics::partition_counts(connection)?;
        for topic in [&topics.events, &topics.rates, &topics.alerts, &topics.incidents] {
            let Some(&partitions) = counts.get(topic) else { continue };
            let ends = inspect::after_last_records(connection, topic, partitions, ARCHIVE_TIMEOUT)?;
            while let Some(behind) = inspect::first_behind(connection, &group, topic, &ends)? {
                anyhow::ensure!(
                    Instant::now() < deadline,
                    "archive has not stored {topic}: {behind:?}"
                );
                sleep(POLL);
            }
        }
        Ok(())
    }

    fn blackout(&mut self, away: Duration) -> anyhow::Result<()> {
        self.outage("everything".to_owned(), |executor| {
            executor.pipeline.supervisor.set_wanted(|_| true, false);
            executor.kill_kafka()?;
            executor.pipeline.kafka.kill_all()?;
            executor.kill(|_| true)?;
            executor.kill_clickhouse()?;
            sleep(away);
            // In any order, as after a power cut: services must wait for their servers.
            executor.pipeline.supervisor.set_wanted(is_regular, true);
            executor.pipeline.kafka.restart()?;
            Ok(executor.pipeline.clickhouse.restart()?)
        })
    }

    fn outage(
        &mut self,
        what: String,
        act: impl FnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        act(self)?;
        self.progress.count_outage();
        let seconds = (began.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        self.actions.outages.push(Outage { what, seconds });
        Ok(())
    }

    fn kill(&mut self, selected: impl Fn(Member) -> bool) -> anyhow::Result<()> {
        for member in self.pipeline.supervisor.kill_where(selected)? {
            *self.actions.kills.entry(member.service).or_default() += 1;
            self.progress.count_kill();
        }
        Ok(())
    }

    fn kill_kafka(&mut self) -> anyhow::Result<()> {
        *self.actions.kills.entry(KAFKA).or_default() += 1;
        self.progress.count_kill();
        Ok(self.pipeline.kafka.kill()?)
    }

    fn kill_broker(&mut self, broker: usize) -> anyhow::Result<()> {
        *self.actions.kills.entry(BROKER).or_default() += 1;
        self.progress.count_kill();
        Ok(self.pipeline.kafka.kill_broker(broker)?)
    }

    fn kill_clickhouse(&mut self) -> anyhow::Result<()> {
        *self.actions.kills.entry(CLICKHOUSE).or_default() += 1;
        self.progress.count_kill();
        Ok(self.pipeline.clickhouse.kill()?)
    }

    fn leave(&mut self, member: Member) -> anyhow::Result<()> {
        *self.actions.leaves.entry(member.service).or_default() += 1;
        self.pipeline.supervisor.stop(member)
    }

    fn count_freeze(&mut self, what: &'static str) {
        *self.actions.freezes.entry(what).or_default() += 1;
    }

    /// Sets the deduplication window of every table that has one.
    fn set_window(&self, window: u32) -> anyhow::Result<()> {
        let database = &self.pipeline.database;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let tables = database.text(
                "SELECT name FROM system.tables WHERE database = currentDatabase() \
                 AND engine_full LIKE '%non_replicated_deduplication_window%' FORMAT TSV",
            );
            for table in tables.await?.lines() {
                let sql = format!(
                    "ALTER TABLE {table} \
                     MODIFY SETTING non_replicated_deduplication_window = {window}"
                );
                database.text(&sql).await?;
            }
            Ok(())
        })
    }
}

/// No request may be refused while brokers are restarted one after the other.
pub(crate) fn account(balance: &mut Balance, actions: &ActionLog) {
    if actions.refused_by_restarts.is_empty() {
        return;
    }
    let refused = actions.refused_by_restarts.iter().sum();
    balance.line("rolling restart of the brokers", "attempts not answered 2xx", refused, 0);
}

fn name_of(broker: usize) -> String {
    format!("{BROKER} {}", broker + 1)
}

/// Whether a member runs all the time.
fn is_regular(member: Member) -> bool {
    member.number <= members_of(member.service)
}

impl std::fmt::Display for ActionLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |counts: &BTreeMap<&str, u32>| {
            let each: Vec<String> = counts.iter().map(|(what, n)| format!("{what} {n}")).collect();
            each.join(", ")
        };
        writeln!(f, "  SIGKILL: {}", list(&self.kills))?;
        writeln!(f, "  SIGTERM: {}", list(&self.leaves))?;
        writeln!(f, "  SIGSTOP: {}", list(&self.freezes))?;
        let outages: Vec<String> = self
            .outages
            .iter()
            .map(|Outage { what, seconds }| {
                format!("{what} {}", Seconds(Duration::from_secs_f64(*seconds)))
            })
            .collect();
        writeln!(f, "  down or frozen: {}", outages.join(", "))?;
        let full: Vec<String> = self.full_disks.iter().map(ToString::to_string).collect();
        write!(f, "  disk full: {}", full.join(", "))
    }
}
