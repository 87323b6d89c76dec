//! Carries the schedule out.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use super::action::{Action, Seconds};
use super::full_disk::{FullDisk, fill};
use super::progress::Progress;
use super::schedule::{Schedule, Step, members_of};
use crate::check;
use crate::pipeline::Pipeline;
use crate::supervisor::Member;

/// The deduplication window of a table whose server is to forget: its last insert alone.
const FORGETFUL: u32 = 1;
/// The one of schemas/clickhouse.
const MINDFUL: u32 = 10_000;
/// How long tables stay forgetful after ClickHouse is back, and then how long they get to learn the
/// tokens of new inserts before anybody relies on them: several inserts of each partition.
const SOME_INSERTS: Duration = Duration::from_secs(4);
/// Traffic goes on for so long after the last action.
const CALM: Duration = Duration::from_secs(4);

/// What was done.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Deeds {
    /// SIGKILLs by binary, servers included.
    pub(crate) kills: BTreeMap<&'static str, u32>,
    /// SIGTERMs by binary.
    pub(crate) leaves: BTreeMap<&'static str, u32>,
    /// SIGSTOPs by binary.
    pub(crate) freezes: BTreeMap<&'static str, u32>,
    pub(crate) outages: Vec<Outage>,
    pub(crate) full_disks: Vec<FullDisk>,
}

/// Something was away, or stood still.
#[derive(Debug, Serialize)]
pub(crate) struct Outage {
    pub(crate) what: String,
    /// Until it answered again, where that was waited for.
    pub(crate) seconds: f64,
}

const KAFKA: &str = "Kafka";
const CLICKHOUSE: &str = "ClickHouse";

/// Does it all, one action after the other; everything runs again afterwards.
pub(crate) fn carry_out(
    pipeline: &mut Pipeline,
    schedule: &Schedule,
    progress: &Progress,
) -> anyhow::Result<Deeds> {
    let mut stage = Stage { pipeline, progress, deeds: Deeds::default() };
    for (number, Step { rest, action }) in schedule.0.iter().enumerate() {
        sleep(*rest);
        progress.began(number + 1, action);
        stage.act(action).with_context(|| action.to_string())?;
        progress.ended();
    }
    sleep(CALM);
    Ok(stage.deeds)
}

struct Stage<'a> {
    pipeline: &'a mut Pipeline,
    progress: &'a Progress,
    deeds: Deeds,
}

