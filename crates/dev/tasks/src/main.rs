//! The tasks of `cargo xtask`, which compiles the workspace and then starts this program.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]
#![allow(clippy::disallowed_methods, reason = "it generates events that happen now")]

mod acting;
mod automate;
mod bench;
mod binaries;
mod chaos;
mod check;
mod clickhouse;
mod day;
mod demo;
mod dist;
mod lag;
mod noise;
mod phase;
mod pipeline;
mod predict;
mod progress;
mod questions;
mod raw_feed;
mod readers;
mod recording;
mod run_name;
mod scrape;
mod suite;
mod supervisor;
mod truth;
mod verify_alerts;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The tasks of the Mailpulse repository")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Start everything, post signed webhooks of all thirteen providers, and compare what arrives in
    /// ClickHouse with the known truth. Keeps running until Ctrl-C.
    Demo(demo::Arguments),
    /// Start everything without traffic. Keeps running until Ctrl-C.
    Up,
    /// Measure each service alone, then all of them together.
    Bench(bench::Arguments),
    /// Kill, freeze and stop everything by a seeded schedule while mail flows, and prove that no event,
    /// sum, window or alert is affected.
    Chaos(chaos::Arguments),
    /// Run an installation, stop it in the middle of its work, and pack what it leaves on its disks.
    Record(recording::RecordArguments),
    /// Start the services on recorded installations of earlier releases, and compare the results.
    Upgrade(recording::UpgradeArguments),
    /// Post mail of which everything is known, and compare every metric with the truth.
    Truth(truth::Arguments),
    /// Send mail of which everything is known, and compare the answers to the questions of docs/analysts.md with
    /// the truth.
    Questions(questions::Arguments),
    /// Play a scripted day of mail in virtual time, and compare what people are told with the expectation.
    Day(day::Arguments),
    /// Simulate healthy senders for many days, and count the false episodes of each rule about rates.
    Noise(noise::Arguments),
    /// Simulate recipients of whom everything is known, and score the predictions about them.
    Predict(predict::Arguments),
    /// Kill members of automate while events arrive, and compare what it decides and delivers with a model.
    Automate(automate::Arguments),
    /// Pack a release: programs, completions, man pages, units, configuration, schemas, licences and a list of components.
    Dist(dist::Arguments),
    /// Run all tests on real Kafka and ClickHouse, and then short forms of chaos, truth, day and questions.
    Test(suite::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Demo(arguments) => demo::demo(&arguments),
        Task::Up => demo::up(),
        Task::Bench(arguments) => bench::bench(&arguments),
        Task::Chaos(arguments) => chaos::chaos(&arguments),
        Task::Record(arguments) => recording::record(&arguments),
        Task::Upgrade(arguments) => recording::upgrade(&arguments),
        Task::Truth(arguments) => truth::truth(&arguments),
        Task::Questions(arguments) => questions::questions(&arguments),
        Task::Day(arguments) => day::day(&arguments),
        Task::Noise(arguments) => noise::noise(&arguments),
        Task::Predict(arguments) => predict::predict(&arguments),
        Task::Automate(arguments) => automate::automate(&arguments),
        Task::Dist(arguments) => dist::dist(&arguments),
        Task::Test(arguments) => suite::test(&arguments),
    }
}
