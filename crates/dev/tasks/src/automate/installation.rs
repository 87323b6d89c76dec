//! Kafka with the topics of one run, and the members of `automate` that read them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use devstack::{Dirs, Kafka};
use kafka::{Connection, OwnedRecord, TopicSettings, inspect};
use record::Topics;

use super::receiver::Receiver;
use super::rules;
use crate::pipeline::{await_ready, free_address};
use crate::run_name::RunName;
use crate::supervisor::{Member, Plan, Supervisor};

/// The partitions of topics keyed by recipient, and of those keyed by scope.
pub(super) const PARTITIONS: (i32, i32) = (3, 2);
/// How many requests a member has open to one receiver at the same time. It is small, so that few deliveries are a backlog
/// for the slow endpoint.
pub(super) const CONCURRENT: usize = 2;
/// The retention of the topics of dedupe, which stay empty.
const HORIZON_HOURS: u32 = 9 * 24;
/// How long the stages may take to read what is written. The slow endpoint has a backlog meanwhile.
const DEADLINE: Duration = Duration::from_secs(180);
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
/// A transaction becomes visible on one partition after the other, so the ends of topics must stay the same for this time.
const SETTLED_FOR: Duration = Duration::from_secs(1);

const SERVICE: &str = "automate";
const MATCH: &str = "automate-match";
const LIMIT: &str = "automate-limit";
const DELIVER: &str = "automate-deliver";

/// The topics of a run and its members. Dropping it stops them.
pub(super) struct Installation {
    pub(super) connection: Connection,
    pub(super) topics: Topics,
    pub(super) supervisor: Supervisor,
    /// The admin addresses.
    members: BTreeMap<Member, String>,
    /// The directory of the logs.
    pub(super) logs: PathBuf,
}

impl Installation {
    /// Creates the topics, starts the members, and returns when they are ready.
    pub(super) fn start(
        dirs: &Dirs,
        kafka: &Kafka,
        name: &RunName,
        members: u8,
        receiver: &Receiver,
    ) -> anyhow::Result<Self> {
        let connection = Connection {
            bootstrap: kafka.bootstrap().to_owned(),
            instance: "automate-task".to_owned(),
            compression: "lz4".to_owned(),
            ..Connection::default()
        };
        let topics = Topics::new(&name.kafka_prefix);
        let (recipient_partitions, scope_partitions) = PARTITIONS;
        TopicSettings { recipient_partitions, scope_partitions, replication: 1, create: true }
            .prepare(&connection, &topics, HORIZON_HOURS)?;
        let logs = dirs.run.join(format!("members-{members}"));
        std::fs::create_dir_all(&logs)?;
        let config = logs.join("mailpulse.toml");
        std::fs::write(&config, settings(&connection.bootstrap, name, members, receiver))?;
        let supervisor = Supervisor::new();
        let mut admins = BTreeMap::new();
        for number in 1..=members {
            let (member, admin) = (Member { service: SERVICE, number }, free_address()?);
            supervisor.add(plan(member, &admin, &dirs.run.join("bin"), &config, &logs)?, true);
            admins.insert(member, admin);
        }
        let installation = Self { connection, topics, supervisor, members: admins, logs };
        installation.await_ready()?;
        Ok(installation)
    }

    pub(super) fn await_ready(&self) -> anyhow::Result<()> {
        await_ready(&self.members, &self.logs)
    }

    pub(super) fn members(&self) -> Vec<Member> {
        self.members.keys().copied().collect()
    }

    /// Returns the committed records of a topic by partition and offset.
    pub(super) fn read(&self, topic: &str) -> anyhow::Result<Vec<OwnedRecord>> {
        Ok(inspect::committed_records(&self.connection, topic, READ_TIMEOUT)?)
    }

    /// Returns how many records of `mail.events` were read.
    pub(super) fn matched(&self) -> anyhow::Result<i64> {
        let (group, topic) = (self.topics.group(MATCH), &self.topics.events);
        let committed = inspect::committed_offsets(&self.connection, &group, topic, PARTITIONS.0)?;
        Ok(committed.into_iter().flatten().map(|(offset, _)| offset).sum())
    }