impl Stage<'_> {
    fn act(&mut self, action: &Action) -> anyhow::Result<()> {
        match action {
            Action::Kill(member) => self.kill(|other| other == *member),
            Action::KillTogether(members) => self.kill(|member| members.contains(&member)),
            Action::Storm { members, every } => members.iter().try_for_each(|member| {
                self.kill(|other| other == *member)?;
                sleep(*every);
                Ok(())
            }),
            Action::Lose { member, away } => self.outage(member.to_string(), |stage| {
                stage.pipeline.supervisor.want(|other| other == *member, false);
                stage.kill(|other| other == *member)?;
                sleep(*away);
                stage.pipeline.supervisor.want(|other| other == *member, true);
                Ok(())
            }),
            Action::Leave { member, away } => self.outage(member.to_string(), |stage| {
                stage.leave(*member)?;
                sleep(*away);
                stage.pipeline.supervisor.want(|other| other == *member, true);
                Ok(())
            }),
            Action::Join { member, staying } => {
                self.pipeline.supervisor.want(|other| other == *member, true);
                sleep(*staying);
                self.leave(*member)
            }
            Action::Freeze { member, lasting } => self.outage(member.to_string(), |stage| {
                stage.count_freeze(member.service);
                stage.pipeline.supervisor.freeze(*member)?;
                sleep(*lasting);
                stage.pipeline.supervisor.thaw(*member)
            }),
            Action::KafkaCrash { away } => self.outage(KAFKA.to_owned(), |stage| {
                stage.kill_kafka()?;
                sleep(*away);
                Ok(stage.pipeline.kafka.restart()?)
            }),
            Action::FullDisk { lasting } => self.outage(KAFKA.to_owned(), |stage| {
                stage.kill_kafka()?;
                stage.deeds.full_disks.push(fill(stage.pipeline, *lasting)?);
                Ok(stage.pipeline.kafka.restart()?)
            }),
            Action::ClickHouseCrash { away } => self.outage(CLICKHOUSE.to_owned(), |stage| {
                stage.kill_clickhouse()?;
                sleep(*away);
                Ok(stage.pipeline.clickhouse.restart()?)
            }),
            Action::ClickHouseForgets { away } => self.forget(*away),
            Action::ClickHouseFreeze { lasting } => self.outage(CLICKHOUSE.to_owned(), |stage| {
                stage.count_freeze(CLICKHOUSE);
                stage.pipeline.clickhouse.freeze()?;
                sleep(*lasting);
                Ok(stage.pipeline.clickhouse.thaw()?)
            }),
            Action::Blackout { away } => self.blackout(*away),
        }
    }

    /// See [`Action::ClickHouseForgets`]. An archive reads the window when it starts, so a table must
    /// never remember less than the archives that run believe; and a window that was widened is not
    /// full at once.
    fn forget(&mut self, away: Duration) -> anyhow::Result<()> {
        let archives = |member: Member| member.service == "archive";
        self.set_window(FORGETFUL)?;
        self.outage(CLICKHOUSE.to_owned(), |stage| {
            stage.pipeline.supervisor.want(archives, false);
            stage.kill(archives)?;
            stage.kill_clickhouse()?;
            sleep(away);
            Ok(stage.pipeline.clickhouse.restart()?)
        })?;
        self.pipeline.supervisor.want(is_regular, true);
        sleep(SOME_INSERTS);
        self.set_window(MINDFUL)?;
        sleep(SOME_INSERTS);
        for number in 1..=members_of("archive") {
            let member = Member { service: "archive", number };
            self.leave(member)?;
            self.pipeline.supervisor.want(|other| other == member, true);
        }
        Ok(())
    }

    fn blackout(&mut self, away: Duration) -> anyhow::Result<()> {
        self.outage("everything".to_owned(), |stage| {
            stage.pipeline.supervisor.want(|_| true, false);
            stage.kill_kafka()?;
            stage.pipeline.kafka.kill_all()?;
            stage.kill(|_| true)?;
            stage.kill_clickhouse()?;
            sleep(away);
            // In no order, as after a power cut: services must wait for their servers.
            stage.pipeline.supervisor.want(is_regular, true);
            stage.pipeline.kafka.restart()?;
            Ok(stage.pipeline.clickhouse.restart()?)
        })
    }

    fn outage(
        &mut self,
        what: String,
        act: impl FnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        act(self)?;
        self.progress.outage();
        let seconds = (began.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        self.deeds.outages.push(Outage { what, seconds });
        Ok(())
    }

    fn kill(&mut self, whom: impl Fn(Member) -> bool) -> anyhow::Result<()> {
        for member in self.pipeline.supervisor.kill_those(whom)? {
            *self.deeds.kills.entry(member.service).or_default() += 1;
            self.progress.kill();
        }
        Ok(())
    }

    fn kill_kafka(&mut self) -> anyhow::Result<()> {
        *self.deeds.kills.entry(KAFKA).or_default() += 1;
        self.progress.kill();
        Ok(self.pipeline.kafka.kill()?)
    }

    fn kill_clickhouse(&mut self) -> anyhow::Result<()> {
        *self.deeds.kills.entry(CLICKHOUSE).or_default() += 1;
        self.progress.kill();
        Ok(self.pipeline.clickhouse.kill()?)
    }

    fn leave(&mut self, member: Member) -> anyhow::Result<()> {
        *self.deeds.leaves.entry(member.service).or_default() += 1;
        self.pipeline.supervisor.stop(member)
    }

    fn count_freeze(&mut self, what: &'static str) {
        *self.deeds.freezes.entry(what).or_default() += 1;
    }

    /// Of every table that has one.
    fn set_window(&self, window: u32) -> anyhow::Result<()> {
        let url = self.pipeline.clickhouse.url().to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let tables = check::text(
                &url,
                "SELECT name FROM system.tables WHERE database = 'mailpulse' \
                 AND engine_full LIKE '%non_replicated_deduplication_window%'",
            );
            for table in tables.await?.lines() {
                let sql = format!(
                    "ALTER TABLE mailpulse.{table} \
                     MODIFY SETTING non_replicated_deduplication_window = {window}"
                );
                check::text(&url, &sql).await?;
            }
            Ok(())
        })
    }
}

/// One of those that run all the time.
fn is_regular(member: Member) -> bool {
    member.number <= members_of(member.service)
}

impl std::fmt::Display for Deeds {
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
        writeln!(f, "  away or frozen: {}", outages.join(", "))?;
        let full: Vec<String> = self.full_disks.iter().map(ToString::to_string).collect();
        write!(f, "  disk full: {}", full.join(", "))
    }
}
