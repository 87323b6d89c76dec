//! `cargo xtask automate`: whether `automate` decides exactly once and delivers at least once, while its members are
//! killed. See docs/automation.md.
//!
//! Kafka and the members are real. This program writes `mail.events` as dedupe does, with virtual times of receipt,
//! because no stage reads a clock, and receives what is delivered. Then it compares all of it with a model of the rules
//! and with an offline recomputation.

mod compare;
mod feed;
mod installation;
mod log;
mod model;
mod receiver;
mod recompute;
mod rules;
mod run;
mod traffic;

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{anyhow, ensure};
use devstack::{Dirs, Kafka};

use self::installation::Installation;
use self::log::Log;
use self::receiver::Receiver;
use self::run::Run;
use crate::binaries;
use crate::chaos::{Balance, keep_logs};
use crate::phase::Phase;
use crate::pipeline::report;
use crate::run_name::RunName;

/// The fewest kills with which every rule is exercised: the virtual time of a run grows with them.
const SHORT_KILLS: u64 = 3;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The number of members of each run. The runs are made at the same time.
    #[arg(long, value_delimiter = ',', default_value = "1,3", value_parser = clap::value_parser!(u8).range(1..=9))]
    members: Vec<u8>,
    /// How often members are killed with SIGKILL in each run. There are more events, too.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(SHORT_KILLS..=1_000))]
    kills: u64,
    /// Kill members three times in each run.
    #[arg(long, conflicts_with = "kills")]
    short: bool,
    /// The seed of the events and of the moments of the kills.
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

impl Arguments {
    /// The run of `cargo xtask test`.
    pub(crate) fn short() -> Self {
        Self { members: vec![1, 3], kills: SHORT_KILLS, short: true, seed: 7 }
    }
}

/// Makes the runs at the same time, prints what was expected and found, and fails on any difference.
pub(crate) fn automate(arguments: &Arguments) -> anyhow::Result<()> {
    let began = Instant::now();
    let kills = if arguments.short { SHORT_KILLS } else { arguments.kills };
    println!("seed {}, {kills} kills in each run", arguments.seed);
    let phase = Phase::begin("starting Kafka", "10 s");
    let dirs = Dirs::new()?;
    let kafka = Kafka::start(&dirs)?;
    report("Kafka", kafka.bootstrap(), kafka.kind());
    binaries::link_into(&dirs.run.join("bin"))?;
    drop(phase);
    let phase = Phase::begin("killing members while events arrive", "--short 95 s, else 3 min");
    let (name, kills) = (RunName::new("automate"), usize::try_from(kills)?);
    let sizes: BTreeSet<u8> = arguments.members.iter().copied().collect();
    // A run waits for most of its time: for sessions of killed members to expire, and for the slow endpoint.
    let differences = std::thread::scope(|scope| {
        let play = |members| {
            let (dirs, kafka, name) = (&dirs, &kafka, name.part(&format!("{members}")));
            scope.spawn(move || play(dirs, kafka, &name, (members, arguments.seed, kills)))
        };
        let runs: Vec<_> = sizes.into_iter().map(play).collect();
        runs.into_iter()
            .map(|run| run.join().map_err(|_| anyhow!("a run panicked; see above"))?)
            .sum::<anyhow::Result<usize>>()
    })?;
    drop(phase);
    println!("took {:.0} s", began.elapsed().as_secs_f64());
    ensure!(differences == 0, "{differences} lines differ from what is expected");
    println!("every decision and every delivery is as expected");
    Ok(())
}

/// Makes a run. Returns the number of lines that differ.
fn play(
    dirs: &Dirs,
    kafka: &Kafka,
    name: &RunName,
    (members, seed, kills): (u8, u64, usize),
) -> anyhow::Result<usize> {
    let receiver = Receiver::start()?;
    let installation = Installation::start(dirs, kafka, name, members, &receiver)?;
    let mut balance = Balance::default();
    let mut run = Run::new(&installation, &receiver, (seed, kills))?;
    let compared = run.play(&mut balance).and_then(|()| {
        let (log, deliveries) = (Log::read(&installation)?, receiver.deliveries());
        run.progress("the topics are read, and are compared now");
        compare::compare(&mut balance, &log, &deliveries)?;
        run.progress("everything is compared");
        Ok(format!(
            "{} processes killed, {} events, {} intents, {} actions, {} requests",
            run.killed,
            run.feed.events,
            log.intents.len(),
            log.actions.len(),
            deliveries.len()
        ))
    });
    if compared.is_err() || !balance.is_balanced() {
        let kept = keep_logs(&format!("automate-{members}"), &installation.logs)?;
        eprintln!("the logs are in {}", kept.display());
    }
    // Everything is delivered, so nothing is lost, and members that stop in order take seconds.
    installation.supervisor.set_wanted(|_| true, false);
    installation.supervisor.kill_where(|_| true)?;
    println!("\nmembers: {members}; {}\n{balance}", compared?);
    Ok(balance.0.iter().filter(|line| line.found != line.expected).count())
}