    /// Waits until more of `mail.events` was read than `read`, as [`Self::matched`] returns it.
    pub(super) fn await_progress(&self, read: i64) -> anyhow::Result<()> {
        await_that("a member reads mail.events", || Ok(self.matched()? > read))
    }

    /// Waits until everything that follows from `mail.events` is decided, and segments are known to the match stage.
    pub(super) fn await_decided(&self) -> anyhow::Result<()> {
        let Topics { events, intents, actions, segments, .. } = &self.topics;
        let mut settled = (Vec::new(), Vec::new());
        await_that("the ends of mail.intents and mail.actions stay the same", || {
            self.await_read(MATCH, events, PARTITIONS.0)?;
            let intents = self.await_read(LIMIT, intents, PARTITIONS.1)?;
            let ends = (intents, self.ends(actions, PARTITIONS.0)?);
            if ends == settled {
                return Ok(true);
            }
            settled = ends;
            std::thread::sleep(SETTLED_FOR);
            Ok(false)
        })?;
        // The limit stage writes them in the same transactions as actions.
        self.await_read(MATCH, segments, PARTITIONS.0).map(drop)
    }

    /// Waits until every action of `mail.actions` is delivered.
    pub(super) fn await_delivered(&self) -> anyhow::Result<()> {
        self.await_read(DELIVER, &self.topics.actions, PARTITIONS.0).map(drop)
    }

    /// Waits until a stage has read everything of a topic. Returns the ends of its partitions.
    fn await_read(&self, stage: &str, topic: &str, partitions: i32) -> anyhow::Result<Vec<i64>> {
        let (group, ends) = (self.topics.group(stage), self.ends(topic, partitions)?);
        await_that(&format!("{stage} has read {topic}"), || {
            Ok(inspect::first_behind(&self.connection, &group, topic, &ends)?.is_none())
        })?;
        Ok(ends)
    }

    fn ends(&self, topic: &str, partitions: i32) -> anyhow::Result<Vec<i64>> {
        Ok(inspect::after_last_records(&self.connection, topic, partitions, READ_TIMEOUT)?)
    }
}

/// Waits until a condition holds. Kafka may fail to answer meanwhile, for example while a coordinator moves.
pub(super) fn await_that(
    what: &str,
    mut holds: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let problem = match holds() {
            Ok(true) => return Ok(()),
            Ok(false) => None,
            Err(error) => Some(error),
        };
        if began.elapsed() >= DEADLINE {
            let late = anyhow!(
                "this has not happened after {DEADLINE:?}: {what}; see the logs of automate"
            );
            return Err(problem.map_or(late, |error| error.context(what.to_owned())));
        }
        std::thread::sleep(POLL);
    }
}

fn settings(bootstrap: &str, name: &RunName, members: u8, receiver: &Receiver) -> String {
    let (recipient, scope) = PARTITIONS;
    // Under the classic protocol a member that was killed gets its partitions back as soon as it is back. Under the
    // newest one the others get them when its session has expired, for which a single member would wait every time.
    let protocol = if members == 1 { "classic" } else { "auto" };
    format!(
        "[kafka]\nbootstrap = {bootstrap:?}\nprefix = {:?}\ngroup_protocol = {protocol:?}\n\
         [topics]\nrecipient_partitions = {recipient}\nscope_partitions = {scope}\nreplication = 1\n\
         [automate]\nallow_private = true\nretry_min = \"50ms\"\nretry_max = \"500ms\"\ntimeout = \"30s\"\n\
         concurrent = {CONCURRENT}\n{}",
        name.kafka_prefix,
        rules::section(&receiver.address),
    )
}

/// Returns how to start a member, with its own working directory.
fn plan(
    member: Member,
    admin: &str,
    binaries: &Path,
    config: &Path,
    logs: &Path,
) -> anyhow::Result<Plan> {
    let directory = logs.join(member.to_string());
    std::fs::create_dir_all(&directory)?;
    Ok(Plan {
        member,
        binary: binaries.join(SERVICE),
        config: config.to_owned(),
        environment: vec![("MAILPULSE__AUTOMATE__ADMIN".to_owned(), admin.to_owned())],
        directory,
        log: logs.join(format!("{member}.log")),
    })
}
